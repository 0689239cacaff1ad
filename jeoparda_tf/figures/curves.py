"""Learning curves: loss, F1 and learning rate over the epochs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tfrecords_tools.errors import DataError

from . import style

_NEEDED = ("epoch", "learning_rate", "loss", "val_loss", "val_f1_macro", "val_f1_micro")


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Reads `history.csv`: float64 [epochs] by column name; an empty cell is NaN.

    Raises:
        DataError: the file is missing, has no row, lacks a column or holds no number where one belongs.
    """
    remedy = "training writes a row after each epoch"
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        history = (
            {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]} if rows else {}
        )
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path, remedy=remedy) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"not a table of numbers: {error}", path=path, remedy=remedy) from error
    missing = [name for name in _NEEDED if name not in history]
    if missing:
        problem = f"has no column {', '.join(missing)}" if history else "no epoch has ended yet"
        raise DataError(problem, path=path, remedy=remedy)
    return history


def best_epoch(history: Mapping[str, np.ndarray]) -> int | None:
    """Returns the index of the row with the highest validation macro F1, None where no epoch has one."""
    f1 = history["val_f1_macro"]
    return None if np.isnan(f1).all() else int(np.nanargmax(f1))


def draw(history: Mapping[str, np.ndarray], note: str) -> style.Picture:
    """Draws three panels over the epochs.

    Args:
        history: as `read_history` returns it.
        note: origin and nomenclature.
    """
    figure = style.canvas(7.4, "Learning curves", note)
    loss, f1, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 3, 2)})
    epoch = history["epoch"]
    _lines(
        loss,
        epoch,
        {"training": (history["loss"], style.BLUE), "validation": (history["val_loss"], style.VERMILION)},
    )
    _lines(
        f1,
        epoch,
        {"micro": (history["val_f1_micro"], style.GREEN), "macro": (history["val_f1_macro"], style.PURPLE)},
    )
    _lines(rate, epoch, {"": (history["learning_rate"], style.INK)})
    loss.set_ylabel("loss")
    f1.set_ylabel("F1 on validation")
    f1.set_ylim(0, 1)
    rate.set(ylabel="learning rate", xlabel="epoch")
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.align_ylabels()
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    best = best_epoch(history)
    if best is not None:
        _mark(f1, epoch[best], history["val_f1_macro"][best])
    return style.Picture("learning-curves", "Learning curves", _CAPTION, _alt(history, best), figure)


_CAPTION = (
    "Training loss as it was minimised, with weight penalty and class weights where the run has them; "
    "validation loss is the plain binary cross-entropy, so the two compare in shape, not in height. Micro "
    "F1 (counts summed over classes, then divided) and macro F1 (mean over classes) on validation at "
    "threshold 0.5. Learning rate of the epoch's last step. The dot is the epoch with the highest macro "
    "F1, whose checkpoint is kept as the best."
)


def _lines(axes: Axes, epoch: np.ndarray, lines: Mapping[str, tuple[np.ndarray, str]]) -> None:
    """Draws lines and writes each one's name beside its end, apart from the others."""
    style.plain(axes)
    for values, colour in lines.values():
        axes.plot(
            epoch, values, color=colour, linewidth=1.8, marker="o", markersize=3 if len(epoch) < 40 else 0
        )
    axes.margins(y=0.12)
    axes.set_xlim(epoch.min() - 0.5, epoch.max() + 0.5)
    ended = {name: (values[~np.isnan(values)], colour) for name, (values, colour) in lines.items()}
    ended = {name: pair for name, pair in ended.items() if name and len(pair[0])}
    low, high = (0.0, 1.0) if "macro" in lines else axes.get_ylim()
    heights = style.spread(
        [(values[-1] - low) / (high - low) for values, _ in ended.values()], 0.11, 0.04, 0.96
    )
    for (name, (_, colour)), height in zip(ended.items(), heights):
        axes.annotate(
            name, (1.01, height), xycoords="axes fraction", color=colour, size=style.NORMAL, va="center"
        )


def _mark(axes: Axes, epoch: float, value: float) -> None:
    axes.plot([epoch], [value], "o", color=style.PURPLE, markersize=8, markeredgecolor="white", zorder=5)
    # At the upper left, where curves that rise leave room.
    text = f"best macro F1: {value:.3f} in epoch {epoch:.0f}"
    axes.annotate(
        text, (0.02, 0.97), xycoords="axes fraction", va="top", size=style.SMALL, color=style.PURPLE
    )


def _alt(history: Mapping[str, np.ndarray], best: int | None) -> str:
    loss = history["loss"]
    text = f"Over {len(loss)} epochs the training loss goes from {loss[0]:.3f} to {loss[-1]:.3f}."
    if best is None:
        return text
    micro, macro = history["val_f1_micro"][best], history["val_f1_macro"][best]
    epoch = history["epoch"][best]
    return f"{text} Best on validation: epoch {epoch:.0f}, macro F1 {macro:.3f}, micro F1 {micro:.3f}."
