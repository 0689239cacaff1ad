"""The tf.data pipelines, one function a use: straight lists of steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from tfrecords_tools.manifest import Feature, Manifest, Split

from .. import records
from ..stack import tf
from . import augment, sampling
from .heavy import heavy as heavily

# Shards that one rank reads side by side.
_CYCLE = 16


def for_training(
    directory: Path,
    manifest: Manifest,
    features: Sequence[Feature],
    *,
    batch: int,
    epoch: int,
    seed: int,
    rank: int = 0,
    size: int = 1,
    start_step: int = 0,
    flips: bool = True,
    heavy: bool = False,
    mixup: float = 0.0,
    repeat_factors: Optional[np.ndarray] = None,
    shuffle_buffer: int = 2048,
    threads: int = 0,
    split: str = "train",
) -> Any:
    """Yields one rank's batches of one epoch.

    Everything random is a function of (seed, epoch, rank, size) or, for the augmentation, of (seed, global step, rank):
    a run that starts again at `start_step` sees the batches it would have seen. Raw records are skipped before they are
    parsed.

    Args:
        directory: of the shards.
        manifest: of that directory.
        features: the arrays to decode.
        batch: records of this rank in a step.
        epoch: counted from 0.
        seed: of order and augmentation.
        rank: of this process.
        size: number of ranks.
        start_step: steps of this epoch to leave out.
        flips: whether to turn and mirror.
        heavy: whether to shift, crop, cut out, change brightness and gains, and add noise.
        mixup: alpha of the Beta distribution; 0 for none.
        repeat_factors: how often each record comes on average, in the order of the shards; None for once.
        shuffle_buffer: records of the buffer (160 kB each).
        threads: of tf.data in this process; 0 lets TensorFlow choose.
        split: its name.

    Returns:
        tf.data.Dataset of (inputs, labels): a dict of [batch, *shape] by feature name, raw digital numbers (of the
        stored dtype, float32 after heavy augmentation), and float32 [batch, classes].
    """
    chosen = manifest.split(split, directory)
    plan, times, steps = _plan(chosen, repeat_factors, epoch, seed, rank, size, batch)
    dataset = _read(directory, chosen, plan, side_by_side=_CYCLE, times=times)
    dataset = dataset.shuffle(shuffle_buffer, seed=_mix(seed, epoch, rank), reshuffle_each_iteration=False)
    dataset = dataset.batch(batch, drop_remainder=True).skip(start_step)
    numbers = tf.data.Dataset.range(epoch * steps + start_step, (epoch + 1) * steps)
    dataset = tf.data.Dataset.zip((numbers, dataset))
    classes, key = len(manifest.nomenclature.classes), seed * 65_537 + rank
    prepare = _preparation(features, classes, key, flips=flips, heavy=heavy, mixup=mixup)
    dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2).with_options(_options(threads))


def _preparation(
    features: Sequence[Feature], classes: int, key: int, *, flips: bool, heavy: bool, mixup: float
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Returns what makes a batch of (global step, serialised records): decoded, augmented by draws of (key, step)."""

    def prepare(step: Any, serialized: Any) -> tuple[Any, Any]:
        arrays = records.decode(serialized, features, classes)
        labels = arrays.pop("labels")
        base = tf.stack([tf.constant(key, tf.int64), step])
        seeds = tf.random.split(base, 2)
        if flips:
            arrays = augment.dihedral(arrays, seeds[0])
        if heavy:
            arrays = heavily(arrays, {f.name: f.gsd for f in features}, tf.random.fold_in(base, 2))
        if mixup:
            arrays, labels = augment.mixup(arrays, labels, seeds[1], mixup)
        return arrays, labels

    return prepare


def _plan(
    split: Split, factors: Optional[np.ndarray], epoch: int, seed: int, rank: int, size: int, batch: int
) -> tuple[list[sampling.Slice], Optional[list[np.ndarray]], int]:
    """Returns the slices of a rank's epoch, how often each record of each shard comes (None: once), and the steps."""
    counts = [shard.records for shard in split.shards]
    times: Optional[list[np.ndarray]] = None
    listed = sum(counts)
    if factors is not None:
        listed = sampling.lengthened(factors)
        comes = sampling.occurrences(factors, epoch=epoch, seed=seed)
        times = np.split(comes, np.cumsum(counts)[:-1])
        counts = [int(part.sum()) for part in times]
    steps = sampling.steps_per_epoch(listed, size, batch)
    plan = sampling.training_plan(
        counts, epoch=epoch, seed=seed, rank=rank, size=size, batch=batch, steps=steps
    )
    return plan, times, steps


