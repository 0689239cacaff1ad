"""Training from the first step, or from the last checkpoint, to the end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tfrecords_tools import locks, table
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, PeerError, StoppedError, UsageError, UserError

from .. import models
from ..bigearthnet import bands
from ..input import pipeline, sampling
from ..models.spec import ModelSpec, spec_for
from ..models.superres_spec import SuperRes
from ..stack import require_keras_2, tf
from . import (
    callbacks,
    checkpoints,
    distributed,
    initial,
    losses,
    optimizers,
    preemption,
    staging,
    step,
    superres,
    sync_batchnorm,
    watchdog,
    workdir,
)
from .callbacks import Run
from .config import FitConfig, check, differences
from .schedules import Schedule


def train(config: FitConfig) -> Path:
    """Trains a model as the config says, on all ranks that were launched.

    Args:
        config: checked here.

    Returns:
        the workdir, with checkpoints, history and all that `evaluate` needs.

    Raises:
        StoppedError: a signal asked for an end, and the work is saved.
        UserError: with what was wrong on the lowest rank where something was; silent on the others.
    """
    with preemption.requests() as request, ExitStack() as open_files:
        distributed.start(config.stall_limit)
        run, error = None, None
        try:
            run = _prepare(config, open_files)
        except UserError as problem:
            error = problem
        distributed.agree(error)
        assert run is not None  # else agree has raised
        with watchdog.Watchdog(config.workdir / workdir.HEARTBEATS, config.stall_limit) as run.watch:
            _train(run, request)
    return config.workdir


def _train(run: Run, request: preemption.Request) -> None:
    config = run.config
    try:
        if config.stage:
            _stage(run, config.stage)
        if not (config.resume and _resume(run)) and config.init:
            _initialise(run, config.init)
        _epochs(run, request)
    except (PeerError, StoppedError):
        raise
    except UserError as problem:
        if run.watch.first():
            raise
        raise PeerError(problem.exit_code) from problem
    except OSError as problem:  # of rank 0, which keeps the history
        remedy = "free some space, then run the same command with --resume"
        raise DataError(f"cannot be written: {problem}", path=config.workdir, remedy=remedy) from problem
    except tf.errors.OpError as problem:
        if distributed.is_peer_failure(problem):
            raise run.watch.lost(problem.message) from problem
        if not run.watch.first():
            raise PeerError(1) from problem
        remedy = f"`python -m tfrecords_tools.verify {config.data}` finds damaged shards; then run again with --resume"
        raise DataError(
            f"rank {distributed.rank()}, step {run.step}: {problem.message}", path=config.data, remedy=remedy
        ) from problem


def _stage(run: Run, folder: Path) -> None:
    error = None
    try:
        run.data = staging.stage(run.config.data, run.manifest, folder)
    except UserError as problem:
        error = problem
    distributed.agree(error)


def _prepare(config: FitConfig, open_files: ExitStack) -> Run:
    """Checks all that can be checked before the first step, and builds everything."""
    require_keras_2()
    check(config)
    manifest = manifests.read(config.data)
    split = manifest.split("train", config.data)
    size = distributed.size()
    factors = _repeat_factors(config, manifest)
    records = split.records if factors is None else sampling.lengthened(factors)
    steps = sampling.steps_per_epoch(records, size, config.step_patches)
    if steps == 0:
        several = f" x accumulate {config.accumulate}" if config.accumulate > 1 else ""
        problem = (
            f"{split.records} training records are fewer than {size} ranks x batch {config.batch}{several}"
        )
        raise UsageError(problem, path=config.data, remedy="lower --batch or start fewer ranks")
    tf.keras.utils.set_random_seed(config.seed)
    chosen = bands.choose(config.bands)
    spec = spec_for(
        manifest, chosen, superres=_superres(config, chosen), name=config.model, upsample=config.upsample,
        l2=0.0 if config.freeze_backbone else config.l2,  # of weights that stay it is a constant
        dropout=config.dropout, precision=config.precision, seed=config.seed * 65_537 + distributed.rank(),
    )  # fmt: skip
    begun = config.resume and bool(checkpoints.all_of(config.workdir / workdir.CHECKPOINTS))
    if config.init and not begun and distributed.rank() == 0:
        initial.check(config.init, spec)
    _open_workdir(config, spec, size, open_files)
    model = models.build(spec)
    if spec.superres and config.superres:
        superres.put_into(model, spec.superres, config.superres)
    if config.sync_batchnorm and size > 1:
        model = sync_batchnorm.synchronised(model)
    if config.freeze_backbone:
        initial.freeze(model)
    optimizer = optimizers.build(config)
    step.create_slots(optimizer, model.trainable_variables)
    loss_sum = tf.Variable(0.0, trainable=False, name="loss_sum")
    variables = tf.train.Checkpoint(model=model, optimizer=optimizer, loss_sum=loss_sum)
    if distributed.rank() == 0:
        workdir.write_text(config.workdir / workdir.MODEL, spec.to_json())
    return Run(config, manifest, spec, model, optimizer, variables, loss_sum, steps, config.data, factors)


def _superres(config: FitConfig, chosen: tuple[str, ...]) -> Optional[SuperRes]:
    if config.superres is None:
        return None
    known = dataclasses.replace(superres.read(config.superres), trainable=config.train_superres)
    if not known.wanted(chosen):
        raise UsageError(
            f"none of the bands {' '.join(chosen)} is coarser than 10 m: leave out --upsample superres"
        )
    return known


def _repeat_factors(config: FitConfig, manifest: manifests.Manifest) -> Optional[np.ndarray]:
    if not config.repeat_threshold:
        return None
    labels = table.read_labels(config.data, "train", manifest.nomenclature.classes)
    split = manifest.splits["train"]
    if len(labels) != split.records or labels.sum(0).tolist() != list(split.label_counts):
        raise DataError(
            f"does not list the labels that {manifests.FILE_NAME} counts",
            path=config.data / manifests.TABLE_NAME,
            remedy="`python -m tfrecords_tools.verify` finds out why",
        )
    return sampling.repeat_factors(labels, config.repeat_threshold)


def _open_workdir(config: FitConfig, spec: ModelSpec, size: int, open_files: ExitStack) -> None:
    """Makes and locks the workdir, or checks that the one there is of this very run."""
    if distributed.rank() == 0:
        try:
            config.workdir.mkdir(parents=True, exist_ok=True)
            open_files.enter_context(locks.held(config.workdir / workdir.LOCK, "another run"))
            shutil.rmtree(config.workdir / workdir.HEARTBEATS, ignore_errors=True)
            if size > 1:
                (config.workdir / workdir.HEARTBEATS).mkdir()
        except OSError as error:
            raise _unwritable(config.workdir, error) from error
    path = config.workdir / workdir.CONFIG
    begun = path.is_file() and bool(checkpoints.all_of(config.workdir / workdir.CHECKPOINTS))
    if begun and not config.resume:
        raise UsageError(
            "holds a run already",
            path=config.workdir,
            remedy="give --resume to go on with it, or another --workdir",
        )
    if begun:
        _check_same(workdir.read_config(config.workdir), json.loads(config.to_json()), path)
        if spec.superres != workdir.read_spec(config.workdir).superres:
            problem = "these are not the super-resolution networks that this run began with"
            raise UsageError(problem, path=config.superres, remedy="resume with the same --superres")
    if distributed.rank() != 0:
        return
    try:
        workdir.write_text(path, config.to_json())
        workdir.write_text(config.workdir / workdir.ENVIRONMENT, workdir.environment(size))
    except OSError as error:
        raise _unwritable(config.workdir, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot be written: {error.strerror}", path=path, remedy="name another --workdir")


def _check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    changed = differences(before, now)
    if changed:
        raise UsageError(
            f"this run had other settings: {'; '.join(changed)}",
            path=path,
            remedy="resume with the same flags",
        )


def _initialise(run: Run, init: str) -> None:
    """Has rank 0 take the weights that the run begins with; the others get them from it before the first step."""
    error = None
    if distributed.rank() == 0:
        try:
            result, source = initial.fill(run.model, run.spec, init)
            initial.write(run.config.workdir, result, source)
            print(f"begins with {source['source']}: {initial.in_words(result)}", flush=True)
        except UserError as problem:
            error = problem
    distributed.agree(error)


def _resume(run: Run) -> bool:
    """Puts the run where its last whole checkpoint left it, if there is one; every rank reads it in the workdir."""
    found: Optional[tuple[Path, checkpoints.State]] = None
    told = ""
    error: Optional[UserError] = None
    try:
        found = checkpoints.last_whole(run.checkpoint_folder)
        if found:
            _check_fits(run, found[1])
            checkpoints.restore(found[0], run.variables)
            run.step, run.history = found[1]["step"], found[1]["history"]
            run.shift = found[1].get("shift", 0)
            told = _change_ranks(run, found[1])
    except UserError as problem:
        error = problem
    distributed.agree(error)
    steps = distributed.gather(np.array([run.step])).tolist()
    if len(set(steps)) > 1:
        other = f"the ranks find other checkpoints in it: of steps {steps}"
        distributed.agree(
            UsageError(other, path=run.config.workdir, remedy="put it where all nodes see the same files")
        )
    if distributed.rank() == 0:
        print(
            f"resuming at step {run.step}{told}" if found else "no checkpoint yet: starting at step 0",
            flush=True,
        )
    return found is not None


def _check_fits(run: Run, state: checkpoints.State) -> None:
    """Raises a UsageError where the steps of a checkpoint would count other batches than those of this run."""
    if state["data"] != run.data_hash:
        problem = "the train split is not the one that this run began with"
        raise UsageError(
            problem, path=run.config.data, remedy="resume on the same shards; they may lie elsewhere"
        )


def _change_ranks(run: Run, state: checkpoints.State) -> str:
    """Goes on at the same share of the epoch, rounded down to a step; returns what changes."""
    before, now, config = state["ranks"], distributed.size(), run.config
    if before == now:
        return ""
    steps = state["steps_per_epoch"]
    epoch, done = divmod(run.step - run.shift, steps)
    kept = done * run.steps_per_epoch // steps
    run.shift = run.step - (epoch * run.steps_per_epoch + kept)
    run.loss_sum.assign(run.loss_sum * (kept / max(done, 1)))
    one = config.learning_rate * config.accumulate
    scaled = (
        f", peak learning rate {one * now:g} instead of {one * before:g}"
        if config.scale_learning_rate
        else ""
    )
    return (
        f", epoch {epoch + 1}, on {now} ranks instead of {before}: {run.steps_per_epoch} steps an epoch instead of "
        f"{steps}, records in another order{scaled}"
    )


def _epochs(run: Run, request: preemption.Request) -> None:
    config = run.config
    total = config.epochs * run.steps_per_epoch
    peak = config.learning_rate
    if config.scale_learning_rate:
        peak *= distributed.size() * config.accumulate
    warmup = round(config.warmup_epochs * run.steps_per_epoch)
    schedule = Schedule(config.schedule, peak, total, warmup, config.decay_at, config.decay_factor)
    train_step = step.make(
        run.model, run.optimizer, _loss(run), run.loss_sum,
        accumulate=config.accumulate, fp16_allreduce=config.fp16_allreduce,
    )  # fmt: skip
    calls = tf.keras.callbacks.CallbackList([
        callbacks.Heart(run), callbacks.LearningRate(run, schedule), callbacks.LossGuard(run),
        callbacks.RanksInStep(run), callbacks.Progress(run), callbacks.Validation(run), callbacks.Journal(run),
        callbacks.Checkpoints(run), callbacks.StopWhenAsked(run, request),
    ], model=run.model)  # fmt: skip
    calls.on_train_begin()
    for epoch in range(run.position // run.steps_per_epoch, config.epochs):
        calls.on_epoch_begin(epoch)
        for inputs, labels in _batches(run, epoch):
            calls.on_train_batch_begin(run.step)
            train_step(inputs, labels)
            run.step += 1
            calls.on_train_batch_end(run.step)
        logs: dict[str, Any] = {}
        calls.on_epoch_end(epoch, logs)
    calls.on_train_end()


def _batches(run: Run, epoch: int) -> Any:
    config = run.config
    return pipeline.for_training(
        run.data, run.manifest, run.spec.features, batch=config.step_patches, epoch=epoch, seed=config.seed,
        rank=distributed.rank(), size=distributed.size(), start_step=run.step_in_epoch, flips=config.flips,
        heavy=config.augment == "heavy", mixup=config.mixup, repeat_factors=run.repeat_factors,
        shuffle_buffer=config.shuffle_buffer,
        threads=distributed.threads() if distributed.local_size() > 1 else 0,
    )  # fmt: skip


def _loss(run: Run) -> losses.Loss:
    config, split = run.config, run.manifest.splits["train"]
    weights = losses.positive_weights(split.label_counts, split.records, config.positive_power)
    if config.loss == "focal":
        return losses.focal(config.focal_gamma, config.focal_alpha, weights)
    return losses.binary_cross_entropy(weights)
