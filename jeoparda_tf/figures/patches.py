"""Example patches beside their true and predicted names: the best, the typical and the worst predicted."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from tfrecords_tools import manifest as manifests
from tfrecords_tools import table, tfrecord
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest
from tfrecords_tools.pictures import composite, stretch

from ..scoring.scores import ratio
from . import style
from .evaluation import Evaluation

_EACH = 2
_MOST = 6  # names with the same mark; a poor model has dozens of false alarms
_SIDE = 1.2  # inches of a patch
_LINE = 0.158  # inches of a line of names
_MARKS = {"right": ("✓", style.GREEN), "missed": ("–", style.VERMILION), "false alarm": ("+", style.PURPLE)}


@dataclass(frozen=True)
class Example:
    """One patch to show.

    Attributes:
        kind: "best", "typical" or "worst".
        index: among the records of the split.
        name: of the patch.
        f1: of its label set.
        images: float32 [rows, columns, 3] in 0..1, by the name of the composite.
        names: (mark, class name), mark a key of `_MARKS`; within a mark the highest score first.
    """

    kind: str
    index: int
    name: str
    f1: float
    images: dict[str, np.ndarray]
    names: tuple[tuple[str, str], ...]


def sample_f1(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns float64 [patches]: F1 of each patch's label set; 0 where there is neither label nor prediction."""
    return ratio(2 * (labels & predicted).sum(1), labels.sum(1) + predicted.sum(1))


def choose(labels: np.ndarray, predicted: np.ndarray, each: int = _EACH) -> dict[str, list[int]]:
    """Picks patches by sample F1: the highest, those next to the median, the lowest.

    Among equals those with more labels come first, as they tell more, then the earlier record. None comes twice.

    Args:
        labels, predicted: bool [patches, classes].
        each: how many of each kind.
    """
    f1, richness = sample_f1(labels, predicted), -labels.sum(1)
    order = {
        "best": np.lexsort((richness, -f1)),
        "worst": np.lexsort((richness, f1)),
        "typical": np.lexsort((richness, np.abs(f1 - np.median(f1)))),
    }
    picked: dict[str, list[int]] = {"best": [], "typical": [], "worst": []}
    taken: set[int] = set()
    for kind, ranked in order.items():
        picked[kind] = [int(i) for i in ranked if int(i) not in taken][:each]
        taken.update(picked[kind])
    return picked


def examples(evaluation: Evaluation) -> tuple[list[Example], dict[str, tuple[str, ...]]]:
    """Reads the patches to show out of the shards that were evaluated.

    Returns:
        the patches, and the bands of each composite by its name.

    Raises:
        DataError: the shards are gone or damaged, or hold other records than were evaluated.
    """
    manifest = manifests.read(evaluation.data)
    rows = [row for row in table.read(evaluation.data).to_pylist() if row["split"] == evaluation.split]
    if len(rows) != len(evaluation.labels) or manifest.nomenclature.classes != evaluation.classes:
        raise _changed(evaluation)
    picked = choose(evaluation.labels, evaluation.predicted)
    f1 = sample_f1(evaluation.labels, evaluation.predicted)
    found = []
    for kind, i in ((kind, i) for kind, indices in picked.items() for i in indices):
        record = _read(evaluation.data / rows[i]["shard"], rows[i]["position"], manifest)
        if not np.array_equal(record["labels"] != 0, evaluation.labels[i]):
            raise _changed(evaluation)
        images = {
            name: stretch(composite(record, manifest.features, bands))
            for name, bands in manifest.display.items()
        }
        found.append(Example(kind, i, rows[i]["name"], float(f1[i]), images, _names(evaluation, i)))
    return found, dict(manifest.display)


def _changed(evaluation: Evaluation) -> DataError:
    return DataError(
        f"holds other {evaluation.split} records than were evaluated",
        path=evaluation.data,
        remedy=f"evaluate again: python -m jeoparda_tf.evaluate --split {evaluation.split} --workdir ...",
    )


def _read(shard: Path, position: int, manifest: Manifest) -> dict[str, np.ndarray]:
    try:
        record = next(itertools.islice(tfrecord.read_records(shard), position, None), None)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=shard) from error
    if record is None:
        raise DataError(f"has no record {position}", path=shard)
    return tfrecord.decode_example(record, manifest.features)


