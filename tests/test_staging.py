"""Shards copied to a node's disk: by two jobs at once, after a kill, from damaged sources."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from jeoparda_tf.training import staging
from tests import shards
from tfrecords_tools import manifest
from tfrecords_tools.errors import DataError

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def data(tmp_path) -> Path:
    shards.write(tmp_path / "data", {"train": 6, "val": 2, "test": 2})
    return tmp_path / "data"


def stage(data: Path, target: Path) -> Path:
    return staging.stage(data, manifest.read(data), target)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def wanted(data: Path) -> dict[str, bytes]:
    return {
        name: b for name, b in contents(data).items() if name.endswith("rd") and not name.startswith("test")
    }


def test_two_jobs_of_a_node_copy_beside_each_other(data, tmp_path, monkeypatch):
    begun, met = [], threading.Barrier(2, timeout=60)

    def slow(source, target):
        content = Path(source).read_bytes()
        with Path(target).open("wb") as file:
            file.write(content[:100])
            file.flush()
            begun.append(target)
            if len(begun) <= 2:
                met.wait()  # both are at their first shard, the same one
            file.write(content[100:])

    monkeypatch.setattr(shutil, "copyfile", slow)
    other: list[object] = []

    def second() -> None:
        try:
            other.append(stage(data, tmp_path / "node"))
        except DataError as error:
            other.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    folder = stage(data, tmp_path / "node")
    thread.join()
    assert other == [folder]
    assert contents(folder) == wanted(data)


def test_copies_that_a_kill_cut_off_go_after_an_hour(data, tmp_path):
    folder = stage(data, tmp_path / "node")
    (folder / "train-00000-of-00002.tfrecord").unlink()
    for name, age in ((".a.tmp", 4000), (".b.tmp", 60)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    stage(data, tmp_path / "node")
    assert contents(folder) == {**wanted(data), ".b.tmp": b"half"}


def test_a_source_of_another_size_leaves_nothing(data, tmp_path):
    (data / "val-00000-of-00002.tfrecord").write_bytes(b"short")
    with pytest.raises(DataError, match=r"val-00000-of-00002.*not of the size that the manifest has"):
        stage(data, tmp_path / "node")
    [folder] = (tmp_path / "node").iterdir()
    assert set(contents(folder)) <= {"train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"}
