"""The pipelines on real files: which records come, how often, in which order, augmented how."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.input import pipeline, sampling
from tests import shards
from tfrecords_tools.manifest import Manifest
from tfrecords_tools.tfrecord import decode_example, read_records

pytestmark = pytest.mark.tensorflow

TEN = bands.S2_FEATURES[:1]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Manifest]:
    directory = tmp_path_factory.mktemp("shards")
    return directory, shards.write(directory, {"train": 50, "val": 7, "test": 0}, shards=3)


def stored(data, split: str) -> list[dict]:
    directory, manifest = data
    files = [directory / shard.file for shard in manifest.splits[split].shards]
    return [decode_example(record, manifest.features) for file in files for record in read_records(file)]


def batches(data, **kwargs) -> list[tuple[dict, np.ndarray]]:
    defaults = {"batch": 4, "epoch": 0, "seed": 1, "flips": False, "shuffle_buffer": 8}
    dataset = pipeline.for_training(*data, TEN, **{**defaults, **kwargs})
    return [({name: x.numpy() for name, x in inputs.items()}, labels.numpy()) for inputs, labels in dataset]


def keys(parts) -> list[bytes]:
    return [image.tobytes() for inputs, _ in parts for image in inputs["s2_10m"]]


def test_an_epoch_over_three_ranks_reads_what_is_stored_once(data):
    originals = {record["s2_10m"].tobytes(): record["labels"] for record in stored(data, "train")}
    read = [batches(data, rank=rank, size=3) for rank in range(3)]
    assert [len(part) for part in read] == [4, 4, 4]
    assert len({key for part in read for key in keys(part)}) == 48
    for part in read:
        for inputs, labels in part:
            for image, vector in zip(inputs["s2_10m"], labels):
                np.testing.assert_array_equal(originals[image.tobytes()], vector)


def test_repeated_records_come_as_often_as_planned_over_all_ranks(data):
    originals = [record["s2_10m"].tobytes() for record in stored(data, "train")]
    factors = np.where(np.arange(50) % 7 == 0, 3.4, 1.0)
    planned = sampling.occurrences(factors, epoch=2, seed=1)
    # 8 records come 3.4 times: 42 + 27.2 = 69.2; three ranks take 5 steps of 4, and leave 9 or 10 out.
    parts = [batches(data, rank=rank, size=3, epoch=2, repeat_factors=factors) for rank in range(3)]
    assert [len(part) for part in parts] == [5, 5, 5]
    counted = Counter(key for part in parts for key in keys(part))
    missing = planned - [counted[key] for key in originals]
    assert (missing >= 0).all()
    assert missing.sum() == planned.sum() - 60
    assert max(counted.values()) >= 3
    later = batches(data, rank=1, size=3, epoch=2, repeat_factors=factors, start_step=3)
    assert keys(later) == keys(parts[1][3:])
    # Factors of one are the plan without any.
    assert keys(batches(data, repeat_factors=np.ones(50))) == keys(batches(data))


def test_order_repeats_with_the_seed_and_changes_with_epoch_and_seed(data):
    first = keys(batches(data))
    assert keys(batches(data)) == first
    assert keys(batches(data, epoch=1)) != first
    assert keys(batches(data, seed=2)) != first


def test_starting_within_an_epoch_gives_the_batches_that_were_left(data):
    settings = {"flips": True, "heavy": True, "mixup": 0.4, "rank": 1, "size": 2, "epoch": 3}
    whole, rest = batches(data, **settings), batches(data, **settings, start_step=4)
    assert (len(whole), len(rest)) == (6, 2)
    for (inputs, labels), (expected, expected_labels) in zip(rest, whole[4:]):
        np.testing.assert_allclose(inputs["s2_10m"], expected["s2_10m"], rtol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)


def test_ranks_and_steps_are_augmented_differently(data):
    plain = batches(data, batch=8, shuffle_buffer=1)
    turned = batches(data, batch=8, shuffle_buffer=1, flips=True)
    same = [[(a == b).all() for a, b in zip(x[0]["s2_10m"], y[0]["s2_10m"])] for x, y in zip(plain, turned)]
    # One of eight orientations is the original one.
    assert 0 < np.mean(same) < 0.4
    assert len({tuple(row) for row in same}) > 1


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_evaluation_gives_every_record_once_in_order_and_marks_the_padding(data, size):
    expected = stored(data, "val")
    images, labels = [], []
    for rank in range(size):
        for inputs, truth, valid in pipeline.for_evaluation(*data, "val", TEN, batch=4, rank=rank, size=size):
            assert inputs["s2_10m"].shape == (4, 120, 120, 4)
            assert not inputs["s2_10m"].numpy()[~valid.numpy()].any()
            images += list(inputs["s2_10m"].numpy()[valid.numpy()])
            labels += list(truth.numpy()[valid.numpy()])
    np.testing.assert_array_equal(images, [record["s2_10m"] for record in expected])
    np.testing.assert_array_equal(labels, [record["labels"] for record in expected])


@pytest.mark.parametrize("threads", [0, 1])
def test_nothing_is_tuned_while_training(data, threads):
    # TensorFlow's tuner holds the end of an epoch up on a rank with one core: seconds that only a clock sees.
    directory, manifest = data
    dataset = pipeline.for_training(
        directory, manifest, manifest.features, batch=2, epoch=0, seed=0, threads=threads
    )
    assert dataset.options().autotune.enabled is False
    assert dataset.options().threading.private_threadpool_size == (threads or None)


def test_an_empty_split_gives_nothing(data):
    assert list(pipeline.for_evaluation(*data, "test", TEN, batch=4)) == []
