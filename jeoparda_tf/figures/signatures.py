"""Spectral signatures: what the patches of each class reflect, over wavelength."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tfrecords_tools import manifest as manifests
from tfrecords_tools import tfrecord
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Feature

from . import style
from .evaluation import Evaluation

_PATCHES = 1000  # that are read
_PANELS = 8
_REFLECTANCE = 10_000  # digital numbers of a reflectance of 1


@dataclass(frozen=True)
class Signatures:
    """Means and spreads in digital numbers.

    Attributes:
        wavelengths: float64 [bands] in nm, rising.
        bands: their names.
        patches: int64 [classes], patches that carry the class.
        mean: float64 [classes, bands], over those patches; NaN where there are none.
        spread: likewise, the standard deviation between the patches.
    """

    wavelengths: np.ndarray
    bands: tuple[str, ...]
    patches: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def measure(records: Iterable[Mapping[str, Any]], features: Sequence[Feature], classes: int) -> Signatures:
    """Averages each band over each patch, then over the patches that carry a class.

    Args:
        records: decoded, with their `labels`.
        features: of them; bands without a wavelength are left out.
        classes: length of the labels.
    """
    optical = [
        (band.wavelength, band.name, feature.name, index)
        for feature in features
        for index, band in enumerate(feature.bands)
        if band.wavelength is not None
    ]
    optical.sort()
    means, labels = [np.empty((0, len(optical)))], [np.empty((0, classes), bool)]
    for record in records:
        means.append(np.array([[record[key][..., index].mean() for *_, key, index in optical]]))
        labels.append(np.asarray(record["labels"])[None] != 0)
    values, present = np.concatenate(means), np.concatenate(labels)
    mean, spread = np.full((2, classes, len(optical)), np.nan)
    for number in np.flatnonzero(present.any(0)):
        own = values[present[:, number]]
        mean[number], spread[number] = own.mean(0), own.std(0)
    wavelengths = np.array([wavelength for wavelength, *_ in optical])
    return Signatures(wavelengths, tuple(name for _, name, *_ in optical), present.sum(0), mean, spread)


def read(evaluation: Evaluation) -> Signatures:
    """Measures the first 1,000 patches of the split that was evaluated; DataError where the shards are gone."""
    manifest = manifests.read(evaluation.data)
    split = manifest.split(evaluation.split, evaluation.data)
    found = (
        tfrecord.decode_example(record, manifest.features)
        for shard in split.shards
        for record in tfrecord.read_records(evaluation.data / shard.file)
    )
    try:
        return measure(islice(found, _PATCHES), manifest.features, len(manifest.nomenclature.classes))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=evaluation.data) from error


def draw(evaluation: Evaluation, signatures: Signatures) -> style.Picture:
    """Draws a panel for each of the most frequent classes: its mean, and the spread as a band around it."""
    ranked = np.argsort(-signatures.patches, kind="stable")
    shown = [int(i) for i in ranked[:_PANELS] if signatures.patches[i]]
    rows = max(-(-len(shown) // 2), 1)
    figure = style.canvas(1.2 + 1.55 * rows, "Spectral signatures", evaluation.note)
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for axes, number in zip(grid.flat, shown):
        mean, spread = (array[number] / _REFLECTANCE for array in (signatures.mean, signatures.spread))
        style.plain(axes, "both")
        axes.fill_between(
            signatures.wavelengths, mean - spread, mean + spread, color=style.BLUE, alpha=0.2, linewidth=0
        )
        axes.plot(signatures.wavelengths, mean, "o-", color=style.BLUE, markersize=3, linewidth=1.2)
        # The number stays with the last word of the name, by a space that does not break.
        label = f"{evaluation.classes[number]},\u00a0{signatures.patches[number]:,}"
        axes.set_title(style.wrapped(label, 29, 4), size=style.SMALL, color=style.INK, loc="left")
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    figure.supylabel("reflectance", size=style.NORMAL, color=style.INK)
    for axes in grid.flat[max(len(shown) - 2, 0) : len(shown)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("wavelength in nm")
    total = len(evaluation.labels)
    part = (
        f"the first {_PATCHES:,} of the split's {total:,} patches"
        if total > _PATCHES
        else "all patches of the split"
    )
    caption = (
        f"Mean reflectance of {len(signatures.bands)} bands by wavelength, for the {len(shown)} most frequent "
        f"classes among {part}, with how many patches carry each. The shade is a standard deviation between "
        "patches. A patch carries several classes, and counts for each as a whole."
    )
    alt = (
        f"Curves of reflectance over wavelength for {len(shown)} classes, first {evaluation.classes[shown[0]]}."
        if shown
        else "No class."
    )
    return style.Picture("signatures", "Spectral signatures", caption, alt, figure)
