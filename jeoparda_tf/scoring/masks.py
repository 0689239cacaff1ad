"""Scores of maps against reference maps: pixel accuracy and intersection over union, from counts of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrecords_tools.manifest import Nomenclature

if TYPE_CHECKING:
    from rich.table import Table

IGNORED = -1


@dataclass(frozen=True)
class MaskScores:
    """Scores of a map, as float64; NaN where there is nothing to divide by.

    Attributes:
        confusion: int64 [classes, classes], pixels of each class in the reference (rows) and on the map (columns).
        ignored: pixels whose reference has no class.
        accuracy: share of the other pixels that have the reference's class.
        iou: [classes], pixels of the class in both over those in either; NaN for a class in neither.
        mean_iou: of the classes that are in either (Jaccard index, macro).
    """

    confusion: np.ndarray
    ignored: int
    accuracy: float
    iou: np.ndarray
    mean_iou: float

    def to_json(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns the scores by name; null where there is none."""
        iou = {name: None if np.isnan(value) else float(value) for name, value in zip(classes, self.iou)}
        none = not self.confusion.sum()
        return {
            "pixel_accuracy": None if none else self.accuracy, "mean_iou": None if none else self.mean_iou, "iou": iou,
            "pixels": int(self.confusion.sum()), "ignored_pixels": self.ignored, "confusion": self.confusion.tolist(),
        }  # fmt: skip


def class_of_code(nomenclature: Nomenclature) -> np.ndarray:
    """Returns int64 [65536]: the number of the class that has a CORINE code, IGNORED where none has."""
    numbers = np.full(1 << 16, IGNORED)
    for number, codes in enumerate(nomenclature.codes):
        numbers[list(codes)] = number
    return numbers


def count(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Returns the confusion matrix of class numbers, int64 [classes, classes]; pixels of IGNORED truth are left out."""
    kept = truth != IGNORED
    pairs = truth[kept].astype(np.int64) * classes + predicted[kept]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def score(confusion: np.ndarray, ignored: int) -> MaskScores:
    """Scores summed counts; both arguments as in `MaskScores`."""
    both = np.diag(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    iou = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
    total = confusion.sum()
    accuracy = float(both.sum() / total) if total else float("nan")
    return MaskScores(confusion, ignored, accuracy, iou, float(np.nanmean(iou)) if total else float("nan"))


def class_table(result: MaskScores, classes: tuple[str, ...], title: str) -> Table:
    """Returns the scores of every class that is in either map, the one with most reference pixels first."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("class")
    for heading in ("reference pixels", "map pixels", "IoU"):
        table.add_column(heading, justify="right", no_wrap=True)
    reference, mapped = result.confusion.sum(1), result.confusion.sum(0)
    for i in np.argsort(-reference, kind="stable"):
        if not np.isnan(result.iou[i]):
            table.add_row(classes[i], f"{reference[i]:,}", f"{mapped[i]:,}", f"{result.iou[i]:.3f}")
    return table
