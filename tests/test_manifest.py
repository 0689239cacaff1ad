"""The manifest: what is written comes back; what is damaged, incomplete or of another version is refused by name."""

from __future__ import annotations

import json

import pytest

from tfrecords_tools import manifest
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Band, BandStatistics, Feature, Manifest, Nomenclature, Shard, Split

KNOWN = Manifest(
    features=(
        Feature("ten", "uint16", (4, 4, 2), 10, (Band("A", 490.0), Band("B"))),
        Feature("map", "uint16", (4, 4), 10),
    ),
    nomenclature=Nomenclature("ab", ("é", "b"), ((111, 112), (2,))),
    splits={
        "train": Split((Shard("a.tfrecord", 3, 99, "00"), Shard("b.tfrecord", 2, 9, "01")), (4, 1)),
        "val": Split((), (0, 0)),
    },
    statistics={"A": BandStatistics(160, 0.1 + 0.2, 1e-17, 0.0, 65535.0)},
    display={"RGB": ("A", "B", "A")},
    seed=7,
    sources={"layout": "v1", "lists": ["x"]},
    excluded={"cloud": 3},
    origin="somewhere",
)


def _edited(directory, edit):
    KNOWN.write(directory)
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_round_trip(tmp_path):
    KNOWN.write(tmp_path)
    assert manifest.read(tmp_path) == KNOWN
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_derived():
    assert KNOWN.splits["train"].records == 5
    assert KNOWN.bands == ("A", "B")
    assert KNOWN.feature_of("B").name == "ten"
    with pytest.raises(KeyError):
        KNOWN.feature_of("C")


def test_unknown_split(tmp_path):
    with pytest.raises(DataError, match="no split 'test'") as caught:
        KNOWN.split("test", tmp_path)
    assert "train, val" in caught.value.remedy


def test_no_manifest(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json here"):
        manifest.read(tmp_path)
    with pytest.raises(DataError, match="no such directory"):
        manifest.read(tmp_path / "gone")


def test_a_file_instead_of_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be read: Not a directory"):
        manifest.read(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": "sharded-tf', b"\xff\xfe"])
def test_no_json(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match="no JSON") as caught:
        manifest.read(tmp_path)
    assert caught.value.path == str(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "other", "format_version": 1}'])
def test_other_json(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="not a manifest of sharded-tfrecords"):
        manifest.read(tmp_path)


def test_other_version(tmp_path):
    _edited(tmp_path, lambda content: content.update(format_version=2))
    with pytest.raises(DataError, match="format version 2, but this program reads version 1"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("key", ["features", "nomenclature", "splits", "statistics", "seed", "origin"])
def test_incomplete(tmp_path, key):
    _edited(tmp_path, lambda content: content.pop(key))
    with pytest.raises(DataError, match=f"incomplete: it lacks '{key}'"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c["features"][0].update(dtype="uint17"), "uint17"),
        (lambda c: c["features"][0].update(shape=[4, 4, 3]), r"feature 'ten': shape \(4, 4, 3\) for 2 bands"),
        (lambda c: c["features"][0].update(shape=[0, 4, 2]), "feature 'ten'"),
        (lambda c: c["features"][0].update(colour=1), "colour"),
        (lambda c: c["splits"]["val"].update(label_counts=[1]), "split 'val' counts 1 classes"),
        (lambda c: c["splits"]["train"]["shards"][0].update(file="../a.tfrecord"), "impossible shard"),
        (lambda c: c["splits"]["train"]["shards"][0].update(records=-1), "impossible shard"),
        (lambda c: c["splits"]["train"]["shards"][0].update(records="3"), "malformed"),
        (lambda c: c["splits"]["train"]["shards"][0].update(file="b.tfrecord"), "stands in it twice"),
        (lambda c: c["display"].update(RGB=["A", "Z", "B"]), "no feature holds the bands Z"),
        (lambda c: c.update(statistics={"Y": c["statistics"]["A"]}), "no feature holds the bands Y"),
        (lambda c: c.update(splits=3), "malformed"),
    ],
)
def test_malformed(tmp_path, edit, problem):
    _edited(tmp_path, edit)
    with pytest.raises(DataError, match=problem):
        manifest.read(tmp_path)


def test_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        KNOWN.write(tmp_path / "gone")
