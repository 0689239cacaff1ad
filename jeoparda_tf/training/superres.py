"""Trains the networks of super-resolution without labels, and gives them to a classifier."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrecords_tools import locks
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, StoppedError, UsageError
from tfrecords_tools.manifest import Manifest

from ..bigearthnet.bands import S2_FEATURES
from ..input import pipeline
from ..models import superres
from ..models.superres_spec import GUIDES, SuperRes
from ..stack import require_keras_2, tf
from . import checkpoints, preemption, step, wald, workdir
from .schedules import Schedule
from .superres_config import SuperResConfig
from .superres_scores import by_distance, reading, score

SPEC, WEIGHTS = "superres.json", "weights.npz"
# Records that are shuffled at once, of 160 kB each.
_SHUFFLE = 2048
# Steps at most, a tenth of all, in which the rate rises: Adam's first ones are all of full size.
_WARMUP = 200
# Last checkpoints to keep.
_KEEP = 2
Networks = dict[int, superres.Network]


@dataclass
class _Run:
    config: SuperResConfig
    manifest: Manifest
    networks: Networks
    optimizer: Any
    variables: Any
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    # Of the steps since the last row of the history.
    losses: list[Any] = field(default_factory=list)

    @property
    def batch(self) -> int:
        return min(self.config.batch, self.manifest.splits["train"].records)


def train(config: SuperResConfig) -> tuple[SuperRes, Networks]:
    """Trains the networks as the config says and writes their weights into the workdir.

    Raises:
        StoppedError: a signal asked for an end, and the work is saved.
        UsageError: a setting is out of range, the workdir holds networks already or those of another training.
        DataError: the data lacks a band or a train split, is damaged, or the workdir cannot be written.
    """
    require_keras_2()
    manifest = manifests.read(config.data)
    spec = spec_for(manifest, config)
    if not manifest.split("train", config.data).records:
        raise DataError("the train split has no records", path=config.data)
    try:
        config.workdir.mkdir(parents=True, exist_ok=True)
        with locks.held(config.workdir / workdir.LOCK, "another run"), policy(config.precision):
            return _train(config, manifest, spec)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=config.workdir) from error


def _train(config: SuperResConfig, manifest: Manifest, spec: SuperRes) -> tuple[SuperRes, Networks]:
    run = _prepare(config, manifest, spec)
    with reading(config), preemption.requests() as request:
        _steps(run, request)
    return _write(run, spec), run.networks


def spec_for(manifest: Manifest, config: SuperResConfig) -> SuperRes:
    """Returns the spec of networks for the data of a manifest; DataError where it lacks bands or their statistics."""
    features = tuple(
        feature for feature in manifest.features if feature.name in {f.name for f in S2_FEATURES}
    )
    missing = [band for f in S2_FEATURES for band in f.band_names if band not in manifest.bands]
    if missing:
        raise DataError(
            f"no band {', '.join(missing)}: super-resolution learns from all twelve of Sentinel-2",
            path=config.data,
            remedy=f"convert an archive that has them; this data has: {' '.join(manifest.bands)}",
        )
    bands = [band for feature in features for band in feature.band_names]
    unknown = [band for band in bands if band not in manifest.statistics]
    if unknown:
        remedy = "convert with a train split that is not empty"
        raise DataError(
            f"no statistics of {', '.join(unknown)} in the manifest", path=config.data, remedy=remedy
        )
    for feature in features:
        if feature.gsd in GUIDES and not wald.side(feature.shape[0], feature.gsd):
            raise DataError(f"{feature.name} is too small to be degraded: {feature.shape}", path=config.data)
    statistics = {
        band: (manifest.statistics[band].mean, manifest.statistics[band].std or 1.0) for band in bands
    }
    return SuperRes(features, statistics, config.filters, config.blocks, origin=manifest.origin)


def read(directory: Path) -> SuperRes:
    """Returns the spec of trained networks.

    Raises:
        UsageError: the folder holds none.
        DataError: their file is damaged.
    """
    path = directory / SPEC
    if not path.is_file():
        remedy = "name the -o of a `python -m jeoparda_tf.superres` that has ended"
        raise UsageError(f"no trained super-resolution: it has no {SPEC}", path=directory, remedy=remedy)
    try:
        return SuperRes.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error


def load(directory: Path) -> tuple[SuperRes, Networks]:
    """Returns trained networks with their weights; errors as in `read`."""
    spec = read(directory)
    networks = _built(spec)
    superres.load([layer for n in networks.values() for layer in n.layers], spec, directory / WEIGHTS)
    return spec, networks


def put_into(model: Any, spec: SuperRes, directory: Path) -> None:
    """Gives a classifier the weights of the networks that are its first layers; DataError where they are damaged."""
    superres.load(model.layers, spec, directory / WEIGHTS)


@contextmanager
def policy(precision: str) -> Iterator[None]:
    """Has layers made in the block compute in this precision."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _built(spec: SuperRes) -> Networks:
    # Trained here, whatever a classifier does with them.
    networks = {gsd: superres.Network(dataclasses.replace(spec, trainable=True), gsd) for gsd in GUIDES}
    for network in networks.values():
        network.build()
    return networks


