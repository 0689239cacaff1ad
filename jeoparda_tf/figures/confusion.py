"""Which class is wrongly predicted where another one is: confusion of classes that occur together."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from . import style
from .evaluation import Evaluation

_SHOWN = 10
# One hue from light to dark: the order survives grey printing and every kind of colour vision.
_COLOURS = LinearSegmentedColormap.from_list("blues", ["#F4F8FB", "#7FB6D9", style.BLUE, "#00324F"])


def false_alarms_given(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts how often a class is wrongly predicted where another one is.

    Args:
        labels, predicted: bool [patches, classes].

    Returns:
        shares, float64 [classes, classes]: among the patches that carry class i but not class j, the share for which j
        was predicted; NaN where there is no such patch, as on the diagonal.
        patches, int64 [classes, classes]: how many carry i but not j.
    """
    # float64 products are exact for counts below 2**53, and much faster than those of integers.
    truth, absent = labels.astype(np.float64), (~labels).astype(np.float64)
    patches = truth.T @ absent
    alarms = truth.T @ (predicted & ~labels)
    shares = np.full(patches.shape, np.nan)
    np.divide(alarms, patches, out=shares, where=patches > 0)
    return shares, patches.astype(np.int64)


def false_alarms(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns float64 [classes]: among all patches without a class the share for which it was predicted, else NaN."""
    absent = (~labels).sum(0)
    out = np.full(absent.shape, np.nan)
    return np.divide((predicted & ~labels).sum(0), absent, out=out, where=absent > 0)


def draw(evaluation: Evaluation) -> style.Picture:
    """Draws the matrix for the most frequent classes, with the share over all patches as its first row."""
    support = evaluation.result.support
    shown = np.argsort(-support, kind="stable")[:_SHOWN]
    shown = shown[support[shown] > 0]
    labels, predicted = evaluation.labels[:, shown], evaluation.predicted[:, shown]
    shares, _ = false_alarms_given(labels, predicted)
    table = 100 * np.vstack([false_alarms(labels, predicted), shares])
    names = [evaluation.classes[i] for i in shown]
    rows = [f"{style.wrapped(name, 22)} ({support[i]:,})" for name, i in zip(names, shown)]
    figure = style.canvas(
        6.4, "False alarms beside another class", f"{evaluation.note}; {evaluation.threshold_note}."
    )
    axes = figure.add_subplot()
    _cells(axes, table)
    axes.set_xticks(
        range(len(names)), [style.wrapped(name, 22) for name in names], rotation=90, linespacing=0.95
    )
    axes.set_yticks(
        [-0.25, *range(1, len(names) + 1)], [f"any patch ({len(labels):,})", *rows], linespacing=0.95
    )
    axes.tick_params(labelsize=style.SMALL, length=0, labeltop=True, labelbottom=False)
    axes.set_xlabel("class j, wrongly predicted\n(% of the patches that have i but not j)", size=style.NORMAL)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("class i, carried by the patch (patches)", size=style.NORMAL)
    caption = (
        "Row i, column j: among the patches that carry class i but not class j, the percentage for which j "
        "was predicted all the same (false alarms of j given i). The row on top is the same over all "
        f"patches without j: a cell well above it is a confusion, not a general habit. The {len(shown)} "
        "most frequent classes; a dot where there is no such patch."
    )
    return style.Picture("confusion", "Confusion between classes", caption, _alt(shares, names), figure)


def _cells(axes: Axes, table: np.ndarray) -> None:
    """Fills the grid: percentages on colour; the first row stands a little apart."""
    top = max(10.0, float(np.nanmax(table, initial=0)))
    axes.set(xlim=(-0.5, table.shape[1] - 0.5), ylim=(len(table) - 0.5, -0.75))
    axes.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(table):
        y = i - 0.25 if i == 0 else i
        if np.isnan(value):
            axes.text(j, y, "·", ha="center", va="center", size=style.SMALL, color=style.GREY)
            continue
        axes.fill_between([j - 0.48, j + 0.48], y - 0.47, y + 0.47, color=_COLOURS(value / top), linewidth=0)
        ink = "white" if value > 0.45 * top else style.INK
        axes.text(j, y, f"{value:.0f}", ha="center", va="center", size=style.SMALL, color=ink)


def _alt(shares: np.ndarray, names: list[str]) -> str:
    if len(names) < 2 or np.isnan(shares).all():
        return "No two classes can be confused in this split."
    i, j = np.unravel_index(np.nanargmax(shares), shares.shape)
    return (
        f"Matrix of false alarms for {len(names)} classes. The highest share, {shares[i, j]:.0%}: "
        f"{names[j]} predicted where there is {names[i]} but no {names[j]}."
    )