def for_evaluation(
    directory: Path,
    manifest: Manifest,
    split: str,
    features: Sequence[Feature],
    *,
    batch: int,
    rank: int = 0,
    size: int = 1,
    threads: int = 0,
) -> Any:
    """Yields one rank's part of a split, in the order of the shards; over all ranks every record exactly once.

    Returns:
        tf.data.Dataset of (inputs, labels, valid): as in training, unaugmented; the last batch is filled up with zeros
        to `batch`, and `valid`, bool [batch], is False there.
    """
    chosen = manifest.split(split, directory)
    plan = sampling.evaluation_plan([shard.records for shard in chosen.shards], rank=rank, size=size)
    classes = len(manifest.nomenclature.classes)

    def prepare(serialized: Any) -> tuple[Any, Any, Any]:
        arrays = records.decode(serialized, features, classes)
        arrays["valid"] = tf.ones_like(arrays["labels"][:, 0], tf.bool)
        missing = batch - tf.shape(serialized)[0]
        arrays = {name: _fill(array, missing, batch) for name, array in arrays.items()}
        return arrays, arrays.pop("labels"), arrays.pop("valid")

    dataset = _read(directory, chosen, plan, side_by_side=1).batch(batch)
    dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2).with_options(_options(threads))


def _read(
    directory: Path,
    split: Split,
    plan: Sequence[sampling.Slice],
    side_by_side: int,
    times: Optional[Sequence[np.ndarray]] = None,
) -> Any:
    """Reads the planned slices, `side_by_side` in turn; each is cut before it is mixed with others.

    `times` says how often each record of each shard comes; slices then count occurrences.
    """
    files = [os.fspath(directory / split.shards[part.shard].file) for part in plan]
    columns = [
        tf.constant(files, tf.string),
        tf.constant([p.skip for p in plan], tf.int64),
        tf.constant([p.take for p in plan], tf.int64),
    ]
    if times is not None:
        # What this rank reads only: a row of another length a slice.
        columns.append(tf.RaggedTensor.from_row_lengths(
            np.concatenate([np.zeros(0, np.int64), *(times[p.shard] for p in plan)]),
            tf.constant([len(times[p.shard]) for p in plan], tf.int64),
        ))  # fmt: skip
    cuts = tf.data.Dataset.from_tensor_slices(tuple(columns))

    def one(file: Any, skip: Any, take: Any, repeats: Any = None) -> Any:
        dataset = open_shard(file)
        if repeats is not None:
            dataset = tf.data.Dataset.zip((dataset, tf.data.Dataset.from_tensor_slices(repeats)))
            dataset = dataset.flat_map(_repeat)
        return dataset.skip(skip).take(take)

    return cuts.interleave(one, cycle_length=side_by_side, block_length=1)


def open_shard(files: Any) -> Any:
    """Returns the records of one shard, or of several one after the other, as strings; both CRCs are checked.

    Each record comes by one read of its own, without TensorFlow's buffer between: that saves a copy, and sixteen shards
    side by side would push each other's buffers out of the processor's cache. The operating system reads ahead.
    """
    return tf.data.TFRecordDataset(files, buffer_size=0)


def _repeat(record: Any, times: Any) -> Any:
    return tf.data.Dataset.from_tensors(record).repeat(times)


def _fill(array: Any, missing: Any, batch: int) -> Any:
    padded = tf.pad(array, [[0, missing]] + [[0, 0]] * (array.shape.rank - 1))
    return tf.ensure_shape(padded, (batch, *array.shape[1:]))


def _mix(*numbers: int) -> int:
    """Folds several numbers into one seed; (1, 0) and (0, 1) must differ."""
    value = 0
    for number in numbers:
        value = (value * 1_000_003 + number + 1) % (2**31 - 1)
    return value


def _options(threads: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    # Several batches are prepared side by side; threads that share one out cost more than they bring.
    options.threading.max_intra_op_parallelism = 1
    # As many batches as there are threads need no tuning; and on a rank with one core to itself the thread that tunes
    # was seen to hold the end of each epoch up, for as long as half of the epoch.
    options.autotune.enabled = False
    if threads:
        # Each process would take all cores otherwise.
        options.threading.private_threadpool_size = threads
    return options