def _prepare(config: SuperResConfig, manifest: Manifest, spec: SuperRes) -> _Run:
    path, folder = config.workdir / workdir.CONFIG, config.workdir / workdir.CHECKPOINTS
    begun = path.is_file() and bool(checkpoints.all_of(folder))
    if begun and not config.resume:
        remedy = "give --resume to go on with it, or another --workdir"
        raise UsageError("holds a training already", path=config.workdir, remedy=remedy)
    now = json.loads(config.to_json())
    if begun:
        before = workdir.read_config(config.workdir)
        changed = [
            f"{k} was {before.get(k)}, now {now[k]}" for k in now if k != "data" and before.get(k) != now[k]
        ]
        if changed:
            problem = f"this training had other settings: {'; '.join(changed)}"
            raise UsageError(problem, path=path, remedy="resume with the same flags")
    workdir.write_text(path, config.to_json())
    tf.keras.utils.set_random_seed(config.seed)
    networks, optimizer = _built(spec), tf.keras.optimizers.Adam(config.learning_rate)
    step.create_slots(optimizer, [v for n in networks.values() for v in n.trainable_variables])
    variables = tf.train.Checkpoint(optimizer=optimizer, **{n.name: n for n in networks.values()})
    run = _Run(config, manifest, networks, optimizer, variables)
    found = checkpoints.last_whole(folder) if config.resume else None
    if found:
        if found[1]["data"] != _data_hash(manifest):
            raise UsageError(
                "the train split is not the one that this training began with",
                path=config.data,
                remedy="resume on the same shards; they may lie elsewhere",
            )
        checkpoints.restore(found[0], variables)
        run.step, run.history, run.losses = (found[1].get(name, []) for name in ("step", "history", "losses"))
        print(f"resuming at step {run.step}", flush=True)
    return run


def _data_hash(manifest: Manifest) -> str:
    return hashlib.sha256("".join(s.sha256 for s in manifest.splits["train"].shards).encode()).hexdigest()


