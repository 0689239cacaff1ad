"""Whole conversions of small archives, in this process where that suffices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from jeoparda_tf import convert as front_door
from jeoparda_tf.bigearthnet.bands import S2_FEATURES
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43, names_of
from jeoparda_tf.conversion.config import ConvertConfig
from jeoparda_tf.conversion.run import convert
from tests import archives
from tests.archives import LABELS_19, TILE, v1_name, v2_name
from tests.conftest import REPOSITORY, need_module
from tests.conversions import V1_LABELS, V1_SPLITS, V2_SPLITS, hashes, read_back, v1_config, v2_config
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Manifest


def _check_pixels(record: dict[str, Any], folder: Path, name: str) -> None:
    for feature in S2_FEATURES:
        for index, band in enumerate(feature.band_names):
            with rasterio.open(folder / f"{name}_{band}.tif") as file:
                assert np.array_equal(record[feature.name][..., index], file.read(1))


def _check_s1(record: dict[str, Any], folder: Path, name: str) -> None:
    for index, band in enumerate(("VV", "VH")):
        with rasterio.open(folder / f"{name}_{band}.tif") as file:
            assert record["s1"][..., index].tobytes() == file.read(1).tobytes()


# The way there and back


@pytest.mark.parametrize("reader", ["gdal", "rasterio"])
def test_v1_with_sentinel1(v1: Path, tmp_path: Path, reader: str) -> None:
    if reader == "gdal":
        need_module("osgeo.gdal")
    s1 = v1 / "BigEarthNet-S1-v1.0"
    outcome = convert(v1_config(v1, tmp_path / "out", s1=s1, reader=reader))
    records = read_back(tmp_path / "out")
    assert {split: sorted(r["name"] for r in own) for split, own in records.items()} == {
        split: sorted(names) for split, names in V1_SPLITS.items()
    }
    for index in range(13):
        name = v1_name(index)
        record = next(r for own in records.values() for r in own if r["name"] == name)
        assert set(names_of(record["labels"], CLC43.classes)) == set(V1_LABELS[index])
        _check_pixels(record, v1 / "BigEarthNet-v1.0" / name, name)
        partner = f"{archives.SCENE}_33UUP_{index // 10}_{index % 10}"
        _check_s1(record, s1 / partner, partner)
    assert outcome.manifest.excluded == {"in no split list": 1}
    assert outcome.manifest.seed == 0
    assert outcome.manifest.origin == "BigEarthNet"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset_info.json",
        "features.json",
        "manifest.json",
        "records.parquet",
        *(f"{split}-0000{i}-of-00002.tfrecord" for split in ("test", "train", "val") for i in (0, 1)),
    ]
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()  # no paths of the machine


def test_v2_with_sentinel1_and_maps(v2: Path, tmp_path: Path) -> None:
    (v2 / "ORIGIN.txt").write_text("synthetic sample\n")
    config = v2_config(v2, tmp_path / "out", s1=v2 / "BigEarthNet-S1", reference_maps=True)
    manifest = convert(config).manifest
    records = read_back(tmp_path / "out")
    assert {split: len(own) for split, own in records.items()} == {"train": 5, "val": 2, "test": 2}
    for index in range(9):
        name = v2_name(index)
        split = {"validation": "val"}.get(V2_SPLITS[index], V2_SPLITS[index])
        record = next(r for r in records[split] if r["name"] == name)
        assert set(names_of(record["labels"], BEN19.classes)) == {
            LABELS_19[index % 5],
            LABELS_19[(index + 2) % 5],
        }
        _check_pixels(record, v2 / "BigEarthNet-S2" / TILE / name, name)
        partner = f"{archives.SCENE}_33UUP_{name[-5:]}"
        _check_s1(record, v2 / "BigEarthNet-S1" / archives.SCENE / partner, partner)
        assert np.array_equal(record["reference_map"], archives.pixels(name, "map", 120, "uint16"))
    assert manifest.origin == "synthetic sample"
    assert manifest.sources["splits"] == "metadata.parquet"
    assert manifest.features[-1].name == "reference_map"


@pytest.mark.parametrize("reader", ["gdal", "rasterio"])
def test_real_patches_bit_for_bit(shared_data: Path, tmp_path: Path, reader: str) -> None:
    if reader == "gdal":
        need_module("osgeo.gdal")
    root = shared_data / "bigearthnet-v1"
    archive, s1 = root / "BigEarthNet-v1.0", root / "BigEarthNet-S1-v1.0"
    convert(
        ConvertConfig(
            archive, tmp_path / "v1", split_fractions=(0.6, 0.2, 0.2), s1=s1, reader=reader, workers=1
        )
    )
    records = [record for own in read_back(tmp_path / "v1").values() for record in own]
    assert sorted(record["name"] for record in records) == sorted(path.name for path in archive.iterdir())
    for record in records:
        name = record["name"]
        labels = json.loads((archive / name / f"{name}_labels_metadata.json").read_text())["labels"]
        assert sorted(names_of(record["labels"], CLC43.classes)) == sorted(labels)
        _check_pixels(record, archive / name, name)
        partner = next(path.name for path in s1.iterdir() if f'2_patch": "{name}"' in _metadata(path))
        _check_s1(record, s1 / partner, partner)

    archive = shared_data / "bigearthnet-v2"
    # The table has 480,038 patches, the folder one.
    config = ConvertConfig(
        archive, tmp_path / "v2", on_error="skip", reference_maps=True, reader=reader, workers=1
    )
    manifest = convert(config).manifest
    (record,) = read_back(tmp_path / "v2")["test"]
    name = f"{TILE}_26_57"
    assert manifest.excluded == {"listed, but not in the archive": 480_037}
    assert record["name"] == name
    _check_pixels(record, archive / "BigEarthNet-S2" / TILE / name, name)
    with rasterio.open(archive / "Reference_Maps" / TILE / name / f"{name}_reference_map.tif") as file:
        assert np.array_equal(record["reference_map"], file.read(1))


def _metadata(folder: Path) -> str:
    return (folder / f"{folder.name}_labels_metadata.json").read_text()


def test_same_bytes_for_any_number_of_workers_and_reader(v1: Path, tmp_path: Path) -> None:
    s1 = v1 / "BigEarthNet-S1-v1.0"
    convert(v1_config(v1, tmp_path / "one", s1=s1, shards=3))
    convert(v1_config(v1, tmp_path / "two", s1=s1, shards=3, workers=2, reader="rasterio"))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_seed_changes_the_order(v1: Path, tmp_path: Path) -> None:
    orders = []
    for seed in (0, 1):
        convert(v1_config(v1, tmp_path / str(seed), seed=seed))
        orders.append([record["name"] for record in read_back(tmp_path / str(seed))["train"]])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != sorted(orders[0])


def test_statistics_are_those_of_all_pixels_of_train(v1: Path, tmp_path: Path) -> None:
    statistics = convert(v1_config(v1, tmp_path / "out", s1=v1 / "BigEarthNet-S1-v1.0")).manifest.statistics
    for band, size in archives.SIZES.items():
        values = np.stack(
            [archives.pixels(name, band, size, "uint16") for name in V1_SPLITS["train"]]
        ).astype(float)
        found = statistics[band]
        assert (found.count, found.min, found.max) == (8 * size * size, 0, 65_535)
        assert found.mean == pytest.approx(values.mean(), rel=1e-12)
        assert found.std == pytest.approx(values.std(), rel=1e-12)  # of the population
    partners = [f"{archives.SCENE}_33UUP_0_{index}" for index in range(8)]
    vh = np.stack([archives.pixels(name, "VH", 120, "float32") for name in partners]).astype(float)
    assert statistics["VH"].mean == pytest.approx(vh.mean(), rel=1e-12)
    assert statistics["VH"].std == pytest.approx(vh.std(), rel=1e-12)


def test_statistics_by_hand(tmp_path: Path) -> None:
    """Two patches of one value each: 100 and 300 give a mean of 200 and a deviation of 100, in every band."""
    names = archives.write_v1(tmp_path, [["Pastures"], ["Pastures"]])
    for name, value in zip(names, (100, 300)):
        for band, size in archives.SIZES.items():
            path = tmp_path / "BigEarthNet-v1.0" / name / f"{name}_{band}.tif"
            archives.write_tif(path, np.full((size, size), value, np.uint16))
    statistics = convert(
        v1_config(tmp_path, tmp_path / "out", splits=None, split_fractions=(1.0, 0.0, 0.0))
    ).manifest.statistics
    assert {(s.mean, s.std, s.min, s.max) for s in statistics.values()} == {(200, 100, 100, 300)}
    assert (statistics["B02"].count, statistics["B8A"].count, statistics["B09"].count) == (28_800, 7_200, 800)


def test_ben19_of_v1_maps_labels_and_leaves_out_those_without(v1: Path, tmp_path: Path) -> None:
    assert V1_LABELS[3] == ["Airports"]
    manifest = convert(v1_config(v1, tmp_path / "out", nomenclature="ben19")).manifest
    records = read_back(tmp_path / "out")
    assert manifest.excluded == {"in no split list": 1, "without a label in ben19": 1}
    assert v1_name(3) not in {record["name"] for record in records["train"]}
    assert len(records["train"]) == 7
    labels = {r["name"]: names_of(r["labels"], BEN19.classes) for own in records.values() for r in own}
    assert labels[v1_name(2)] == ["Marine waters"]  # Sea and ocean; Airports is dropped
    assert labels[v1_name(4)] == ["Permanent crops", "Pastures"]  # Vineyards


def test_excluded_lists_count_what_was_there(v1: Path, tmp_path: Path) -> None:
    (tmp_path / "snow.csv").write_text(f"{v1_name(0)}\n{v1_name(13)}\nS2A_MSIL2A_20990101T101031_1_1\n")
    (tmp_path / "cloud.csv").write_text(f"{v1_name(0)}\n{v1_name(8)}\n")
    lists = (tmp_path / "snow.csv", tmp_path / "cloud.csv")
    manifest = convert(v1_config(v1, tmp_path / "out", exclude=lists)).manifest
    assert manifest.excluded == {"in snow.csv": 2, "in cloud.csv": 1}
    assert {name: split.records for name, split in manifest.splits.items()} == {
        "train": 7,
        "val": 1,
        "test": 3,
    }


def test_snow_and_cloud_of_v2(v2: Path, tmp_path: Path) -> None:
    names = [v2_name(index) for index in range(9)]
    (v2 / "metadata.parquet").unlink()
    partners = [f"{archives.SCENE}_33UUP_{name[-5:]}" for name in names]
    rows = [names, [["Pastures"]] * 9, V2_SPLITS, partners]
    archives.write_table(v2 / "metadata.parquet", *[row[:7] for row in rows])
    second = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
    archives.write_table(v2 / second, *[row[7:8] for row in rows])
    manifest = convert(v2_config(v2, tmp_path / "without")).manifest
    assert manifest.excluded == {"under seasonal snow, cloud or shadow": 1, "not in metadata.parquet": 1}
    assert "test" not in manifest.splits
    manifest = convert(v2_config(v2, tmp_path / "with", include_snow_and_cloud=True)).manifest
    assert manifest.excluded == {"not in metadata.parquet": 1}
    assert manifest.splits["test"].records == 1


def test_fractions_override_the_split_of_v2(v2: Path, tmp_path: Path) -> None:
    manifest = convert(v2_config(v2, tmp_path / "out", split_fractions=(0.0, 0.0, 1.0))).manifest
    assert {name: split.records for name, split in manifest.splits.items()} == {"test": 9}
    assert manifest.statistics == {}  # of the train split, and there is none
    assert manifest.sources["splits"] == "fractions 0.0 0.0 1.0 of blocks of 8 x 8 patches"


def test_pairs_from_lists_need_no_json(v1: Path, tmp_path: Path) -> None:
    for split, names in V1_SPLITS.items():
        rows = [f"{name},{archives.SCENE}_33UUP_{name.split('_', 3)[3]}\n" for name in names]
        (v1 / f"{split}.csv").unlink()
        (v1 / f"{split}.csv").write_text("".join(rows))
    for path in (v1 / "BigEarthNet-S1-v1.0").rglob("*.json"):
        path.unlink()
    convert(v1_config(v1, tmp_path / "out", s1=v1 / "BigEarthNet-S1-v1.0"))
    record = read_back(tmp_path / "out")["val"][0]
    partner = f"{archives.SCENE}_33UUP_{record['name'].split('_', 3)[3]}"
    _check_s1(record, v1 / "BigEarthNet-S1-v1.0" / partner, partner)


# Continuing


def test_the_same_command_again_has_nothing_to_do(
    v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = v1_config(v1, tmp_path / "out")
    convert(config)
    before = hashes(tmp_path / "out")
    outcome = convert(config)
    assert outcome.already
    assert hashes(tmp_path / "out") == before
    with pytest.raises(
        UsageError, match=r"holds a conversion of other patches or with other settings\n.*--force"
    ):
        convert(v1_config(v1, tmp_path / "out", seed=1))
    convert(v1_config(v1, tmp_path / "out", seed=1, shards=1, force=True))
    assert sorted(hashes(tmp_path / "out")) == [
        "dataset_info.json",
        "features.json",
        "manifest.json",
        "records.parquet",
        *(f"{split}-00000-of-00001.tfrecord" for split in ("test", "train", "val")),
    ]


def test_finished_shards_are_kept_after_an_error(v1: Path, tmp_path: Path) -> None:
    convert(v1_config(v1, tmp_path / "whole"))
    name = [record["name"] for record in read_back(tmp_path / "whole")["val"]][-1]
    path = v1 / "BigEarthNet-v1.0" / name / f"{name}_B05.tif"
    path.rename(tmp_path / "away.tif")
    with pytest.raises(DataError, match=f"{name}_B05.tif: missing"):
        convert(v1_config(v1, tmp_path / "out"))
    left = sorted(found.name for found in (tmp_path / "out").iterdir())
    assert left == [
        ".conversion",
        *(f"{s}-00002.tfrecord" for s in ("train-00000-of", "train-00001-of", "val-00000-of")),
    ]
    untouched = (tmp_path / "out" / left[1]).stat().st_mtime_ns
    (tmp_path / "away.tif").rename(path)
    (tmp_path / "out" / "train-00001-of-00002.tfrecord").write_bytes(
        b"cut short"
    )  # by whatever: it is made again
    journal = tmp_path / "out" / ".conversion" / "val-00000-of-00002.tfrecord.json"
    journal.write_text(json.dumps({"shard": {"name": "of another version of the program"}}))
    with pytest.raises(UsageError, match="unfinished conversion of other patches"):
        convert(v1_config(v1, tmp_path / "out", seed=1))
    convert(v1_config(v1, tmp_path / "out"))
    assert (tmp_path / "out" / left[1]).stat().st_mtime_ns == untouched
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_force_removes_nothing_of_others(v1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty: it holds notes\.txt\n  name a new or empty folder"):
        convert(v1_config(v1, out))
    (out / "train-00000-of-00009.tfrecord").write_bytes(b"old")
    convert(v1_config(v1, out, force=True))
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "train-00000-of-00009.tfrecord").exists()


# Flags that do not fit


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"splits": None},
            r"holds no split\n.*--splits DIR.*touch a training patch.*--split-fractions 0.6 0.2 0.2",
        ),
        ({"split_fractions": (0.6, 0.2, 0.2)}, "exclude each other"),
        ({"splits": None, "split_fractions": (0.6, 0.2, 0.3)}, "not shares of a whole"),
        ({"include_snow_and_cloud": True}, "is for version 2"),
        ({"reference_maps": True}, "version 1 has none"),
        ({"shards": 0}, "--shards 0"),
        ({"shards": None, "shard_size": 0.0}, "--shard-size 0"),
        ({"workers": 0}, "--workers 0"),
        ({"seed": 2**63}, "--seed 9223372036854775808: more than 64 bits"),
        ({"splits": Path("/nowhere")}, "/nowhere: no such folder for --splits"),
        ({"exclude": (Path("/nowhere.csv"),)}, r"/nowhere\.csv: no such list"),
        ({"archive": Path("/nowhere")}, "/nowhere: no such folder for the archive"),
        ({"s1": Path("/nowhere")}, "/nowhere: no such folder for --s1"),
        ({"out": Path("/proc/shards")}, "/proc/shards: cannot be written"),
    ],
)
def test_usage_errors(v1_shared: Path, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        convert(v1_config(v1_shared, **{"out": tmp_path / "out", **changes}))
    assert not (tmp_path / "out").exists()


def test_43_classes_of_v2(v2_shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="version 2 has no labels of 43 classes"):
        convert(v2_config(v2_shared, tmp_path / "out", nomenclature="clc43"))
    with pytest.raises(UsageError, match="no Sentinel-1 data in it"):
        convert(v2_config(v2_shared, tmp_path / "out", s1=v2_shared / "Reference_Maps"))


# The command


def test_command_prints_a_summary(
    v1_shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [str(v1_shared / "BigEarthNet-v1.0/"), str(out), "--splits", str(v1_shared), "--workers", "1"]
    assert front_door.main([*arguments, "--nomenclature", "ben19"]) == 0
    printed = capsys.readouterr().out
    assert "version 1 (a folder a patch), ben19" in printed
    assert "left out: 1 without a label in ben19" in printed
    assert f"python -m jeoparda_tf.fit --data {out}" in printed
    assert front_door.main([*arguments, "--nomenclature", "ben19"]) == 0
    assert f"{out} holds this conversion already" in capsys.readouterr().out


def test_help_and_errors_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom jeoparda_tf import convert\nfrom tfrecords_tools import cli\n"
        "try: cli.run(convert.main)\n"
        "except SystemExit as end: print(end.code)\n"
        "heavy = {'tensorflow', 'osgeo', 'rasterio', 'pyarrow', 'matplotlib'}.intersection(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments, status in ((["--help"], "0"), (["--no-such-flag"], "2")):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=True,
        )
        assert done.stdout.endswith(f"{status}\n")


def test_manifest_reads_back_as_written(v1_shared: Path, tmp_path: Path) -> None:
    manifest: Manifest = convert(v1_config(v1_shared, tmp_path / "out")).manifest
    assert manifests.read(tmp_path / "out") == manifest
    assert manifest.sources["archive"] == "BigEarthNet-v1.0"
    assert manifest.sources["layout"] == "v1"
