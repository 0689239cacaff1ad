"""Verify: whole is whole, and every kind of fault is found and named."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from tests import shards
from tfrecords_tools import manifest, table, tfds, tfrecord, verify, writer
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Band, Feature, Nomenclature

FEATURES = (Feature("ten", "uint16", (4, 4, 2), 10, (Band("A"), Band("B"))),)
CLASSES = Nomenclature("abc", ("a", "b", "c"))
FIRST, SECOND = "train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"


@pytest.fixture
def small(tmp_path):
    counts = {"train": 6, "val": 2}
    shards.write(tmp_path / "data", counts, features=FEATURES, nomenclature=CLASSES, display={})
    return tmp_path / "data"


def _faults(directory, workers=1):
    return verify.verify(directory, manifest.read(directory), workers)


def _edit(directory, **changes):
    known = dataclasses.replace(manifest.read(directory), **changes)
    tfds.write(directory, known)
    known.write(directory)


def _rewrite(path, records):
    """Writes other records under a shard's name, and the manifest as if they were meant."""
    with writer.ShardWriter(path) as shard:
        for record in records:
            shard.write(record)
    known = manifest.read(path.parent)
    splits = {
        name: dataclasses.replace(
            split, shards=tuple(shard.shard if s.file == path.name else s for s in split.shards)
        )
        for name, split in known.splits.items()
    }
    _edit(path.parent, splits=splits)


@pytest.mark.parametrize("workers", [1, 2])
def test_whole(small, workers):
    assert _faults(small, workers) == []


def test_main(small, capsys):
    assert verify.main([str(small), "--workers", "1"]) == 0
    assert "is whole: 2 splits, 4 shards, 8 records" in capsys.readouterr().out
    (small / FIRST).unlink()
    assert verify.main([str(small)]) == 1
    out = capsys.readouterr().out
    assert f"{FIRST}: is missing\n" in out
    assert "is damaged: 1 faults" in out


def test_every_flipped_bit_is_found(small):
    path = small / FIRST
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    known = manifest.read(small)
    shard = known.splits["train"].shards[0]
    for bit in generator.choice(len(whole) * 8, 200, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        faults = verify.read_shard(small, shard, FEATURES, 3).faults
        record = (bit // 8) // (len(whole) // 3)  # three records of nearly one size
        near = {f"record {max(record + step, 0)}: " for step in (-1, 0, 1)}
        assert faults, bit
        assert any(faults[0].startswith(start) for start in near), (bit, faults)


@pytest.mark.parametrize(
    ("byte", "fault"), [(3, "its length is damaged"), (40, "its data is damaged"), (9, "its length")]
)
def test_flipped_bit_names_shard_and_record(small, byte, fault):
    path = small / SECOND
    content = bytearray(path.read_bytes())
    first = len(tfrecord.frame(next(tfrecord.read_records(path))))
    content[first + byte] ^= 4
    path.write_bytes(content)
    faults = _faults(small)
    assert faults[0].startswith(f"{SECOND}: record 1: {fault}")


def test_damaged_data_does_not_hide_what_comes_behind(small):
    path = small / FIRST
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    content[-30] ^= 1
    path.write_bytes(content)
    assert [fault.split(": its")[0] for fault in _faults(small)] == [
        f"{FIRST}: record 0",
        f"{FIRST}: record 2",
    ]


def test_truncated(small):
    content = (small / FIRST).read_bytes()
    (small / FIRST).write_bytes(content[:-5])
    assert _faults(small) == [f"{FIRST}: record 2: is cut off"]


def test_truncated_between_records(small):
    records = list(tfrecord.read_records(small / FIRST))
    (small / FIRST).write_bytes(b"".join(map(tfrecord.frame, records[:2])))
    assert _faults(small) == [f"{FIRST}: has 2 records, the manifest says 3"]


def test_empty_shard(small):
    (small / FIRST).write_bytes(b"")
    assert _faults(small) == [f"{FIRST}: has 0 records, the manifest says 3"]


def test_swapped(small):
    shutil.move(small / FIRST, small / "kept")
    shutil.move(small / SECOND, small / FIRST)
    shutil.move(small / "kept", small / SECOND)
    faults = _faults(small)
    for name, other in ((FIRST, "0_3"), (SECOND, "0_0")):
        mine = [fault for fault in faults if fault.startswith(name)]
        assert len(mine) == 2
        assert "manifest" in mine[0]
        assert f"record 0 is S2A_MSIL2A_20170613T101031_{other} " in mine[1]
        assert "2 more records" in mine[1]


def test_shard_of_another_directory(small, tmp_path):
    shards.write(
        tmp_path / "other", {"train": 6}, features=FEATURES, nomenclature=CLASSES, display={}, seed=5
    )
    shutil.copy(tmp_path / "other" / FIRST, small / FIRST)
    faults = _faults(small)
    assert all(fault.startswith(FIRST) for fault in faults)
    assert "20170613T101031_50_0" in faults[1]


def test_foreign_file(small):
    shutil.copy(small / FIRST, small / "train-00002-of-00002.tfrecord")
    assert _faults(small) == ["train-00002-of-00002.tfrecord: not in the manifest"]


def test_unreadable_record_is_no_example(small):
    records = list(tfrecord.read_records(small / FIRST))
    _rewrite(small / FIRST, [records[0], b"\xff\xff", records[2]])
    (fault,) = _faults(small)
    assert fault.startswith(f"{FIRST}: record 1: cannot be decoded: not a tf.train.Example")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"ten": bytes(62)}, "cannot be decoded: ten has 62 bytes"),
        ({"labels": np.array([0, 1], np.int64)}, "labels are not 3 zeros and ones"),
        ({"labels": np.array([0, 1, 2], np.int64)}, "labels are not 3 zeros and ones"),
    ],
)
def test_record_of_wrong_size(small, values, fault):
    records = list(tfrecord.read_records(small / FIRST))
    good = {"ten": bytes(64), "labels": np.array([1, 0, 0], np.int64), "name": b"x"}
    _rewrite(small / FIRST, [tfrecord.encode_example({**good, **values}), *records[1:]])
    assert any(f"{FIRST}: record 0: {fault}" in found for found in _faults(small))


