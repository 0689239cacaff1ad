"""Pictures of what a directory of shards holds: records with their names, band by band, and how often each class is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .errors import DataError
from .manifest import Band, Feature, Manifest
from .pictures import composite, stretch

LOW, HIGH = 2, 98  # percentiles
_COLUMNS = 4  # bands beside each other
_CODES = 8  # of a map that are named
# Okabe and Ito's hues ("Color Universal Design", 2008), which colour-blind readers tell apart.
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def labels_of(record: dict[str, Any], known: Manifest) -> list[str]:
    """Returns the class names of a record."""
    return [known.nomenclature.classes[index] for index in np.flatnonzero(record["labels"])]


def patches(records: Sequence[dict[str, Any]], known: Manifest) -> Figure:
    """Draws records, one a row, in each of the manifest's combinations of bands.

    Raises:
        DataError: the manifest names no combination.
    """
    if not known.display:
        raise DataError("the manifest names no bands to show as a picture")
    columns, rows = len(known.display), len(records)
    figure = Figure(figsize=(max(4.0 * columns, 7), 4.6 * rows + 0.5), layout="constrained")
    for part, record in zip(np.atleast_1d(figure.subfigures(rows, 1)), records):
        _title(part, record, known)
        grid = np.atleast_1d(part.subplots(1, columns))
        for axes, (name, bands) in zip(grid, known.display.items()):
            pixels = stretch(composite(record, known.features, bands), LOW, HIGH)
            _image(axes, pixels if len(bands) == 3 else pixels[..., 0])
            axes.set_title(f"{name}: {', '.join(bands)}", fontsize=10)
    how = f"Each channel is stretched from its {LOW}nd to its {HIGH}th percentile. Pixels: {known.origin}."
    figure.supxlabel(how, fontsize=8)
    return figure


def bands(records: Sequence[dict[str, Any]], known: Manifest) -> Figure:
    """Draws every band of records in grey, by wavelength, those without one after them, then maps in colours."""
    layers = [(feature, band) for feature in known.features for band in feature.bands]
    layers.sort(key=lambda pair: pair[1].wavelength or np.inf)
    maps = [feature for feature in known.features if not feature.bands]
    rows = -(-(len(layers) + 2 * len(maps)) // _COLUMNS)
    figure = Figure(figsize=(2.4 * _COLUMNS, (2.75 * rows + 0.7) * len(records) + 0.4), layout="constrained")
    for part, record in zip(np.atleast_1d(figure.subfigures(len(records), 1)), records):
        _title(part, record, known)
        grid = part.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (feature, band) in zip(grid, layers):
            _band(axes, record[feature.name], feature, band)
        for axes, beside, feature in zip(grid[len(layers) :: 2], grid[len(layers) + 1 :: 2], maps):
            _map(axes, beside, record[feature.name], feature, known)
    how = f"Black and white: {LOW}nd and {HIGH}th percentile of the band, given above it. Pixels: {known.origin}."
    figure.supxlabel(how, fontsize=8)
    return figure


def classes(known: Manifest) -> Figure:
    """Draws how many records of each split carry each class, most frequent first, on a logarithmic scale.

    Raises:
        DataError: there are no records.
    """
    counts = np.array([split.label_counts for split in known.splits.values()], int)
    if not counts.sum():
        raise DataError("there are no labels to count")
    order = np.argsort(-counts.sum(0), kind="stable")
    total, records = counts.sum(0)[order], sum(split.records for split in known.splits.values())
    names = [textwrap.fill(known.nomenclature.classes[index], 48) for index in order]
    figure = Figure(figsize=(8.5, 0.255 * len(names) + 1.5), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    for number, (name, row) in enumerate(zip(known.splits, counts)):
        there = row[order] > 0
        lane = places[there] + 0.25 * (number - (len(counts) - 1) / 2)  # equal counts do not hide each other
        mark = "os^D"[number % 4]
        axes.plot(row[order][there], lane, mark, color=_HUES[number % 4], markersize=4.5, label=name)
    axes.set_xscale("log")
    axes.set_xlim(0.7, counts.max() * 1.6)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}" if counts.max() < 10 else "")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(places, names, fontsize=7.5, linespacing=1.1)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("records that carry the class", fontsize=9)
    shares = axes.secondary_yaxis("right")
    shares.set_yticks(places, [_share(count, records) for count in total], fontsize=8)
    shares.tick_params(length=0)
    shares.spines["right"].set_visible(False)
    axes.legend(loc="lower right", fontsize=9, framealpha=1)
    figure.suptitle(f"{known.nomenclature.name}: {_imbalance(total, records)}", fontsize=10)
    figure.supxlabel(f"Right: share of all records of all splits. Pixels: {known.origin}.", fontsize=8)
    return figure


def _title(part: Any, record: dict[str, Any], known: Manifest) -> None:
    labels = textwrap.fill("; ".join(labels_of(record, known)) or "no label", 90)
    part.suptitle(f"{record['name']}\n{labels}", fontsize=9)


def _image(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _band(axes: Axes, array: np.ndarray, feature: Feature, band: Band) -> None:
    layer = array[..., feature.band_names.index(band.name)]
    ends = np.nanpercentile(layer, (LOW, HIGH))
    _image(axes, stretch(layer[..., None], LOW, HIGH)[..., 0])
    wavelength = f", {band.wavelength:g} nm" if band.wavelength else ""
    low, high = (f"{value:,.0f}" if layer.dtype.kind in "iu" else f"{value:.1f}" for value in ends)
    axes.set_title(f"{band.name}{wavelength}, {feature.gsd} m\n{low} to {high}", fontsize=9)


def _map(axes: Axes, beside: Axes, array: np.ndarray, feature: Feature, known: Manifest) -> None:
    """Draws a map of codes, and beside it the most frequent with the class that they belong to."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    names = {
        code: name
        for name, codes in zip(known.nomenclature.classes, known.nomenclature.codes)
        for code in codes
    }
    codes, numbers, counts = np.unique(array, return_inverse=True, return_counts=True)
    colours = colormaps["tab20"](np.arange(len(codes)) % 20)[:, :3]
    axes.imshow(colours[numbers.reshape(array.shape)], interpolation="nearest")
    axes.set_title(f"{feature.name}, {feature.gsd} m", fontsize=9)
    handles = [
        Patch(color=colours[i], label=textwrap.fill(f"{codes[i]} {names.get(int(codes[i]), 'no class')}", 32))
        for i in np.argsort(-counts, kind="stable")[:_CODES]
    ]
    legend = beside.legend(handles=handles, loc="upper left", fontsize=8, frameon=False, borderaxespad=0)
    legend.set_in_layout(False)


def _share(count: int, records: int) -> str:
    share = 100 * count / records
    return "none" if not count else f"{share:.1f} %" if share >= 1 else f"{share:.2g} %"


def _imbalance(total: np.ndarray, records: int) -> str:
    """Says how unequal the classes are, from counts in falling order."""
    there = total[total > 0]
    absent = f", {len(total) - len(there)} never" if len(there) < len(total) else ""
    labels = total.sum() / records
    return (
        f"{len(total)} classes{absent}; the most frequent occurs {there[0] / there[-1]:,.0f} times as often "
        f"as the rarest; {labels:.2f} labels a record"
    )
