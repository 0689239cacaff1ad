"""Precision-recall curves of the most and least frequent classes, each beside that of all classes together."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from . import style
from .evaluation import Evaluation

_EACH = 4
_COLUMNS = 2


def curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes precision and recall with the threshold at each score, from the highest down; not interpolated.

    Args:
        labels: bool [n], at least one of them true.
        scores: float [n].

    Returns:
        recall, ascending, and precision; float64 [distinct scores].
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # equal scores share a cut
    hits = np.cumsum(labels[order])[last]
    return hits / labels.sum(), hits / (last + 1)


def chosen(support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of up to four most frequent classes, most first, and of up to four others, least first."""
    order = np.argsort(-support, kind="stable")
    order = order[support[order] > 0]
    often = order[:_EACH]
    return often, order[len(often) :][::-1][:_EACH]


def draw(evaluation: Evaluation) -> style.Picture:
    """Draws one panel a class: frequent ones left, rare ones right; grey is the micro curve."""
    scores = evaluation.result
    often, rare = chosen(scores.support)
    rows = max(len(often), len(rare))
    figure = style.canvas(
        1.2 + 1.75 * rows,
        "Precision and recall at every threshold",
        f"Grey: micro, all classes together.   {evaluation.note}.",
    )
    grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    micro = curve(evaluation.labels.ravel(), evaluation.scores.ravel())
    for column, classes in enumerate((often, rare)):
        for row in range(rows):
            axes = grid[row, column]
            if row < len(classes):
                _panel(axes, evaluation, classes[row], micro, style.BLUE if column == 0 else style.VERMILION)
            else:
                axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("recall")
    for axes in grid[:, 0]:
        axes.set_ylabel("precision")
    caption = (
        "Left, in blue, the most frequent classes of the split; right, in orange, the least frequent ones "
        "(n: patches that carry the class). Grey: all classes together (micro, all scores in one list, AP "
        f"{scores.micro.average_precision:.3f}). The dot is the threshold in use "
        f"({evaluation.threshold_note}). AP is average precision: the precision at the score of each patch "
        "that carries the class, averaged; no interpolation."
    )
    parts = [f"{evaluation.classes[i]} AP {scores.average_precision[i]:.2f}" for i in (*often, *rare)]
    alt = f"Precision-recall curves. Micro AP {scores.micro.average_precision:.2f}; {'; '.join(parts)}."
    return style.Picture("precision-recall", "Precision and recall", caption, alt, figure)


def _panel(
    axes: Axes, evaluation: Evaluation, i: int, micro: tuple[np.ndarray, np.ndarray], colour: str
) -> None:
    scores = evaluation.result
    style.plain(axes, "both")
    _steps(axes, *micro, color=style.GREY, linewidth=1, alpha=0.8)
    labels, values = evaluation.labels[:, i], evaluation.scores[:, i]
    _steps(axes, *curve(labels, values), color=colour, linewidth=1.8)
    if evaluation.predicted[:, i].any():
        axes.plot(
            scores.recall[i],
            scores.precision[i],
            "o",
            color=colour,
            markersize=7,
            markeredgecolor="white",
            clip_on=False,
            zorder=5,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    name = style.wrapped(evaluation.classes[i], 32)
    figures = f"AP {scores.average_precision[i]:.2f}   n = {scores.support[i]:,}"
    axes.set_title(f"{name}\n{figures}", size=style.SMALL, loc="left", color=style.INK, linespacing=1.15)


def _steps(axes: Axes, recall: np.ndarray, precision: np.ndarray, **line: object) -> None:
    """Draws the curve as steps from recall 0, without the points that fall on the same thousandth as the one before."""
    points = np.column_stack([np.append(0, recall), np.append(precision[0], precision)])
    moved = np.diff(np.round(1000 * points), axis=0, prepend=-1).any(axis=1)
    axes.plot(*points[moved].T, drawstyle="steps-pre", clip_on=False, **line)  # type: ignore[arg-type]  # line properties
