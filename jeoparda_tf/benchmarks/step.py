"""Steps of training: fed by the pipeline and from memory, in half precision, compiled, and as keras.applications does.

Needs no data set: it writes random patches into a temporary folder. One process, with the cores it is given.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

from ..models.spec import Name
from . import input as shards
from .report import Findings, Row, show

FED, MEMORY, HALF, XLA, PEER = (
    "fed by the pipeline",
    "one batch from memory",
    "mixed_bfloat16, from memory",
    "XLA auto-clustering, from memory",
    "keras.applications, same batch",
)
Step = Callable[[Any, Any], None]
# Patches per second by kind.
Rates = Mapping[str, float]


@dataclass(frozen=True)
class Config:
    """What to train, how often."""

    models: tuple[Name, ...] = option(
        "architectures; of the first, half precision and XLA are measured too, and its peer if it is resnet50",
        ("resnet50", "shallow"),
        nargs="+",
    )
    batch: int = option("patches of one step", 32)
    steps: int = option("timed together", 2)
    repetitions: int = option("timings of each kind, in turn; the median counts", 4)
    xla: bool = option("measure XLA auto-clustering, which compiles for long", True)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Writes the data, measures, prints."""
    for name in ("batch", "steps", "repetitions"):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(config, name)}")
    if config.xla:  # read once, when TensorFlow is imported; without it, clusters are for GPUs only
        flags = os.environ.get("TF_XLA_FLAGS", "")
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_cpu_global_jit".strip()
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        show(measure(config, Path(folder)), config.json)


def measure(config: Config, folder: Path) -> Findings:
    """Returns what was found; the shards are written into `folder`."""
    shards.write(folder, 8 * config.batch)
    manifest = shards.read_several_times(folder, 64)  # an epoch's beginning is not measured
    fed = batches(folder, manifest, config.batch)
    rates: dict[str, Rates] = {}
    gradients: dict[str, float] = {}
    for name in config.models:
        kinds, gradients[name] = _kinds(config, name, manifest, fed)
        rates[name] = _timed(kinds, config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return findings(rates, gradients, peak, config)


def findings(
    rates: Mapping[str, Rates], gradients: Mapping[str, float], peak: float, config: Config
) -> Findings:
    """Returns the table.

    Args:
        rates: by model.
        gradients: of a step, MB by model: what ranks send.
        peak: resident MB of the process.
        config: for the title.
    """
    rows, told = [], []
    for name, of in rates.items():
        memory = of[MEMORY]
        rows += [
            Row(f"{name}: {MEMORY}", memory, "patches/s"),
            Row(f"{name}: {FED}", of[FED], "patches/s", of[FED] / memory, "from memory", 0.97),
        ]
        rows += [
            Row(f"{name}: {kind}", of[kind], "patches/s", of[kind] / memory, "float32")
            for kind in (HALF, XLA)
            if kind in of
        ]
        if PEER in of:
            rows.append(Row(f"{name}: {PEER}", of[PEER], "patches/s"))
            rows.append(
                Row(f"{name}: {MEMORY}", memory, "patches/s", memory / of[PEER], "keras.applications", 1.0)
            )
        rows.append(Row(f"{name}: time of a step", config.batch / memory, "s"))
        rows.append(Row(f"{name}: gradients of a step", gradients[name], "MB"))
        bound = "compute-bound: a faster accelerator or half precision helps, faster reading does not"
        if of[FED] < 0.97 * memory:
            bound = "input-bound in part: more cores for the pipeline, or fewer bands"
        told.append(f"{name} is {bound}.")
    rows.append(Row("peak memory of the process, all of the above", peak, "MB"))
    title = f"step: float32 where not said otherwise, 12 bands, batch {config.batch}"
    return Findings(title, rows, told)


def _kinds(
    config: Config, name: Name, manifest: Any, fed: Iterator[Any]
) -> tuple[dict[str, Callable[[], None]], float]:
    """Returns what runs `config.steps` steps of each kind, and the MB of the model's gradients."""
    from .. import models
    from ..bigearthnet import bands
    from ..models.spec import spec_for
    from ..stack import tf

    spec = spec_for(manifest, bands.S2_BANDS, name=name)
    model = models.build(spec)
    held = next(fed)

    def repeated(step: Step, source: Optional[Iterator[Any]] = None) -> Callable[[], None]:
        def run() -> None:
            for _ in range(config.steps):
                step(*(held if source is None else next(source)))

        return run

    def clustered() -> None:
        tf.config.optimizer.set_jit("autoclustering")
        try:
            compiled()
        finally:
            tf.config.optimizer.set_jit(False)

    step = train_step(model)
    kinds = {MEMORY: repeated(step), FED: repeated(step, fed)}
    if name == config.models[0]:
        half = spec_for(manifest, bands.S2_BANDS, name=name, precision="mixed_bfloat16")
        kinds[HALF] = repeated(train_step(models.build(half)))
        if name == "resnet50":
            kinds[PEER] = repeated(_peer(spec))
        if config.xla:
            compiled = repeated(train_step(models.build(spec)))
            kinds[XLA] = clustered
    return kinds, sum(4 * v.shape.num_elements() for v in model.trainable_variables) / 1e6


def _timed(kinds: Mapping[str, Callable[[], None]], config: Config) -> Rates:
    from ..stack import tf

    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for repetition in range(config.repetitions + 1):
        for name, kind in kinds.items():
            start = time.perf_counter()
            kind()
            tf.test.experimental.sync_devices()
            if repetition:  # the first traces
                seen[name].append(config.batch * config.steps / (time.perf_counter() - start))
    return {name: statistics.median(rates) for name, rates in seen.items()}


def train_step(model: Any) -> Step:
    """Returns the step of `fit` for a model, with SGD."""
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
    with warnings.catch_warnings():  # of an unusual number of channels
        warnings.simplefilter("ignore")
        net = tf.keras.applications.ResNet50(
            weights=None,
            input_shape=image.shape[1:],
            classes=len(spec.nomenclature.classes),
            classifier_activation=None,
        )
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


def batches(folder: Path, manifest: Any, batch: int) -> Iterator[Any]:
    """Yields the batches of one epoch after the other, turned, mirrored and mixed."""
    from ..input import pipeline

    epoch = 0
    while True:
        yield from pipeline.for_training(
            folder, manifest, manifest.features, batch=batch, epoch=epoch, seed=0, mixup=0.3, shuffle_buffer=256
        )  # fmt: skip
        epoch += 1