def test_labels_differ_from_the_table(small):
    rows = [table.Row(**row) for row in table.read(small).to_pylist()]
    rows[1] = rows[1]._replace(labels=["a", "b", "c"])
    table.write(small, rows)
    (fault,) = _faults(small)
    assert fault.startswith(f"{FIRST}: record 1 is ")
    assert "['a', 'b', 'c']" in fault


def test_table_with_too_few_rows_a_foreign_shard_and_a_name_twice(small):
    rows = [table.Row(**row) for row in table.read(small).to_pylist()]
    rows[2] = rows[2]._replace(shard="elsewhere.tfrecord", name=rows[3].name)
    table.write(small, rows)
    assert _faults(small) == [
        "records.parquet: names a foreign shard elsewhere.tfrecord",
        f"records.parquet: has {rows[3].name} 2 times",
        f"{FIRST}: records.parquet has 2 rows of it, the manifest says 3",
    ]


def test_no_table(small):
    (small / "records.parquet").unlink()
    assert _faults(small) == ["records.parquet: the table of records is missing"]


def test_label_counts(small):
    known = manifest.read(small)
    counts = list(known.splits["val"].label_counts)
    counts[1] += 1
    splits = {**known.splits, "val": dataclasses.replace(known.splits["val"], label_counts=tuple(counts))}
    _edit(small, splits=splits)
    assert _faults(small) == [f"manifest.json: val counts {counts[1]} 'b', its records have {counts[1] - 1}"]


def test_hash_alone(small):
    known = manifest.read(small)
    train = known.splits["train"]
    forged = dataclasses.replace(train.shards[0], sha256="0" * 64)
    train = dataclasses.replace(train, shards=(forged, *train.shards[1:]))
    _edit(small, splits={**known.splits, "train": train})
    (fault,) = _faults(small)
    assert fault.startswith(f"{FIRST}: its SHA-256 is not the manifest's")


def test_no_manifest(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json"):
        verify.main([str(tmp_path)])
