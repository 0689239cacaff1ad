"""Run by both ranks of tests/test_step.py: steps of two ranks against steps of one rank with the whole batch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jeoparda_tf import models
from jeoparda_tf.models.spec import spec_for
from jeoparda_tf.stack import tf
from jeoparda_tf.training import distributed, losses, optimizers, step, sync_batchnorm
from jeoparda_tf.training.config import FitConfig
from tfrecords_tools import manifest

data, out = map(Path, sys.argv[1:])
distributed.start()
rank, ranks, horovod = distributed.rank(), distributed.size(), distributed._hvd
STEPS, PATCHES = 3, 12
records = manifest.read(data)
random = np.random.default_rng(0)
images = random.uniform(0, 10_000, (STEPS, PATCHES, 120, 120, 4)).astype(np.float32)
labels = (random.random((STEPS, PATCHES, 19)) < 0.2).astype(np.float32)


def build(precision: str, sync: bool) -> Any:
    """Returns a model with the weights of the seed; in float64 all after the normalised image is that."""
    tf.keras.utils.set_random_seed(1)
    double = precision == "float64"
    built = models.build(
        spec_for(
            records, ("B02", "B03", "B04"), name="tiny", l2=1e-2, precision="float32" if double else precision
        )
    )
    if double:

        def wider(layer: Any) -> Any:
            return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

        twin = tf.keras.models.clone_model(built, clone_function=wider)
        twin.set_weights(built.get_weights())
        built = twin
    return sync_batchnorm.synchronised(built) if sync else built


def train(
    optimizer: str, alone: bool, norm: str, accumulate: int = 1, precision: str = "float32", **settings: Any
) -> dict[str, np.ndarray]:
    """Trains from the same weights on this rank's share of every batch, or alone on all of it; returns all weights."""
    distributed._hvd = None if alone else horovod
    model = build(precision, norm == "sync" and not alone)
    for layer in model.layers:
        if norm == "frozen" and isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.trainable = False
    built = optimizers.build(FitConfig(data=data, workdir=out, optimizer=optimizer, learning_rate=0.01))
    step.create_slots(built, model.trainable_variables)
    kind = np.float64 if precision == "float64" else np.float32
    loss_sum = tf.Variable(kind(0))
    loss = losses.binary_cross_entropy(np.ones(19, kind))
    one = step.make(model, built, loss, loss_sum, accumulate=accumulate, **settings)
    share = slice(None) if alone else slice(rank * PATCHES // ranks, (rank + 1) * PATCHES // ranks)
    for number in range(STEPS):
        one({"s2_10m": tf.constant(images[number, share])}, tf.constant(labels[number, share].astype(kind)))
    distributed._hvd = horovod
    return {w.name: w.numpy() for w in model.weights}


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray], moving: bool = False) -> float:
    """How far the trained weights are from each other, or BatchNorm's moving statistics."""
    return max(float(abs(one[name] - other[name]).max()) for name in one if ("moving" in name) == moving)


def between(weights: dict[str, np.ndarray]) -> float:
    """How far ranks are from each other."""
    flat = np.concatenate([w.ravel() for w in weights.values()])
    return float(np.ptp(distributed.gather(flat[None]), axis=0).max())


def compare(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[float]:
    return [apart(one, other), apart(one, other, moving=True), between(one)]


seen: dict[str, object] = {"size": ranks}
for optimizer in ("sgd", "adam", "lamb"):
    for norm, accumulate in (("sync", 1), ("frozen", 3)):
        together = train(optimizer, False, norm, accumulate, "float64")
        seen[f"float64, {optimizer}, {norm}"] = compare(together, train(optimizer, True, norm, 1, "float64"))
whole, sync = train("sgd", True, "sync"), train("sgd", False, "sync")
seen["float32"] = compare(sync, whole)
seen["own statistics"] = apart(train("sgd", False, "own"), whole)
seen["fp16"] = compare(train("sgd", False, "sync", fp16_allreduce=True), sync)
seen["bfloat16"] = compare(*(train("sgd", alone, "sync", 1, "mixed_bfloat16") for alone in (False, True)))
(out / f"rank{rank}.json").write_text(json.dumps(seen))
