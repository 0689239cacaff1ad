"""F1, precision, recall and average precision of multi-label predictions, equal to scikit-learn's.

Whatever has nothing to divide by is 0, as with scikit-learn's `zero_division=0`: precision of a class never
predicted; recall, F1 and average precision of a class without a patch; the same of a patch without a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

import numpy as np

# What each average is; whoever shows one of them names it.
DEFINITIONS: Mapping[str, str] = {
    "micro": "TP, FP and FN summed over classes, then divided; average precision of all scores in one list",
    "macro": "mean over all classes, each counting the same; a class without a patch counts as 0",
    "macro_occurring": "mean over the classes that some patch carries, each counting the same",
    "weighted": "mean over classes, each counting by the number of patches that carry it",
    "sample": "mean over patches of each patch's own value; a patch without a label counts as 0",
}

_PER_CLASS = ("support", "tp", "fp", "fn", "precision", "recall", "f1", "average_precision")


@dataclass(frozen=True)
class Average:
    """One of the averages in `DEFINITIONS`."""

    precision: float
    recall: float
    f1: float
    average_precision: float


@dataclass(frozen=True)
class Scores:
    """Scores of `records` patches; arrays have one entry a class: counts int64, the others float64.

    Attributes:
        records: number of patches.
        thresholds: a score equal to its class's threshold or above it counts as predicted.
        support: patches that carry the class.
        tp: of them, how many were predicted to (true positives).
        fp: patches wrongly predicted to carry it (false positives).
        fn: patches that carry it and were missed (false negatives).
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        f1: 2 TP / (2 TP + FP + FN).
        average_precision: see `average_precision`; it does not depend on the thresholds.
        micro: an average, as are the next three: see `DEFINITIONS`.
    """

    records: int
    thresholds: np.ndarray
    support: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    average_precision: np.ndarray
    micro: Average
    macro: Average
    macro_occurring: Average
    weighted: Average
    sample: Average

    @property
    def averages(self) -> dict[str, Average]:
        """The averages by their names in `DEFINITIONS`."""
        return {name: getattr(self, name) for name in DEFINITIONS}

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Returns plain numbers: `records`, `averages` and their `definitions`, a list of `classes`."""
        rows = [
            {"name": name, "threshold": cut, **{key: getattr(self, key)[i].item() for key in _PER_CLASS}}
            for i, (name, cut) in enumerate(zip(classes, self.thresholds.tolist()))
        ]
        return {
            "records": self.records,
            "averages": {name: asdict(average) for name, average in self.averages.items()},
            "definitions": dict(DEFINITIONS),
            "classes": rows,
        }


def score(
    labels: np.ndarray,
    scores: np.ndarray,
    thresholds: Union[float, np.ndarray] = 0.5,
    predicted: Optional[np.ndarray] = None,
) -> Scores:
    """Scores predictions.

    Args:
        labels: bool or 0/1 [records, classes].
        scores: float [records, classes]; no NaN.
        thresholds: one for all classes, or one a class.
        predicted: bool [records, classes], what is predicted; None for the scores that reach their thresholds.

    Raises:
        ValueError: the shapes do not fit together, or a score is NaN.
    """
    truth = np.asarray(labels, bool)
    if truth.ndim != 2 or truth.shape != scores.shape:
        raise ValueError(f"labels {truth.shape} and scores {scores.shape} must both be [records, classes]")
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN")
    # An array of float64 even where one number was given: numpy would round that to the scores' float32.
    cuts = np.broadcast_to(np.asarray(thresholds, np.float64), truth.shape[1:])
    predicted = scores >= cuts if predicted is None else predicted
    hit = truth & predicted
    tp, support = hit.sum(0), truth.sum(0)
    precision, recall, f1 = precision_recall_f1(tp, predicted.sum(0), support)
    ap = np.array([average_precision(*column) for column in zip(truth.T, scores.T)], np.float64)
    per_patch = precision_recall_f1(hit.sum(1), predicted.sum(1), truth.sum(1))
    overall = precision_recall_f1(hit.sum(), predicted.sum(), truth.sum())
    micro = Average(*map(_mean, (*overall, average_precision(truth.ravel(), scores.ravel()))))
    macro = Average(*map(_mean, (precision, recall, f1, ap)))
    present = support > 0
    occurring = Average(*[_mean(x[present]) for x in (precision, recall, f1, ap)])
    weighted = Average(*[float(ratio(x @ support, support.sum())) for x in (precision, recall, f1, ap)])
    sample = Average(*map(_mean, (*per_patch, _per_patch_average_precision(truth, scores))))
    counts = (tp, predicted.sum(0) - tp, support - tp)
    averages = (micro, macro, occurring, weighted, sample)
    return Scores(len(truth), cuts, support, *counts, precision, recall, f1, ap, *averages)


def precision_recall_f1(tp: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns float64 precision, recall and F1 (2 TP / (2 TP + FP + FN)) of counts of any one shape."""
    return ratio(tp, predicted), ratio(tp, support), ratio(2 * tp, predicted + support)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides, giving 0 where the denominator is 0."""
    out = np.zeros(np.shape(denominator), np.float64)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) != 0)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the average precision of one class, float64 [], 0 without a positive.

    It is the sum over the distinct scores, descending, of the growth in recall times the precision there
    (scikit-learn's `average_precision_score`: steps, no interpolation). Recall grows by 1/P for each of the P
    positives: so this is the mean over them of the precision at their own score; equal scores share one.

    Args:
        labels: bool [records].
        scores: float [records].
    """
    _, hits, predicted = cuts_at_positives(labels, scores)
    return ratio((hits / predicted).sum(), np.asarray(hits.size))


def cuts_at_positives(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts what is predicted if the threshold is put at the score of each positive.

    Args:
        labels: bool [records].
        scores: float [records].

    Returns:
        the positives' scores in ascending order; how many positives, and how many of all records, score that
        or more. All of shape [positives].
    """
    positives = np.sort(scores[labels])
    hits = positives.size - np.searchsorted(positives, positives, "left")
    return positives, hits, scores.size - np.searchsorted(np.sort(scores), positives, "left")


def _per_patch_average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns [records]: the average precision of the classes of each patch."""
    total = np.zeros(len(labels))
    # Class by class, so that memory stays at records x classes: how precise is the list down to this one?
    for truth, column in zip(labels.T, scores.T):
        listed = scores[truth] >= column[truth, None]
        total[truth] += (listed & labels[truth]).sum(1) / listed.sum(1)
    return ratio(total, labels.sum(1))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