def _names(evaluation: Evaluation, i: int) -> tuple[tuple[str, str], ...]:
    truth, predicted = evaluation.labels[i], evaluation.predicted[i]
    groups = {"right": truth & predicted, "missed": truth & ~predicted, "false alarm": predicted & ~truth}
    ranked = np.argsort(-evaluation.scores[i], kind="stable")
    return tuple((mark, evaluation.classes[j]) for mark, those in groups.items() for j in ranked if those[j])


def draw(
    evaluation: Evaluation, shown: Sequence[Example], displays: dict[str, tuple[str, ...]]
) -> style.Picture:
    """Draws a row a patch: its composites, then its names with marks.

    Args:
        evaluation: for the note.
        shown: the patches.
        displays: bands of each composite, for its heading.
    """
    texts = [_lines(example) for example in shown]
    heights = [max(_SIDE, _LINE * (len(lines) + 1)) + 0.2 for lines in texts]
    note = (
        f"✓ right   – missed   + false alarm.   {evaluation.note}; F1: of each patch's label set (sample "
        f"F1); {evaluation.threshold_note}."
    )
    figure = style.canvas(1.3 + sum(heights), "Example patches", note)
    columns = len(displays) + 1
    widths = [*[_SIDE] * len(displays), style.WIDTH - 0.25 - _SIDE * len(displays)]
    grid = figure.subplots(
        len(shown), columns, squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": widths}
    )
    for axes, example, lines in zip(grid, shown, texts):
        for image_axes, image in zip(axes, example.images.values()):
            _image(image_axes, image)
        _write(axes[-1], example, lines)
    for axes, (name, bands) in zip(grid[0], displays.items()):
        axes.set_title(f"{name}\n{', '.join(bands)}", size=style.SMALL, color=style.INK)
    caption = (
        "The two patches with the highest F1 of their label set (of those with equal F1 the ones with most "
        "labels), two at the median and the two lowest. ✓ green: right; – orange: missed; + purple: false "
        "alarm. The record counts from 0 within the split. Each picture is stretched on its own from the "
        "2nd to the 98th percentile of each band, so brightness does not compare between patches."
    )
    return style.Picture("examples", "Example patches", caption, _alt(shown), figure)


def _image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_anchor("N")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _shortened(example: Example) -> list[tuple[str, str]]:
    """Returns the names, but of each mark only the first few, then how many more there are."""
    names = []
    for mark in _MARKS:
        same = [name for kind, name in example.names if kind == mark]
        names += [(mark, name) for name in same[:_MOST]]
        if same[_MOST:]:
            names.append((mark, f"and {len(same) - _MOST} more"))
    return names


def _lines(example: Example) -> list[tuple[str, str, str]]:
    """Returns (mark, text, colour) a line; a long name goes on in the next one without a mark."""
    lines = []
    for kind, name in _shortened(example):
        mark, colour = _MARKS[kind]
        first, *rest = textwrap.wrap(name, 30)
        lines += [(mark, first, colour), *(("", more, colour) for more in rest)]
    return lines or [("", "no label, none predicted", style.GREY)]


def _write(axes: Axes, example: Example, lines: Sequence[tuple[str, str, str]]) -> None:
    axes.set_axis_off()
    top: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    heading = f"{example.kind}: F1 {example.f1:.2f}, record {example.index}"
    axes.annotate(heading, (0, 1), (4, 0), size=style.SMALL, weight="bold", color=style.INK, **top)
    for number, (mark, text, colour) in enumerate(lines, start=1):
        drop = -72 * _LINE * number - 2
        axes.annotate(mark, (0, 1), (4, drop), size=style.SMALL, weight="bold", color=colour, **top)
        axes.annotate(text, (0, 1), (16, drop), size=style.SMALL, color=colour, **top)


def _alt(shown: Sequence[Example]) -> str:
    def words(example: Example) -> str:
        marked = ", ".join(f"{name} ({mark})" for mark, name in _shortened(example)) or "no names"
        return f"{example.kind}, F1 {example.f1:.2f}: {marked}"

    return "; ".join(words(example) for example in shown) + "."
