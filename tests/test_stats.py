"""Stats: recounted numbers against numpy's, differences found, the same for any number of workers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import shards
from tfrecords_tools import manifest, stats, tfrecord, writer
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import BandStatistics

BANDS = (manifest.Band("A"), manifest.Band("B"))
FEATURES = (
    manifest.Feature("ten", "uint16", (4, 4, 2), 10, BANDS),
    manifest.Feature("radar", "float32", (4, 4, 1), 10, (manifest.Band("VV"),)),
    manifest.Feature("map", "uint16", (4, 4), 10),
)
CLASSES = manifest.Nomenclature("abc", ("a", "b", "c"))


@pytest.fixture
def small(tmp_path):
    counts = {"train": 7, "val": 2}
    shards.write(tmp_path, counts, shards=3, features=FEATURES, nomenclature=CLASSES, display={})
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_equal_numpy(small, workers):
    counts = stats.count(small, manifest.read(small), "train", workers)
    patches = shards.patches(7, FEATURES, 3, seed=0)
    assert counts.labels.tolist() == sum(patch.labels for patch in patches).tolist()
    result = counts.sums.result()
    for name, feature, channel in (("A", "ten", 0), ("B", "ten", 1), ("VV", "radar", 0)):
        pixels = np.stack([patch.arrays[feature][..., channel] for patch in patches]).astype(np.float64)
        assert result[name].count == 7 * 16
        assert result[name].mean == pytest.approx(pixels.mean(), rel=1e-13)
        assert result[name].std == pytest.approx(pixels.std(), rel=1e-12)
    assert list(result) == ["A", "B", "VV"]


def test_whole(small, capsys):
    assert stats.main([str(small)]) == 0
    assert "labels and bands are as the manifest says" in capsys.readouterr().out
    assert stats.main([str(small), "--split", "val", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "labels are as the manifest says" in out
    assert shards.ORIGIN in out


def test_other_counts_and_statistics_are_found(small, capsys):
    known = manifest.read(small)
    counts = list(known.splits["train"].label_counts)
    counts[2] += 5
    train = dataclasses.replace(known.splits["train"], label_counts=tuple(counts))
    b = dataclasses.replace(known.statistics["B"], std=known.statistics["B"].std * (1 + 1e-7))
    changed = {"splits": {**known.splits, "train": train}, "statistics": {**known.statistics, "B": b}}
    dataclasses.replace(known, **changed).write(small)
    assert stats.main([str(small)]) == 1
    assert "2 rows differ" in capsys.readouterr().out


def test_missing_statistics_are_found(small):
    dataclasses.replace(manifest.read(small), statistics={}).write(small)
    assert stats.main([str(small)]) == 1


def test_same():
    one = BandStatistics(9, 5.0, 1.0, 0.0, 9.0)
    assert stats.same(one, dataclasses.replace(one, mean=5.0 + 1e-12))
    assert stats.same(None, None)
    for other in ({"mean": 5.001}, {"std": 1.001}, {"count": 8}, {"min": 1.0}, {"max": 9.5}):
        assert not stats.same(one, dataclasses.replace(one, **other))
    assert not stats.same(one, None)


def test_damaged_record_is_named(small):
    path = small / "train-00000-of-00003.tfrecord"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="record 2: its data is damaged") as caught:
        stats.main([str(small), "--workers", "2"])
    assert caught.value.path == str(path)


def test_record_with_other_labels_is_named(small):
    path = small / "train-00000-of-00003.tfrecord"
    arrays = {"ten": bytes(64), "radar": bytes(64), "map": bytes(32)}
    with writer.ShardWriter(path) as shard:
        shard.write(tfrecord.encode_example({**arrays, "labels": np.ones(4, np.int64), "name": b"x"}))
    with pytest.raises(DataError, match="record 0: has 4 labels, not 3"):
        stats.main([str(small)])


def test_no_such_split(small):
    with pytest.raises(DataError, match="no split 'test'"):
        stats.main([str(small), "--split", "test"])
