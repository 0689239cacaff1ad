"""One patch before and after super-resolution: one scale down, where the truth is known, and at full scale."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfrecords_tools.manifest import Manifest
from tfrecords_tools.pictures import stretch

from ..input import pipeline
from ..models.superres import Network, sharpened
from ..training.superres_scores import at_known_scale, by_distance
from ..training.wald import pair
from . import style

# The patch is chosen among so many.
_AMONG = 64
_BANDS = {20: ("B12", "B8A", "B05"), 60: ("B09",)}
_RGB = ("B04", "B03", "B02")
# Of the patch's side, what is shown at full scale of the 20 m bands: a pixel must be seen.
_ZOOM = 0.4


class _Row(NamedTuple):
    """Images of one row, float32 [rows, columns, channels], and their headings; all in the contrast of the last."""

    label: str
    headings: tuple[str, str, str, str]
    images: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(networks: Mapping[int, Network], directory: Path, manifest: Manifest, split: str) -> style.Picture:
    """Draws the patch whose gain over bicubic, in RMSE of the 20 m bands, is the median of the split's first 64.

    Args:
        networks: by ground sampling distance.
        directory: of shards.
        manifest: of it.
        split: its name.
    """
    spec = networks[20].spec
    dataset = pipeline.for_evaluation(directory, manifest, split, spec.features, batch=8)
    batches = []
    for arrays, _, valid in itertools.islice(dataset, _AMONG // 8):
        kept = int(valid.numpy().sum())
        batches.append({gsd: array[:kept] for gsd, array in by_distance(spec, arrays).items()})
    gains = np.concatenate([_gains(networks[20], arrays) for arrays in batches])
    chosen = int(np.argsort(gains, kind="stable")[len(gains) // 2])
    patches = (
        {gsd: a[i : i + 1] for gsd, a in batch.items()} for batch in batches for i in range(len(batch[20]))
    )
    patch = next(itertools.islice(patches, chosen, None))
    rows = [_known(networks[20], patch), _known(networks[60], patch)]
    rows += [_full(networks[20], patch, _ZOOM), _full(networks[60], patch, 1.0)]
    change = 100 * gains[chosen]
    direction = "lower" if change >= 0 else "higher"
    among = f", of the first {len(gains)} the one of median gain over bicubic" if len(gains) > 1 else ""
    note = (
        f"Record {chosen} of {split}, {manifest.origin}{among}: RMSE of the 20 m bands {abs(change):.0f} % "
        f"{direction} than bicubic's. Contrast: 2nd to 98th percentile of what was "
        "measured, the same along a row but for RGB."
    )
    figure = _figure(rows, note)
    caption = (
        "Above: bands degraded by the factor that is to be learned, enlarged again, and as they were measured. Below: "
        "the same enlargement of the measured bands to 10 m, where there is no truth; beside it the 10 m bands."
    )
    alt = "; ".join(f"{row.label}: {', '.join(row.headings)}" for row in rows) + "."
    return style.Picture("superres", "Super-resolution", caption, alt, figure)


def _gains(network: Network, arrays: dict[int, Any]) -> np.ndarray:
    """Returns by which share the RMSE of each patch is lower than bicubic's, float64 [patches]."""
    truth, bicubic, ours = (part.numpy().astype(np.float64) for part in at_known_scale(network, arrays))
    theirs, own = (np.sqrt(np.square(image - truth).mean((1, 2, 3))) for image in (bicubic, ours))
    return 1 - own / np.maximum(theirs, 1e-9)


def _known(network: Network, patch: dict[int, Any]) -> _Row:
    gsd = network.gsd
    factor = gsd // 10
    size = patch[gsd].shape[1]
    spare = (size - size // factor * factor) // 2
    low = pair(patch, gsd, (spare, spare))[0][gsd]
    truth, bicubic, ours = at_known_scale(network, patch)
    headings = (
        f"degraded, {factor * gsd} m",
        f"bicubic, {gsd} m",
        f"super-resolved, {gsd} m",
        f"measured, {gsd} m",
    )
    images = tuple(_chosen(network, image) for image in (low, bicubic, ours, truth))
    return _Row(f"{', '.join(_BANDS[gsd])}, one scale down", headings, _contrasted(images, 3))


def _full(network: Network, patch: dict[int, Any], share: float) -> _Row:
    gsd = network.gsd
    bicubic, ours = sharpened(network, patch)
    names = network.spec.bands(10)
    rgb = np.asarray(patch[10])[0][..., [names.index(band) for band in _RGB]]
    images = tuple(_chosen(network, image) for image in (patch[gsd], bicubic, ours))
    headings = (f"measured, {gsd} m", "bicubic, 10 m", "super-resolved, 10 m", "RGB, 10 m")
    shown = (*_contrasted(images, 0), stretch(rgb))
    cut = tuple(image[: round(share * len(image)), : round(share * len(image))] for image in shown)
    part = "" if share == 1 else ", upper left of the patch"
    return _Row(f"{', '.join(_BANDS[gsd])}, full scale{part}", headings, cut)


def _chosen(network: Network, image: Any) -> np.ndarray:
    names = network.spec.bands(network.gsd)
    return np.asarray(image)[0][..., [names.index(band) for band in _BANDS[network.gsd]]].astype(np.float32)


def _contrasted(images: tuple[np.ndarray, ...], reference: int) -> Any:
    """Stretches all images alike, by the percentiles of one of them."""
    low, high = np.percentile(images[reference], (2, 98), axis=(0, 1))
    extent = np.where(high > low, high - low, 1)
    return tuple(np.clip((image - low) / extent, 0, 1) for image in images)


def _figure(rows: list[_Row], note: str) -> Any:
    figure = style.canvas(1.62 * len(rows) + 0.9, "Super-resolution", note)
    for part, row in zip(figure.subfigures(len(rows), 1), rows):
        part.suptitle(row.label, x=0.015, ha="left", size=style.NORMAL, color=style.INK)
        for axes, heading, image in zip(part.subplots(1, 4), row.headings, row.images):
            shown = image[..., 0] if image.shape[2] == 1 else image
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(heading.replace(", ", "\n"), size=style.SMALL, color=style.INK)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    return figure
