from __future__ import annotations

import errno
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from jeoparda_tf import sample
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLASSES, multi_hot, names_of
from jeoparda_tf.synthetic import archive, places, scene
from tfrecords_tools.errors import DataError, UsageError

PATCHES, SEED = 44, 7


def _config(out: Path, **changes: Any) -> sample.SampleConfig:
    return sample.SampleConfig(
        **{"out": out, "patches": PATCHES, "s1": True, "seed": SEED, "workers": 1, **changes}
    )


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v1") / "out"
    sample.sample(_config(out))
    return out


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v2") / "out"
    sample.sample(_config(out, layout="v2"))
    return out


def _hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _names(out: Path, name: str) -> list[str]:
    return (out / f"{name}.csv").read_bytes().decode().splitlines()


def _shape_of(value: Any) -> Any:
    """Keys in their order and types; of strings the digits and lists are left out."""
    if isinstance(value, dict):
        return [(key, _shape_of(item)) for key, item in value.items()]
    return type(value).__name__


def test_version_1_is_laid_out_as_the_real_one(v1: Path, shared_data: Path) -> None:
    for folder in ("BigEarthNet-v1.0", "BigEarthNet-S1-v1.0"):
        real = min((shared_data / "bigearthnet-v1" / folder).iterdir())
        mine = min((v1 / folder).iterdir())
        assert [p.name.replace(mine.name, "") for p in sorted(mine.iterdir())] == [
            p.name.replace(real.name, "") for p in sorted(real.iterdir())
        ]
        texts = [next(patch.glob("*.json")).read_text() for patch in (mine, real)]
        assert _shape_of(json.loads(texts[0])) == _shape_of(json.loads(texts[1]))
        for path in mine.glob("*.tif"):
            with rasterio.open(path) as a, rasterio.open(real / path.name.replace(mine.name, real.name)) as b:
                same = ("dtype", "nodata", "width", "height", "count", "blockysize", "tiled", "interleave")
                assert {k: a.profile.get(k) for k in same} == {k: b.profile.get(k) for k in same}


def test_projection_text_is_the_real_one(shared_data: Path) -> None:
    for path in (shared_data / "bigearthnet-v1").rglob("*.json"):
        real = json.loads(path.read_text())["projection"]
        zone = int(real.split("zone ")[1][:2])
        tile = places.TILES[0]._replace(zone=zone)
        mine = archive._metadata(places.Place(tile, 0, 0, "train", None), [], "lry", {})
        assert mine["projection"] == real


def test_version_1_metadata_tells_what_is_in_the_rasters(v1: Path) -> None:
    for path in (v1 / "BigEarthNet-v1.0").glob("*/*.json"):
        metadata = json.loads(path.read_text())
        with rasterio.open(path.with_name(f"{path.parent.name}_B02.tif")) as file:
            left, bottom, right, top = file.bounds
            assert str(file.crs.to_epsg()) in metadata["projection"]
        assert metadata["coordinates"] == {"ulx": left, "uly": top, "lrx": right, "lry": bottom}
        assert re.fullmatch(r"2017-\d\d-\d\d \d\d:\d\d:\d\d", metadata["acquisition_date"])
        assert metadata["tile_source"] == "synthetic sample"


def test_version_1_labels_are_the_classes_on_the_scene(v1: Path) -> None:
    draw = scene.Scene(SEED)
    name_of = {c.code: c.name for c in CLASSES}
    for place in places.plan(PATCHES, "v1", SEED)[::5]:
        path = v1 / "BigEarthNet-v1.0" / place.v1_name / f"{place.v1_name}_labels_metadata.json"
        assert json.loads(path.read_text())["labels"] == [
            name_of[c] for c in np.unique(draw(place).mask).tolist()
        ]


def test_version_1_lists_are_disjoint_and_complete(v1: Path) -> None:
    lists = ("train", "val", "test", "patches_with_seasonal_snow", "patches_with_cloud_and_shadow")
    names = [name for split in lists for name in _names(v1, split)]
    assert sorted(names) == sorted(p.name for p in (v1 / "BigEarthNet-v1.0").iterdir())
    assert len(set(names)) == PATCHES
    assert [len(_names(v1, name)) for name in lists[3:]] == [1, 1]


