"""Reshard: every record's bytes in the same order, the same files again on the way back, and no damage passed on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests import shards
from tests.conversions import hashes
from tfrecords_tools import division, manifest, reshard, table, tfds, tfrecord, verify
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Band, Feature, Manifest, Nomenclature

FEATURES = (Feature("ten", "uint16", (4, 4, 2), 10, (Band("A"), Band("B"))),)
CLASSES = Nomenclature("abc", ("a", "b", "c"))
COUNTS = {"train": 20, "val": 10, "test": 3}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    known = shards.write(
        tmp_path / "data", COUNTS, shards=1, features=FEATURES, nomenclature=CLASSES, display={}
    )
    dataclasses.replace(known, sources={"layout": "v1", "fingerprint": "0"}).write(tmp_path / "data")
    return tmp_path / "data"


def _run(source: Path, out: Path, *flags: str) -> Manifest:
    assert reshard.main([str(source), str(out), *flags]) == 0
    return manifest.read(out)


def _records(directory: Path, split: str) -> list[bytes]:
    known = manifest.read(directory)
    return [r for s in known.splits[split].shards for r in tfrecord.read_records(directory / s.file)]


def test_order_and_bytes_of_every_record(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    new = _run(source, out, "--shards", "7")
    said = "train 20 records in 7 shards, val 10 records in 7 shards, test 3 records in 3 shards"
    assert capsys.readouterr().out == f"{out}: {said}\n"
    assert verify.verify(out, new) == []
    old = manifest.read(source)
    for split in COUNTS:
        assert _records(out, split) == _records(source, split)
        assert new.splits[split].label_counts == old.splits[split].label_counts
    assert [shard.records for shard in new.splits["train"].shards] == [2, 3, 3, 3, 3, 3, 3]  # floor(20 i / 7)
    assert [shard.file for shard in new.splits["test"].shards] == [
        f"test-0000{index}-of-00003.tfrecord" for index in range(3)
    ]
    names = table.read(source)["name"].to_pylist()
    assert table.read(out)["name"].to_pylist() == names
    assert new.sources == {"layout": "v1", "resharded": {"of": str(source)}}
    same = {f.name for f in dataclasses.fields(Manifest)} - {"splits", "sources"}
    assert all(getattr(new, field) == getattr(old, field) for field in same)


@pytest.mark.parametrize("number", ["1", "3", "4", "100"])
def test_there_and_back_gives_the_same_files(source: Path, tmp_path: Path, number: str) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    _run(source, first, "--shards", "4")
    _run(first, second, "--shards", number)
    _run(second, third, "--shards", "4")
    beside = {"manifest.json"}  # which says of what
    there, back = ({k: v for k, v in hashes(out).items() if k not in beside} for out in (first, third))
    assert there == back
    assert len(there) == 4 + 4 + 3 + 1 + len(tfds.FILE_NAMES)
    assert manifest.read(first).splits == manifest.read(third).splits


def test_size(source: Path, tmp_path: Path) -> None:
    size = manifest.read(source).splits["train"].shards[0].bytes
    new = _run(source, tmp_path / "out", "--shard-size", str((size + 1) / 3e6))
    assert [len(new.splits[split].shards) for split in COUNTS] == [3, 2, 1]
    assert verify.verify(tmp_path / "out", new) == []


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "give either --shards or --shard-size"),
        (["--shards", "2", "--shard-size", "3"], "give either --shards or --shard-size"),
        (["--shards", "0"], "--shards 0: at least one is needed"),
        (["--shard-size", "0"], r"--shard-size 0\.0: a size in MB is needed"),
        (["--shard-size", ".nan"], r"--shard-size nan: a size in MB is needed"),
    ],
)
def test_usage(source: Path, tmp_path: Path, flags: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        reshard.main([str(source), str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_out_is_not_empty(source: Path) -> None:
    before = hashes(source)
    with pytest.raises(UsageError, match="is not empty\n  name another folder"):
        reshard.main([str(source), str(source), "--shards", "2"])
    assert hashes(source) == before


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _lose_a_record(path: Path) -> None:
    path.write_bytes(b"".join(map(tfrecord.frame, list(tfrecord.read_records(path))[:-1])))


def _swap_records(path: Path) -> None:
    path.write_bytes(b"".join(map(tfrecord.frame, reversed(list(tfrecord.read_records(path))))))


@pytest.mark.parametrize(
    ("spoil", "file", "problem"),
    [
        (_flip, "val", "record 9: its data is damaged (CRC)"),
        (_cut, "train", "record 19: is cut off"),
        (_lose_a_record, "train", "has 19 records, the manifest says 20"),
        (_swap_records, "test", "its SHA-256 is not the manifest's, though its 3 records are whole"),
        (Path.unlink, "val", "cannot be read: No such file or directory"),
    ],
)
def test_damage_is_named_and_not_passed_on(
    source: Path, tmp_path: Path, spoil: object, file: str, problem: str
) -> None:
    path = source / f"{file}-00000-of-00001.tfrecord"
    spoil(path)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        reshard.main([str(source), str(tmp_path / "out"), "--shards", "2"])
    assert (caught.value.path, caught.value.problem) == (str(path), problem)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_table_that_does_not_fit(source: Path, tmp_path: Path) -> None:
    table.write(source, [table.Row(**row) for row in table.read(source).to_pylist()][1:])
    with pytest.raises(DataError, match="does not list the records of train"):
        reshard.main([str(source), str(tmp_path / "out"), "--shards", "2"])
    assert not (tmp_path / "out").exists()


def test_division_of_a_split_without_records(source: Path, tmp_path: Path) -> None:
    known = manifest.read(source)
    empty = dataclasses.replace(known.splits["test"], shards=(), label_counts=(0, 0, 0))
    rows = [row for row in (table.Row(**r) for r in table.read(source).to_pylist()) if row.split != "test"]
    table.write(source, rows)
    dataclasses.replace(known, splits={**known.splits, "test": empty}).write(source)
    assert _run(source, tmp_path / "out", "--shard-size", "1").splits["test"].shards == ()
    assert list(division.ranges("test", 0, 0)) == []
