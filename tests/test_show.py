"""Show: every number of the manifest and the record, and pixels in the picture."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import bands, nomenclature
from jeoparda_tf.records import Patch
from tests import shards
from tfrecords_tools import manifest, plots, show
from tfrecords_tools.errors import DataError, UsageError


@pytest.fixture
def small(tmp_path):
    shards.write_small(tmp_path)
    return tmp_path


def _cells(text):
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_manifest(small, capsys):
    known = manifest.read(small)
    dataclasses.replace(known, excluded={"cloud": 1234}, sources={"folder": "/archive"}, seed=5).write(small)
    assert show.main([str(small), "--shards"]) == 0
    out = capsys.readouterr().out
    assert "random numbers, order of seed 5" in out
    assert "  folder: /archive" in out
    cells = _cells(out)
    assert ["train", "3", "2", "0.0"] in cells
    shard = known.splits["train"].shards[0]
    assert [shard.file, "2", f"{shard.bytes:,}", shard.sha256] in cells
    assert ["cloud", "1,234"] in cells
    classes = [row for row in cells if row[0] in shards.SMALL_CLASSES.classes]
    assert classes == [["often", "3", "0"], ["rare", "1", "0"], ["[bold]never", "0", "0"]]
    # near: 0, 2, ..., 30 in each of three records, plus 0, 1000, 2000
    std = np.sqrt(np.var(np.arange(0, 32, 2)) + np.var([0, 1000, 2000]))
    assert ["near", "grid", "30", "850", "1,015.00", f"{std:.2f}", "0.00", "2,030.00"] in cells
    assert ["far", "grid", "30", "-"] in [row[:4] for row in cells]


def test_record(small, capsys):
    assert show.main([str(small), "--record", "2", "0"]) == 0
    out = capsys.readouterr().out
    assert "record 2: p2 (train-00001-of-00002.tfrecord, position 0)" in out
    assert "record 0: p0 (train-00000-of-00002.tfrecord, position 0)" in out
    assert "labels: often\n" in out
    cells = _cells(out)
    assert cells[0] == ["near", "grid", "4 x 4 uint16", "2,000.00", "2,015.00", "2,030.00"]
    assert cells[2] == ["-", "map", "4 x 4 uint16", "7.00", "7.00", "7.00"]


def test_record_of_another_split(small, capsys):
    show.main([str(small), "--split", "val", "--record", "0"])
    out = capsys.readouterr().out
    assert "record 0: p3 " in out
    assert "labels: none" in out


@pytest.mark.parametrize("number", ["3", "-1"])
def test_record_out_of_range(small, number):
    with pytest.raises(UsageError, match="train has no record") as caught:
        show.main([str(small), f"--record={number}"])
    assert "its records are 0 to 2" in str(caught.value)
    assert caught.value.exit_code == 2


def test_unknown_split(small):
    with pytest.raises(DataError, match="no split 'test'"):
        show.main([str(small), "--split", "test", "--record", "0"])


def test_plot(small, tmp_path, capsys):
    target = tmp_path / "picture.png"
    assert show.main([str(small), "--plot", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "record 0: p0" in out
    assert f"picture: {target}" in out


@pytest.mark.parametrize("what", ["bands", "classes"])
def test_other_plots(small, tmp_path, capsys, what):
    target = tmp_path / "picture.png"
    assert show.main([str(small), "--plot", str(target), "--what", what]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    # Of classes no record is shown, but the tables that the picture is of.
    assert ("record 0: p0" in out, "splits" in out) == ((True, False) if what == "bands" else (False, True))


def test_plot_that_cannot_be_written(small, tmp_path):
    for target in (tmp_path / "gone" / "x.png", tmp_path / "x.xyz"):
        with pytest.raises(UsageError, match="cannot be written"):
            show.main([str(small), "--plot", str(target)])


def test_no_display_bands(small, tmp_path):
    dataclasses.replace(manifest.read(small), display={}).write(small)
    with pytest.raises(DataError, match="names no bands to show"):
        show.main([str(small), "--plot", str(tmp_path / "x.png")])


def test_real_patch(shared_data, tmp_path, capsys):
    import rasterio

    folder = shared_data / "bigearthnet-v1" / "BigEarthNet-v1.0" / "S2A_MSIL2A_20170613T101031_87_48"

    def band(name):
        with rasterio.open(folder / f"{folder.name}_{name}.tif") as file:
            return file.read(1)

    arrays = {f.name: np.stack([band(name) for name in f.band_names], axis=-1) for f in bands.S2_FEATURES}
    names = json.loads((folder / f"{folder.name}_labels_metadata.json").read_text())["labels"]
    patch = Patch(folder.name, nomenclature.multi_hot(names, nomenclature.CLC43), arrays)
    known = shards.write_patches(tmp_path, {"train": [patch]}, nomenclature=nomenclature.CLC43)
    record = show.read_record(tmp_path, known, "train", 0)
    assert record["name"] == folder.name
    assert sorted(plots.labels_of(record, known)) == sorted(names)
    for feature in bands.S2_FEATURES:
        np.testing.assert_array_equal(record[feature.name], arrays[feature.name])
    assert show.main([str(tmp_path), "--plot", str(tmp_path / "patch.png")]) == 0
    mean = band("B8A").astype(np.float64).mean()
    assert ["B8A", f"{mean:,.2f}"] in [[row[0], row[4]] for row in _cells(capsys.readouterr().out)]