def test_version_1_pairs_point_at_each_other(v1: Path) -> None:
    pairs = {}
    for path in (v1 / "BigEarthNet-S1-v1.0").glob("*/*.json"):
        metadata = json.loads(path.read_text())
        pairs[metadata["corresponding_s2_patch"]] = path.parent.name
        optical = next((v1 / "BigEarthNet-v1.0" / metadata["corresponding_s2_patch"]).glob("*.json"))
        assert json.loads(optical.read_text())["labels"] == metadata["labels"]
        assert set(metadata["coordinates"]) == {"ulx", "uly", "lrx", "lly"}
        assert path.parent.name.split("_")[-2:] == metadata["corresponding_s2_patch"].split("_")[-2:]
        assert re.fullmatch(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_\d\d[A-Z]{3}_\d+_\d+", path.parent.name)
    assert len(pairs) == len(set(pairs.values())) == PATCHES


def test_version_2_tables_have_the_official_columns(v2: Path, shared_data: Path) -> None:
    for name in ("metadata", "metadata_for_patches_with_snow_cloud_or_shadow"):
        mine, real = (
            pq.read_table(root / f"{name}.parquet") for root in (v2, shared_data / "bigearthnet-v2")
        )
        assert mine.schema.equals(real.schema)


def test_version_2_tables_tell_what_is_on_disk(v2: Path) -> None:
    clear = pq.read_table(v2 / "metadata.parquet").to_pylist()
    veiled = pq.read_table(v2 / "metadata_for_patches_with_snow_cloud_or_shadow.parquet").to_pylist()
    assert {row["split"] for row in clear} == {"train", "validation", "test"}
    assert not any(row["contains_seasonal_snow"] or row["contains_cloud_or_shadow"] for row in clear)
    assert all(row["contains_seasonal_snow"] != row["contains_cloud_or_shadow"] for row in veiled)
    rows = clear + veiled
    assert sorted(row["patch_id"] for row in rows) == sorted(
        p.name for p in (v2 / "BigEarthNet-S2").glob("*/*")
    )
    name_of = {c.code: c.name for c in CLASSES}
    for row in rows:
        patch, tile = row["patch_id"], row["patch_id"].rsplit("_", 2)[0]
        assert re.fullmatch(r"S2[AB]_MSIL2A_\d{8}T\d{6}_N9999_R\d{3}_T\d\d[A-Z]{3}_\d\d_\d\d", patch)
        with rasterio.open(v2 / "Reference_Maps" / tile / patch / f"{patch}_reference_map.tif") as file:
            assert (file.nodata, file.compression.value) == (0, "DEFLATE")
            names = [name_of[code] for code in np.unique(file.read(1)).tolist()]
        assert row["labels"] == sorted(names_of(multi_hot(names, BEN19), BEN19.classes)) != []
        with rasterio.open(v2 / "BigEarthNet-S2" / tile / patch / f"{patch}_B8A.tif") as file:
            assert file.nodata == 0
            assert file.read(1).min() > 0
        pair = v2 / "BigEarthNet-S1" / row["s1_name"].rsplit("_", 3)[0] / row["s1_name"]
        assert sorted(p.name for p in pair.iterdir()) == [f"{row['s1_name']}_{b}.tif" for b in ("VH", "VV")]


def test_both_layouts_show_the_same_land(v1: Path, v2: Path) -> None:
    row = pq.read_table(v2 / "metadata.parquet").to_pylist()[0]
    paths = (
        v2 / "BigEarthNet-S2" / row["patch_id"].rsplit("_", 2)[0] / row["patch_id"],
        v1 / "BigEarthNet-v1.0" / row["s2v1_name"],
    )
    pixels = []
    for path in paths:
        with rasterio.open(path / f"{path.name}_B03.tif") as file:
            pixels.append(file.read(1))
    assert np.array_equal(*pixels)


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_bytes_do_not_depend_on_the_workers(layout: str, v1: Path, v2: Path, tmp_path: Path) -> None:
    sample.sample(_config(tmp_path / "again", layout=layout, workers=2))
    assert _hashes(tmp_path / "again") == _hashes(v1 if layout == "v1" else v2)


def test_another_seed_is_another_land(v1: Path, tmp_path: Path) -> None:
    sample.sample(_config(tmp_path / "other", patches=5, seed=SEED + 1, s1=False))
    assert not (tmp_path / "other" / "BigEarthNet-S1-v1.0").exists()
    assert not set(_hashes(tmp_path / "other").values()) & {
        v for k, v in _hashes(v1).items() if k.endswith(".tif")
    }


def test_says_what_it_is_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    sample.main([str(out), "--patches", "5", "--layout", "v2", "--s1", "--workers", "1"])
    assert (out / "ORIGIN.txt").read_text() == "synthetic sample\n"
    printed = capsys.readouterr().out
    assert "synthetic sample, 5 patches" in printed
    wanted = f"python -m jeoparda_tf.convert {out} {out}-shards --s1 {out}/BigEarthNet-S1 --reference-maps"
    assert wanted in printed


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        sample.sample(_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UsageError, match="is there already"):
        sample.sample(_config(tmp_path / "mine.txt"))


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    sample.sample(_config(tmp_path / "out", patches=2))
    assert (tmp_path / "out" / "train.csv").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": -1},
        {"workers": 0},
        {"patches": 0},
        {"from_eurosat": Path("nowhere")},
        {"from_eurosat": Path()},
    ],
)
def test_impossible_wishes_are_usage_errors(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sample.sample(_config(tmp_path / "out", **{"s1": changes.get("from_eurosat") == Path(), **changes}))
    assert list(tmp_path.iterdir()) == []


def _failing_at_the_third(error: BaseException) -> Callable[[places.Place], scene.Picture]:
    draw, drawn = scene.Scene(0), []

    def fail(place: places.Place) -> scene.Picture:
        drawn.append(place)
        if len(drawn) == 3:
            raise error
        return draw(place)

    return fail


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DataError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_interrupted_run_leaves_nothing(
    error: BaseException, shown: type[BaseException], tmp_path: Path
) -> None:
    plan = places.plan(5, "v1", 0)
    with pytest.raises(shown):
        archive.write(tmp_path / "out", "v1", plan, _failing_at_the_third(error), "synthetic sample", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_archive_and_the_next_one_succeeds(v1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jeoparda_tf.sample", str(out), "--patches", "2000", "--workers", "1"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
    try:
        while not list(tmp_path.glob("out.unfinished/*/*")):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["out.unfinished"]
    assert [path.name for path in (tmp_path / "out.unfinished").iterdir()] == [
        "BigEarthNet-v1.0"
    ]  # no lists yet
    sample.sample(_config(out))
    assert _hashes(out) == _hashes(v1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_help_is_light() -> None:
    heavy = "{'tensorflow', 'numpy', 'rasterio', 'pyarrow', 'PIL'}"
    code = f"import sys, jeoparda_tf.sample; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
