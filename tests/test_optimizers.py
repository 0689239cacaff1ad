"""Our LAMB against tensorflow-addons' and against the paper's formula; the others by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.stack import tf
from jeoparda_tf.training import optimizers, step
from jeoparda_tf.training.config import FitConfig

pytestmark = pytest.mark.tensorflow

CONFIG = FitConfig(data=Path("data"), workdir=Path("run"))
GRADIENTS = [np.random.default_rng(n).normal(0, 1, (4, 3)).astype(np.float32) for n in range(5)]


def descend(optimizer) -> tuple[np.ndarray, np.ndarray]:
    kernel = tf.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), name="dense/kernel")
    bias = tf.Variable(np.ones((4, 3), np.float32), name="dense/bias")
    step.create_slots(optimizer, [kernel, bias])
    for gradient in GRADIENTS:
        optimizer.apply_gradients([(tf.constant(gradient), kernel), (tf.constant(2 * gradient), bias)])
    return kernel.numpy(), bias.numpy()


def lamb_by_hand(
    w: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float, scaled: bool
) -> np.ndarray:
    w, m, v = w.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(np.float64) ** 2
        u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * w
        w = w - rate * (np.linalg.norm(w) / np.linalg.norm(u) if scaled else 1.0) * u
    return w


def test_our_lamb_is_its_formula_and_leaves_biases_to_adam():
    kernel, bias = descend(optimizers.Lamb(0.05, weight_decay=0.1, exclude=["bias"]))
    start = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(kernel, lamb_by_hand(start, GRADIENTS, 0.05, 0.1, True), rtol=1e-4, atol=1e-6)
    by_adam = lamb_by_hand(np.ones((4, 3)), [2 * g for g in GRADIENTS], 0.05, 0.0, False)
    np.testing.assert_allclose(bias, by_adam, rtol=1e-4, atol=1e-6)


def test_our_lamb_is_that_of_tensorflow_addons():
    tfa = pytest.importorskip(
        "tensorflow_addons", reason="tensorflow-addons cannot be imported with this TensorFlow"
    )
    ours = descend(optimizers.Lamb(0.05, weight_decay=0.1, exclude=["bias"]))
    theirs = descend(tfa.optimizers.LAMB(0.05, weight_decay=0.1, exclude_from_weight_decay=["bias"]))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_every_optimizer_takes_a_learning_rate_and_restores_its_slots(name, precision, tmp_path):
    config = dataclasses.replace(CONFIG, optimizer=name, precision=precision)

    def state():
        variable = tf.Variable([3.0, -2.0], name="kernel")
        optimizer = optimizers.build(config)
        step.create_slots(optimizer, [variable])
        return variable, optimizer, tf.train.Checkpoint(variable=variable, optimizer=optimizer)

    def advance(variable, optimizer, rate):
        optimizer.learning_rate = rate
        optimizer.apply_gradients([(tf.constant([0.5, 1.0]), variable)])
        return variable.numpy()

    first, optimizer, checkpoint = state()
    np.testing.assert_array_equal(advance(first, optimizer, 0.0), [3.0, -2.0])
    before = advance(first, optimizer, 0.1)
    path = checkpoint.write(str(tmp_path / "c"))
    expected = advance(first, optimizer, 0.1)
    second, other, empty = state()
    empty.read(path).assert_consumed()
    np.testing.assert_array_equal(second, before)
    np.testing.assert_array_equal(advance(second, other, 0.1), expected)
    assert (expected != before).all()


def test_sgd_has_nesterov_momentum():
    variable = tf.Variable([1.0])
    optimizer = optimizers.build(dataclasses.replace(CONFIG, learning_rate=0.1))
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    # v1 = -0.1, w1 = 1 + 0.9 v1 - 0.1 = 0.81; v2 = 0.9 v1 - 0.1 = -0.19, w2 = w1 + 0.9 v2 - 0.1
    assert float(variable[0]) == pytest.approx(0.81 - 0.171 - 0.1, rel=1e-5)