def _steps(run: _Run, request: preemption.Request) -> None:
    config, total = run.config, run.config.steps
    schedule = Schedule("cosine", config.learning_rate, total, min(_WARMUP, total // 10))
    one = _step(run)
    bar = tqdm(total=total, initial=run.step, desc="training", unit="step", disable=None)
    for arrays in _batches(run):
        run.optimizer.learning_rate.assign(schedule(run.step))
        run.losses.append(one(arrays, tf.constant(run.step, tf.int64)))
        run.step += 1
        bar.update()
        if run.step % config.checkpoint_every == 0 or run.step == total:
            _look(run, schedule(run.step - 1))
        elif request.signal:
            _save(run)
        if request.signal and run.step < total:
            raise StoppedError(
                f"{signal.Signals(request.signal).name} came; saved at step {run.step} of {total}",
                remedy="the same command with --resume goes on from there",
                exit_code=preemption.exit_code(request.signal),
            )
    bar.close()


def _batches(run: _Run) -> Iterator[Any]:
    """Yields the batches of the steps to go, from the train split as often as it takes."""
    config, records = run.config, run.manifest.splits["train"].records
    each = records // run.batch
    spec = run.networks[20].spec
    while run.step < config.steps:
        epoch, start = divmod(run.step, each)
        dataset = pipeline.for_training(
            config.data, run.manifest, spec.features, batch=run.batch, epoch=epoch, seed=config.seed,
            start_step=start, shuffle_buffer=_SHUFFLE,
        )  # fmt: skip
        for arrays, _ in dataset.take(config.steps - run.step):
            yield by_distance(spec, arrays)


def _step(run: _Run) -> Any:
    """Returns one step, compiled once: (arrays, number) -> loss.

    The loss is the mean absolute error in standard deviations of each band, as in Lanaras et al. 2018 but for the unit,
    of both networks together; they share no weights, so each learns as if alone.
    """
    networks, optimizer, seed = run.networks, run.optimizer, run.config.seed
    variables = [v for network in networks.values() for v in network.trainable_variables]
    spec = networks[20].spec

    @tf.function
    def one(arrays: dict[int, Any], number: Any) -> Any:
        with tf.GradientTape() as tape:
            total = 0.0
            for gsd, network in networks.items():
                spare = arrays[gsd].shape[1] - wald.side(arrays[gsd].shape[1], gsd)
                key = tf.stack([tf.constant(seed, tf.int64), number])
                offset = tf.random.stateless_uniform([2], key, 0, spare + 1, tf.int32)
                low, truth = wald.pair(arrays, gsd, (offset[0], offset[1]))
                _, image = superres.sharpened(network, low)
                spread = tf.constant([spec.statistics[band][1] for band in spec.bands(gsd)], tf.float32)
                total += tf.reduce_mean(tf.abs(image - truth) / spread)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))
        return total

    return one


def _look(run: _Run, rate: float) -> None:
    """Scores on val, notes it in the history and saves."""
    loss, run.losses = float(np.mean([float(loss) for loss in run.losses])), []
    if not np.isfinite(loss):
        raise DataError(f"the loss is {loss} by step {run.step}", path=run.config.workdir,
                        remedy="lower --learning-rate; look for pixels that are no numbers")  # fmt: skip
    row: dict[str, Any] = {"step": run.step, "learning_rate": rate, "loss": loss}
    words = [f"step {run.step}/{run.config.steps}", f"loss {loss:.4f}"]
    split = run.manifest.splits.get("val")
    if split and split.records:
        spec = run.networks[20].spec
        found = score(spec, run.networks, run.config, run.manifest, "val", windows=False)[0]
        for gsd, both in found.items():
            ours, theirs = (float(both[way].rmse.mean()) for way in ("superres", "bicubic"))
            row[f"val_rmse_{gsd}m"] = ours
            words.append(f"RMSE on val, {gsd} m bands: {ours:.1f} (bicubic {theirs:.1f})")
    run.history.append(row)
    text = io.StringIO()
    # A training may go on on data that has a val split now.
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in run.history for name in row)))
    writer.writeheader()
    writer.writerows(run.history)
    # Before the checkpoint: killed between the two, a training writes it again.
    workdir.write_text(run.config.workdir / workdir.HISTORY, text.getvalue())
    _save(run)
    print(", ".join(words), flush=True)


def _save(run: _Run) -> None:
    folder = run.config.workdir / workdir.CHECKPOINTS
    state: checkpoints.State = {"step": run.step, "score": None, "history": run.history}
    state["data"] = _data_hash(run.manifest)
    state["losses"] = [float(loss) for loss in run.losses]
    checkpoints.save(folder, run.variables, state)
    checkpoints.prune(folder, _KEEP)


def _write(run: _Run, spec: SuperRes) -> SuperRes:
    content, sha256 = superres.packed(list(run.networks.values()))
    spec = dataclasses.replace(spec, sha256=sha256)
    path = run.config.workdir / WEIGHTS
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    workdir.write_text(run.config.workdir / SPEC, json.dumps(dataclasses.asdict(spec), indent=1) + "\n")
    return spec
