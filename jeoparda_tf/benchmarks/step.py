"""Steps of training in patches per second: fed by the pipeline, from memory, and as keras.applications' ResNet50.

Needs no data set: it writes random patches into a temporary folder. One process, with the cores it is given.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Literal, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

from . import input as shards
from .report import Findings, Row, show

FED, MEMORY, PEER = "fed by the pipeline", "one batch from memory", "keras.applications, same batch"
Step = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Config:
    """What to train, how often."""

    model: Literal["resnet18", "resnet50", "tiny"] = option("architecture", "resnet50")
    precision: Literal["float32", "mixed_bfloat16"] = option("of the computing", "float32")
    batch: int = option("patches of one step", 32)
    steps: int = option("timed together", 4)
    repetitions: int = option("timings of each kind, in turn; the median counts", 3)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Writes the data, measures, prints."""
    for name in ("batch", "steps", "repetitions"):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(config, name)}")
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        show(measure(config, Path(folder)), config.json)


def measure(config: Config, folder: Path) -> Findings:
    """Returns what was found; the shards are written into `folder`."""
    from tfrecords_tools import manifest as manifests

    from .. import models
    from ..bigearthnet import bands
    from ..models.spec import spec_for

    shards.write(folder, config.batch * config.steps)
    manifest = manifests.read(folder)
    spec = spec_for(manifest, bands.S2_BANDS, name=config.model, precision=config.precision)
    step = _step(models.build(spec))
    batches = _batches(folder, manifest, config.batch)
    held = next(batches)
    kinds: dict[str, Callable[[], None]] = {
        FED: lambda: _repeat(step, batches, config.steps),
        MEMORY: lambda: _repeat(step, _same(held), config.steps),
    }
    if config.model == "resnet50" and config.precision == "float32":
        peer = _peer(spec)
        kinds[PEER] = lambda: _repeat(peer, _same(held), config.steps)
    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for repetition in range(config.repetitions + 1):
        for name, kind in kinds.items():
            start = time.perf_counter()
            kind()
            if repetition:  # the first traces
                seen[name].append(config.batch * config.steps / (time.perf_counter() - start))
    return findings({name: statistics.median(rates) for name, rates in seen.items()}, config)


def findings(rates: Mapping[str, float], config: Config) -> Findings:
    """Returns the table of patches per second by kind."""
    fed, memory = rates[FED], rates[MEMORY]
    rows = [Row(MEMORY, memory, "patches/s"), Row(FED, fed, "patches/s", fed / memory, "memory", 0.97)]
    if PEER in rates:
        peer = rates[PEER]
        rows += [Row(PEER, peer, "patches/s"), Row(MEMORY, memory, "patches/s", memory / peer, "keras", 1.0)]
    rows.append(Row("time of a step from memory", config.batch / memory, "s"))
    bound = "compute-bound: a faster accelerator or half precision helps, faster reading does not"
    if fed < 0.97 * memory:
        bound = "input-bound in part: more cores for the pipeline, or fewer bands"
    title = f"step: {config.model}, {config.precision}, 12 bands, batch {config.batch}"
    return Findings(title, rows, [f"{bound}."])


def _step(model: Any) -> Step:
    import numpy as np

    from ..stack import tf
    from ..training import losses, step

    optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    step.create_slots(optimizer, model.trainable_variables)
    loss = losses.binary_cross_entropy(np.ones(model.output_shape[-1], np.float32))
    return step.make(model, optimizer, loss, tf.Variable(0.0, trainable=False))


def _peer(spec: Any) -> Step:
    """The same first layers and classes, keras.applications' ResNet50 between, and a step as anyone would write it."""
    from ..models import inputs
    from ..stack import tf

    arrays, image = inputs.image(spec)
    net = tf.keras.applications.ResNet50(
        weights=None, input_shape=image.shape[1:], classes=len(spec.nomenclature.classes), classifier_activation=None
    )  # fmt: skip
    model = tf.keras.Model(arrays, net(image))
    optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(inputs: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    return step


def _batches(folder: Path, manifest: Any, batch: int) -> Iterator[Any]:
    from ..input import pipeline

    epoch = 0
    while True:
        yield from pipeline.for_training(
            folder,
            manifest,
            manifest.features,
            batch=batch,
            epoch=epoch,
            seed=0,
            mixup=0.3,
            shuffle_buffer=256,
        )
        epoch += 1


def _same(batch: Any) -> Iterator[Any]:
    while True:
        yield batch


def _repeat(step: Step, batches: Iterator[Any], steps: int) -> None:
    for _ in range(steps):
        step(*next(batches))
