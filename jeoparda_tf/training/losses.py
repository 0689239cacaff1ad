"""Losses of multi-label classification, from logits, where they are stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ..stack import tf

Loss = Callable[[Any, Any], Any]


def binary_cross_entropy(positive_weights: np.ndarray) -> Loss:
    """Returns mean of -[w y log p + (1 - y) log(1 - p)] over patches and classes, with p = sigmoid(logit).

    Args:
        positive_weights: w, float [classes]; ones for the plain loss.
    """

    def loss(labels: Any, logits: Any) -> Any:
        weights = tf.cast(positive_weights, logits.dtype)
        return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(labels, logits, weights))

    return loss


def focal(gamma: float, alpha: float, positive_weights: np.ndarray) -> Loss:
    """Returns the focal loss (Lin et al. 2017, arXiv:1708.02002): cross-entropy times (1 - p_true) ** gamma.

    With labels between 0 and 1 (mixup) the terms of both answers are weighted by the label.

    Args:
        gamma: 0 gives the cross-entropy.
        alpha: weight of the positive term, 1 - alpha of the negative one; negative for none.
        positive_weights: further weights of the positive terms, float [classes].
    """
    weights = tf.constant(positive_weights, tf.float32)
    positive, negative = (alpha, 1.0 - alpha) if alpha >= 0 else (1.0, 1.0)

    def loss(labels: Any, logits: Any) -> Any:
        log_p, log_q = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
        if_positive = -weights * labels * tf.exp(gamma * log_q) * log_p
        if_negative = -(1.0 - labels) * tf.exp(gamma * log_p) * log_q
        return tf.reduce_mean(positive * if_positive + negative * if_negative)

    return loss


def positive_weights(label_counts: Sequence[int], records: int, power: float) -> np.ndarray:
    """Returns (negatives / positives) ** power a class, float32; 1 where a class never or always occurs.

    Args:
        label_counts: records that carry each class.
        records: of the split.
        power: 0 for ones, 1 for equal sums of both sides.
    """
    counts = np.asarray(label_counts, np.float64)
    ratio = np.where((counts > 0) & (counts < records), (records - counts) / np.maximum(counts, 1), 1.0)
    return np.asarray(ratio**power, np.float32)
