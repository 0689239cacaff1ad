"""Run by both ranks of tests/test_step.py: steps of two ranks against steps of one rank with the whole batch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

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
spec = {"name": "tiny", "l2": 1e-2}
records = manifest.read(data)
random = np.random.default_rng(0)
images = random.uniform(0, 10_000, (STEPS, PATCHES, 120, 120, 4)).astype(np.float32)
labels = (random.random((STEPS, PATCHES, 19)) < 0.2).astype(np.float32)


def train(optimizer: str, alone: bool, norm: str, accumulate: int = 1, **settings) -> dict[str, np.ndarray]:
    """Trains from the same weights on this rank's share of every batch, or alone on all of it; returns all weights."""
    distributed._hvd = None if alone else horovod
    tf.keras.utils.set_random_seed(1)
    precision = settings.pop("precision", "float32")
    model = models.build(spec_for(records, ("B02", "B03", "B04"), precision=precision, **spec))
    if norm == "sync" and not alone:
        model = sync_batchnorm.synchronised(model)
    for layer in model.layers:
        if norm == "frozen" and isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.trainable = False
    built = optimizers.build(FitConfig(data=data, workdir=out, optimizer=optimizer, learning_rate=0.01))
    if optimizer != "sgd":
        built.epsilon = 1e-3  # with the usual one, gradients of nothing but rounding become whole steps
    step.create_slots(built, model.trainable_variables)
    loss_sum = tf.Variable(0.0)
    loss = losses.binary_cross_entropy(np.ones(19, np.float32))
    one = step.make(model, built, loss, loss_sum, accumulate=accumulate, **settings)
    share = slice(None) if alone else slice(rank * PATCHES // ranks, (rank + 1) * PATCHES // ranks)
    for number in range(STEPS):
        one({"s2_10m": tf.constant(images[number, share])}, tf.constant(labels[number, share]))
    distributed._hvd = horovod
    # A bias before a BatchNorm has no gradient but rounding, which Adam would blow up; it has no effect either.
    free = [w for w in model.weights if not (norm == "sync" and w.name.endswith("_conv/bias:0"))]
    return {w.name: w.numpy() for w in free}


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(abs(one[name] - other[name]).max()) for name in one if name in other)


def between(weights: dict[str, np.ndarray]) -> float:
    """How far ranks are from each other."""
    flat = np.concatenate([w.ravel() for w in weights.values()])
    return float(np.ptp(distributed.gather(flat[None]), axis=0).max())


seen: dict[str, object] = {"size": ranks}
for optimizer in ("sgd", "adam", "lamb"):
    for norm, accumulate in (("sync", 1), ("frozen", 3)):
        together = train(optimizer, False, norm, accumulate)
        whole = train(optimizer, True, norm)
        seen[f"{optimizer}, {norm}, {accumulate}"] = (apart(together, whole), between(together))
whole = train("sgd", True, "sync")
seen["own statistics"] = apart(train("sgd", False, "own"), whole)
half = train("sgd", False, "sync", fp16_allreduce=True)
seen["fp16"] = (apart(half, train("sgd", False, "sync")), between(half))
half = train("sgd", False, "sync", precision="mixed_bfloat16")
seen["bfloat16"] = (apart(half, train("sgd", True, "sync", precision="mixed_bfloat16")), between(half))
(out / f"rank{rank}.json").write_text(json.dumps(seen))
