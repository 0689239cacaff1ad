"""F1 of every class: against its support, and as bars with full names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from . import style
from .evaluation import Evaluation

# Where a name may stand: offset from its point in points, and how it is aligned.
_PLACES = (
    (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"), (0, -6, "center", "top"),
    (5, 4, "left", "bottom"), (5, -4, "left", "top"), (-5, 4, "right", "bottom"), (-5, -4, "right", "top"),
)  # fmt: skip


def against_support(evaluation: Evaluation) -> style.Picture:
    """Draws F1 over the number of patches of each class, and names as many points as can be read."""
    scores = evaluation.result
    seen = np.flatnonzero(scores.support)
    support, f1 = scores.support[seen], scores.f1[seen]
    figure = style.canvas(5.4, "F1 of each class against its support", _note(evaluation))
    axes = style.plain(figure.add_subplot(), "both")
    axes.plot(
        support, f1, "o", color=style.BLUE, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6
    )
    axes.set(
        xscale="log",
        xlabel=f"patches of the {evaluation.split} split that carry the class (log)",
        ylabel="F1",
    )
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlim(support.min() / 1.5, support.max() * 1.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    mean = scores.macro_occurring.f1
    line = axes.axhline(mean, color=style.VERMILION, linewidth=1.2, linestyle="--")
    axes.text(
        0.995, mean + 0.008, f"mean {mean:.3f}", transform=axes.get_yaxis_transform(),
        ha="right", size=style.SMALL, color=style.VERMILION,
    )  # fmt: skip
    named = _name_points(
        figure, axes, line, np.column_stack([support, f1]), [evaluation.classes[i] for i in seen]
    )
    caption = (
        f"Each point is a class: its F1, with {evaluation.threshold_note}, over the number of patches that "
        "carry it. The line is their mean: the macro F1 over the classes that occur."
    )
    if named < len(seen):
        caption += f" {len(seen) - named} names would not fit: the next picture has them all."
    absent = len(evaluation.classes) - len(seen)
    if absent:
        caption += (
            f" Not drawn: {absent} without a patch in this split, which count as 0 in the plain macro F1."
        )
    return style.Picture(
        "f1-against-support", "F1 against support", caption, _support_alt(evaluation, seen), figure
    )


def bars(evaluation: Evaluation) -> style.Picture:
    """Draws F1 as bars, the most frequent class on top, names and numbers beside them."""
    scores = evaluation.result
    order = np.argsort(-scores.support, kind="stable")
    names = [style.wrapped(evaluation.classes[i], 30, 3) for i in order]
    # A name of two or three lines needs more room than one of one.
    heights = np.array([1.0 + 0.65 * name.count("\n") for name in names])
    middle = np.cumsum(heights) - heights / 2
    figure = style.canvas(1.5 + 0.205 * heights.sum(), "F1 by class", _note(evaluation))
    axes = style.plain(figure.add_subplot(), "x")
    axes.barh(middle, scores.f1[order], height=0.66, color=style.BLUE)
    axes.set_yticks(middle, names)
    axes.set_ylim(heights.sum() + 0.2, -1.3)
    axes.set_xlim(0, 1.5)
    axes.set_xticks((0, 0.5, 1))
    axes.set_xlabel("F1", x=0.5 / 1.5)
    axes.tick_params(axis="y", length=0)
    small: dict[str, Any] = {"va": "center", "size": style.SMALL}
    axes.text(1.48, -0.4, "patches", ha="right", color=style.GREY, **small)
    for y, f1, support in zip(middle, scores.f1[order], scores.support[order]):
        axes.text(f1 + 0.015, y, f"{f1:.2f}" if support else "–", color=style.INK, **small)
        axes.text(1.48, y, f"{support:,}", ha="right", color=style.GREY, **small)
    caption = (
        f"F1 of each class, with {evaluation.threshold_note}; sorted by support, the number of patches of "
        "the split that carry the class (right). – marks a class that does not occur."
    )
    best = max(order, key=lambda i: scores.f1[i])
    highest = f"{evaluation.classes[best]} with {scores.f1[best]:.2f}"
    alt = f"Bars of F1 for {len(order)} classes by support; the highest is {highest}."
    return style.Picture("f1-by-class", "F1 by class", caption, alt, figure)


def _note(evaluation: Evaluation) -> str:
    return f"{evaluation.note}. F1 of each class, {evaluation.threshold_note}."


def _name_points(figure: Figure, axes: Axes, line: Line2D, points: np.ndarray, names: Sequence[str]) -> int:
    """Writes names beside points where they hide nothing, those farthest from the trend first; returns how many."""
    figure.draw_without_rendering()
    # The layout is fixed from here on: names are placed in pixels.
    figure.set_layout_engine("none")
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in pixels]
    taken += [artist.get_window_extent() for artist in (line, *axes.texts)]
    return sum(_name_point(axes, points[i], names[i], taken) for i in _by_distance_from_trend(points))


def _by_distance_from_trend(points: np.ndarray) -> np.ndarray:
    x, y = np.log(points[:, 0]), points[:, 1]
    straight = np.ptp(x) > 0
    trend = np.polyval(np.polyfit(x, y, 1), x) if straight else y.mean()
    return np.argsort(-np.abs(y - trend), kind="stable")


def _name_point(axes: Axes, point: np.ndarray, name: str, taken: list[Bbox]) -> bool:
    for dx, dy, ha, va in _PLACES:
        text = axes.annotate(
            style.wrapped(name, 22), tuple(point), (dx, dy), textcoords="offset points", ha=ha, va=va,
            size=style.SMALL, color=style.INK, linespacing=1.0, multialignment=ha,
        )  # fmt: skip
        box = text.get_window_extent().padded(1)
        inside = (
            axes.bbox.x0 < box.x0
            and box.x1 < axes.bbox.x1
            and axes.bbox.y0 < box.y0
            and box.y1 < axes.bbox.y1
        )
        if inside and not box.count_overlaps(taken):
            taken.append(box)
            return True
        text.remove()
    return False


def _support_alt(evaluation: Evaluation, seen: np.ndarray) -> str:
    scores = evaluation.result
    often, rare = seen[np.argmax(scores.support[seen])], seen[np.argmin(scores.support[seen])]
    parts = [
        f"{evaluation.classes[i]} ({scores.support[i]:,} patches): F1 {scores.f1[i]:.2f}"
        for i in (often, rare)
    ]
    axes = f"F1 of {len(seen)} classes over their support, log axis."
    return f"{axes} Most frequent: {parts[0]}; least frequent: {parts[1]}."
