"""Decision thresholds, tuned class by class; tune them on validation, never on the split that is reported."""

from __future__ import annotations

import numpy as np

from .scores import cuts_at_positives

DEFAULT = 0.5


def tune(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns for each class the threshold of the highest F1, over all thresholds there are.

    A threshold lies midway between the lowest score it lets in and the next lower one (0 below the lowest):
    in the middle of those with the same predictions. Of several with the same F1 the highest is taken.

    Args:
        labels: bool or 0/1 [records, classes].
        scores: float [records, classes] in 0..1.

    Returns:
        float64 [classes]; 0.5 for classes without a positive.
    """
    truth = np.asarray(labels, bool)
    return np.array([_tune_class(present, column) for present, column in zip(truth.T, scores.T)], np.float64)


def _tune_class(labels: np.ndarray, scores: np.ndarray) -> float:
    # Only cuts at a positive can be best: letting in further negatives below it lowers the precision alone.
    positives, hits, predicted = cuts_at_positives(labels, scores)
    if not positives.size:
        return DEFAULT
    f1 = 2 * hits / (predicted + positives.size)
    lowest = positives[f1 == f1.max()][-1]
    below = scores[scores < lowest]
    # In float64 the middle of two neighbouring float32 numbers lies between them; in float32 it would be one.
    return (float(lowest) + float(below.max() if below.size else 0.0)) / 2
