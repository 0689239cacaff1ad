"""Conversions of spoilt archives: each fault is named with its patch and file, and nothing looks whole."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.conversion.run import convert
from tests import archives
from tests.archives import TILE, v1_name, v2_name
from tests.conversions import V1_SPLITS, V2_SPLITS, read_back, v1_config, v2_config
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest


def _labels_of(root: Path, index: int, content: str) -> Path:
    name = v1_name(index)
    path = root / "BigEarthNet-v1.0" / name / f"{name}_labels_metadata.json"
    path.unlink(missing_ok=True)
    path.write_text(content)
    return path


def _band_of(root: Path, values: np.ndarray | bytes | None) -> Path:
    path = root / "BigEarthNet-v1.0" / v1_name(5) / f"{v1_name(5)}_B03.tif"
    data = path.read_bytes()
    path.unlink()
    if isinstance(values, np.ndarray):
        archives.write_tif(path, values)
    elif values is not None:
        path.write_bytes(data[: len(values)])
    return path


FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing band": (lambda root: _band_of(root, None), "missing"),
    "truncated band": (lambda root: _band_of(root, bytes(9000)), "cannot be read"),
    "wrong size": (lambda root: _band_of(root, np.zeros((60, 60), np.uint16)), "has 60 x 60 pixels"),
    "wrong type": (lambda root: _band_of(root, np.zeros((120, 120), np.int16)), "is int16, not uint16"),
    "no JSON": (
        lambda root: _labels_of(root, 5, '{"labels": ["Pastures"]} text'),
        "not readable as JSON: Extra data",
    ),
    "unknown label": (lambda root: _labels_of(root, 5, '{"labels": ["Moon"]}'), "unknown label 'Moon'"),
    "no label": (lambda root: _labels_of(root, 5, '{"labels": []}'), "has no labels"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faulty_patch_stops_or_is_left_out(v1: Path, tmp_path: Path, kind: str) -> None:
    spoil, problem = FAULTS[kind]
    path = spoil(v1)
    with pytest.raises(DataError, match=problem) as caught:
        convert(v1_config(v1, tmp_path / "out"))
    assert v1_name(5) in str(caught.value)
    assert str(path) in str(caught.value)
    assert "--on-error skip" in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tmp"))
    manifest = convert(v1_config(v1, tmp_path / "out", on_error="skip")).manifest
    (left_out,) = json.loads((tmp_path / "out" / "quarantine.json").read_text())
    assert (left_out["name"], left_out["file"]) == (v1_name(5), str(path))
    assert problem in left_out["reason"]
    assert manifest.excluded == {"in no split list": 1, "faulty": 1}
    assert sorted(r["name"] for r in read_back(tmp_path / "out")["train"]) == sorted(
        name for name in V1_SPLITS["train"] if name != v1_name(5)
    )


def test_faults_mended_after_the_list_of_them_was_written(
    v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _labels_of(v1, 5, "")
    content = (v1 / "BigEarthNet-v1.0" / v1_name(4) / f"{v1_name(4)}_labels_metadata.json").read_bytes()
    with monkeypatch.context() as full:
        full.setattr(Manifest, "write", lambda self, directory: os.open("/dev/full/none", os.O_WRONLY))
        with pytest.raises(DataError, match="cannot be written"):
            convert(v1_config(v1, tmp_path / "out", on_error="skip"))
    assert (tmp_path / "out" / "quarantine.json").exists()
    path.write_bytes(content)
    assert "faulty" not in convert(v1_config(v1, tmp_path / "out")).manifest.excluded
    assert not (tmp_path / "out" / "quarantine.json").exists()


def _list(root: Path, split: str, names: Sequence[str]) -> None:
    (root / f"{split}.csv").unlink()
    (root / f"{split}.csv").write_text("".join(f"{name}\n" for name in names))


def test_patch_twice_in_a_list(v1: Path, tmp_path: Path) -> None:
    _list(v1, "val", [v1_name(8), v1_name(9), v1_name(8)])
    with pytest.raises(DataError, match=rf"val\.csv: patch {v1_name(8)}: is in it twice"):
        convert(v1_config(v1, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    convert(v1_config(v1, tmp_path / "out", on_error="skip"))
    assert [r["name"] for r in read_back(tmp_path / "out")["val"]] == [v1_name(9)]


def test_patch_in_two_splits(v1: Path, tmp_path: Path) -> None:
    _list(v1, "test", [*V1_SPLITS["test"], v1_name(2)])
    with pytest.raises(DataError, match=rf"test\.csv: patch {v1_name(2)}: is in two splits, train and test"):
        convert(v1_config(v1, tmp_path / "out"))
    manifest = convert(v1_config(v1, tmp_path / "out", on_error="skip")).manifest
    assert {name: split.records for name, split in manifest.splits.items()} == {
        "train": 7,
        "val": 2,
        "test": 3,
    }
    assert manifest.excluded == {"in no split list": 1, "faulty": 1}


def test_listed_patches_that_are_not_there(v1: Path, tmp_path: Path) -> None:
    _list(v1, "train", [*V1_SPLITS["train"], *(f"S2A_MSIL2A_20170613T101031_9_{i}" for i in range(10, 15))])
    with pytest.raises(DataError) as caught:
        convert(v1_config(v1, tmp_path / "out"))
    assert "5 of 18 listed patches are not in it: S2A_MSIL2A_20170613T101031_9_10, " in str(caught.value)
    assert "train.csv" in str(caught.value)
    manifest = convert(v1_config(v1, tmp_path / "out", on_error="skip")).manifest
    assert manifest.excluded == {"in no split list": 1, "listed, but not in the archive": 5}
    assert not (tmp_path / "out" / "quarantine.json").exists()


def test_duplicates_in_v2(v2: Path, tmp_path: Path) -> None:
    other = TILE.replace("33UUP", "33UVP")
    subprocess.run(["cp", "-al", v2 / "BigEarthNet-S2" / TILE, v2 / "BigEarthNet-S2" / other], check=True)
    with pytest.raises(DataError, match=f"{other}/{TILE}_0._0.: duplicate patch: it is in {TILE} too"):
        convert(v2_config(v2, tmp_path / "out"))
    (v2 / "metadata.parquet").unlink()
    names = [v2_name(index) for index in range(9)]
    archives.write_table(
        v2 / "metadata.parquet", [*names, names[1]], [["Pastures"]] * 10, ["train"] * 10, [*names, "x"]
    )
    subprocess.run(["rm", "-r", v2 / "BigEarthNet-S2" / other], check=True)
    with pytest.raises(DataError, match=rf"metadata\.parquet: patch {names[1]}: is in it twice"):
        convert(v2_config(v2, tmp_path / "out"))


def test_unknown_label_of_v2(v2: Path, tmp_path: Path) -> None:
    (v2 / "metadata.parquet").unlink()
    names = [v2_name(index) for index in range(9)]
    labels = [["Pastures"]] * 8 + [["Moon"]]
    archives.write_table(v2 / "metadata.parquet", names, labels, V2_SPLITS, names)
    with pytest.raises(DataError, match=f"metadata.parquet: patch {names[8]}: unknown label 'Moon'"):
        convert(v2_config(v2, tmp_path / "out"))


def test_sentinel1_partner_missing_or_double(v1: Path, tmp_path: Path) -> None:
    s1 = v1 / "BigEarthNet-S1-v1.0"
    first, second = (f"{archives.SCENE}_33UUP_0_{index}" for index in (0, 1))
    path = s1 / second / f"{second}_labels_metadata.json"
    path.unlink()
    path.write_text(json.dumps({"corresponding_s2_patch": v1_name(0)}))
    with pytest.raises(DataError, match=f"{v1_name(0)} has two partners: {first} and {second}"):
        convert(v1_config(v1, tmp_path / "out", s1=s1))
    subprocess.run(["rm", "-r", s1 / second], check=True)
    with pytest.raises(DataError, match=f"patch {v1_name(1)}: has no Sentinel-1 partner"):
        convert(v1_config(v1, tmp_path / "out", s1=s1))
    convert(v1_config(v1, tmp_path / "out", s1=s1, on_error="skip"))
    assert v1_name(1) not in {record["name"] for record in read_back(tmp_path / "out")["train"]}


def test_faults_in_worker_processes_stop_all(v1: Path, tmp_path: Path) -> None:
    _labels_of(v1, 5, "")
    with pytest.raises(DataError, match=f"{v1_name(5)}_labels_metadata.json: not readable as JSON"):
        convert(v1_config(v1, tmp_path / "out", workers=2, shards=4))
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_no_patch_left(v1: Path, tmp_path: Path) -> None:
    _list(v1, "train", [name for names in V1_SPLITS.values() for name in names])
    with pytest.raises(
        DataError, match=r"no patch is left to convert\n  left out: 13 in train\.csv; 1 in no split"
    ):
        convert(v1_config(v1, tmp_path / "out", exclude=(v1 / "train.csv",)))
