"""The reader without TensorFlow: every value by index, in other processes too, and the README's code as it stands."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jeoparda_tf.bigearthnet.bands import DISPLAY, S1_FEATURE, S2_FEATURES
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.records import Patch
from tests import shards
from tests.conftest import REPOSITORY
from tfrecords_tools import tfrecord
from tfrecords_tools.errors import DataError
from tfrecords_tools.reader import Reader

FEATURES = (*S2_FEATURES, S1_FEATURE)
FILE = "train-00001-of-00003.tfrecord"  # records 3, 4 and 5 of the eight


@pytest.fixture
def written(tmp_path: Path) -> list[Patch]:
    """Writes SHARDS in the test's folder and returns the patches of its train split."""
    splits = {
        split: shards.patches(count, FEATURES, len(BEN19.classes), seed)
        for seed, (split, count) in enumerate({"train": 8, "val": 2}.items())
    }
    shards.write_patches(tmp_path / "SHARDS", splits, shards=3, features=FEATURES, display=DISPLAY)
    return splits["train"]


def _assert_same(record: dict[str, Any], patch: Patch) -> None:
    assert set(record) == {"labels", "name", *patch.arrays}
    assert record["name"] == patch.name
    for key, expected in {"labels": patch.labels, **patch.arrays}.items():
        assert record[key].dtype == expected.dtype
        assert np.array_equal(record[key], expected), key


def test_every_value_by_index(written: list[Patch], tmp_path: Path) -> None:
    reader = Reader(tmp_path / "SHARDS", "train")
    assert len(reader) == 8
    for index in (7, 0, 3, 2, 5, 1, 6, 4):  # shards in any order
        _assert_same(reader[index], written[index])
    _assert_same(reader[-1], written[7])
    _assert_same(reader[np.int64(-8)], written[0])
    assert [record["name"] for record in reader] == [patch.name for patch in written]  # ends by IndexError
    for index in (8, -9):
        with pytest.raises(IndexError, match=f"record {index} of 8"):
            reader[index]
    assert reader.manifest.nomenclature.classes == BEN19.classes
    assert len(Reader(str(tmp_path / "SHARDS"), "val")) == 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pickled_and_in_other_processes(written: list[Patch], tmp_path: Path, method: str) -> None:
    reader = Reader(tmp_path / "SHARDS", "train")
    reader[4]  # the copies begin with a part of the index
    copy = pickle.loads(pickle.dumps(reader))
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for found in (pool.map(reader.__getitem__, range(8)), map(copy.__getitem__, range(8))):
            for record, patch in zip(found, written):
                _assert_same(record, patch)


def test_no_tensorflow_needed(written: list[Patch], tmp_path: Path) -> None:
    code = (
        "import sys; from tfrecords_tools.reader import Reader; print(Reader('SHARDS', 'train')[3]['name']);"
        "print([m for m in ('tensorflow', 'keras', 'rasterio', 'pyarrow', 'jsonargparse') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = [sys.executable, "-c", code]
    out = subprocess.run(
        run, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert out.split("\n") == [written[3].name, "[]", ""]


def _spoil(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def test_damage_names_shard_and_record(written: list[Patch], tmp_path: Path) -> None:
    path = tmp_path / "SHARDS" / FILE
    whole, starts = path.read_bytes(), tfrecord.offsets(path).tolist()
    assert starts[0] == 0
    assert len(starts) == 3

    def fault(index: int) -> str:
        with pytest.raises(DataError) as caught:
            Reader(tmp_path / "SHARDS", "train")[index]
        assert caught.value.path == str(path)
        return caught.value.problem

    _spoil(path, starts[1] + 5000)
    assert fault(4) == "record 1: its data is damaged (CRC)"
    _assert_same(Reader(tmp_path / "SHARDS", "train")[5], written[5])  # the one behind is whole
    path.write_bytes(whole)
    _spoil(path, starts[2] + 2)
    assert fault(3) == "record 2: its length is damaged (CRC)"
    path.write_bytes(whole[:-1])
    assert fault(3) == "record 2: is cut off"
    path.write_bytes(whole[: starts[2] + 5])
    assert fault(3) == "record 2: is cut off"
    path.write_bytes(whole[: starts[2]])
    assert fault(3) == "has 2 records, the manifest says 3"
    reader = Reader(tmp_path / "SHARDS", "train")
    path.write_bytes(whole)
    reader[3]
    path.write_bytes(whole[: starts[2]])  # cut off later, behind an index already made
    with pytest.raises(DataError, match="record 2: is missing"):
        reader[5]
    path.unlink()
    assert fault(3) == "cannot be read: No such file or directory"


def test_other_split_and_no_manifest(written: list[Patch], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test'\n  it has: train, val"):
        Reader(tmp_path / "SHARDS", "test")
    with pytest.raises(DataError, match=r"no manifest\.json here"):
        Reader(tmp_path, "train")


def _readme_code(library: str) -> str:
    """Returns the README's Python block that imports a library, as it stands."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.split("### Reading the shards elsewhere\n")[1].split("\n### ")[0]
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", section, re.S) if f"import {library}" in block
    )
    return code


@pytest.mark.tensorflow
def test_readme_tf_data(written: list[Patch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jeoparda_tf.stack import tf  # noqa: F401 - sets up the TensorFlow that the code imports

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_readme_code("tensorflow"), names)
    found = list(names["dataset"].as_numpy_iterator())
    assert len(found) == 8
    for record, patch in zip(found, written):
        # It reads all but the name, which an Example has as bytes.
        _assert_same({**record, "name": patch.name}, patch)


def test_readme_pytorch(written: list[Patch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not among our dependencies")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_readme_code("torch"), names)
    (batch,) = names["loader"]
    images, labels = batch
    assert (images.dtype, tuple(images.shape)) == (torch.float32, (8, 4, 120, 120))
    known = {patch.arrays["s2_10m"].tobytes(): patch for patch in written}
    for image, own in zip(images.numpy(), labels.numpy()):
        patch = known.pop(np.ascontiguousarray(image.transpose(1, 2, 0)).astype("uint16").tobytes())
        assert np.array_equal(own, patch.labels)
    assert not known
