"""Losses against their formulas in numpy, and against Keras."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.stack import tf
from jeoparda_tf.training import losses

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((16, 5)) < 0.4).astype(np.float32)
LOGITS = RANDOM.normal(0, 3, (16, 5)).astype(np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
ONES = np.ones(5)


def test_binary_cross_entropy_is_that_of_keras():
    expected = tf.keras.losses.BinaryCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert float(losses.binary_cross_entropy(ONES)(LABELS, LOGITS)) == pytest.approx(
        float(expected), rel=1e-6
    )


def test_positive_weights_multiply_the_positive_term_alone():
    weights = np.array([1, 2, 3, 0.5, 10])
    expected = -(weights * LABELS * np.log(P) + (1 - LABELS) * np.log(1 - P)).mean()
    assert float(losses.binary_cross_entropy(weights)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [-1.0, 0.25])
def test_focal_is_its_formula(alpha):
    positive, negative = (1, 1) if alpha < 0 else (alpha, 1 - alpha)
    expected = -(
        positive * LABELS * (1 - P) ** 2 * np.log(P) + negative * (1 - LABELS) * P**2 * np.log(1 - P)
    ).mean()
    assert float(losses.focal(2.0, alpha, ONES)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_focal_without_focus_is_cross_entropy_and_large_logits_stay_finite():
    assert float(losses.focal(0.0, -1.0, ONES)(LABELS, LOGITS)) == pytest.approx(
        float(losses.binary_cross_entropy(ONES)(LABELS, LOGITS)), rel=1e-6
    )
    huge = tf.Variable([[1e4, -1e4]])
    with tf.GradientTape() as tape:
        loss = losses.focal(2.0, 0.25, np.ones(2))(tf.constant([[0.0, 1.0]]), huge)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, huge).numpy()).all()


def test_positive_weights_by_hand():
    np.testing.assert_allclose(losses.positive_weights([10, 50, 0, 100], 100, 1.0), [9, 1, 1, 1])
    np.testing.assert_allclose(losses.positive_weights([10, 50, 0, 100], 100, 0.5), [3, 1, 1, 1])
    np.testing.assert_allclose(losses.positive_weights([10, 50, 0, 100], 100, 0.0), 1)
