from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from jeoparda_tf.bigearthnet import archive, lists, metadata
from jeoparda_tf.bigearthnet.archive import Archive
from tests import archives
from tests.archives import TILE
from tfrecords_tools.errors import DataError, UsageError

V1_NAMES = (
    "S2A_MSIL2A_20170613T101031_87_48",
    "S2B_MSIL2A_20170924T93020_4_7",
    "S2B_MSIL2A_20180204T94161_57_38",
)


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for name in V1_NAMES:
        (tmp_path / "BigEarthNet-v1.0" / name).mkdir(parents=True)
    return tmp_path / "BigEarthNet-v1.0"


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    for indices in ("26_57", "00_09"):
        (tmp_path / "v2" / "BigEarthNet-S2" / TILE / f"{TILE}_{indices}").mkdir(parents=True)
    return tmp_path / "v2"


def test_finds_v1_whatever_the_hour(v1: Path) -> None:
    (v1 / "notes").mkdir()
    (v1 / "S2A_MSIL2A_20170613T101031_87_49").write_text("a file")
    opened = archive.open_archive(v1)
    found = archive.find_patches(opened)
    assert opened.layout == "v1"
    assert (sorted(found.names), found.strange) == (sorted(V1_NAMES), 1)
    assert opened.s2_folder(V1_NAMES[0]) == f"{v1}/{V1_NAMES[0]}"
    assert opened.labels_file("a") == f"{v1}/a/a_labels_metadata.json"


def test_finds_v2(v2: Path) -> None:
    opened = archive.open_archive(v2)
    assert opened.layout == "v2"
    assert sorted(archive.find_patches(opened).names) == [f"{TILE}_00_09", f"{TILE}_26_57"]
    opened = Archive("v2", "root", "s1")
    assert opened.s2_folder(f"{TILE}_26_57") == f"root/BigEarthNet-S2/{TILE}/{TILE}_26_57"
    assert opened.map_folder(f"{TILE}_26_57") == f"root/Reference_Maps/{TILE}/{TILE}_26_57"
    scene = "S1B_IW_GRDH_1SDV_20170612T165809"
    assert opened.s1_folder(f"{scene}_33UUP_26_57") == f"s1/{scene}/{scene}_33UUP_26_57"


def test_links_and_slashes(v1: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / V1_NAMES[0]).symlink_to(v1 / V1_NAMES[0])
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert archive.find_patches(archive.open_archive(Path(f"{tmp_path}/link/"))).names == [V1_NAMES[0]]


def test_one_level_off_names_the_right_path(v1: Path, v2: Path) -> None:
    for wrong, right in (
        (v1.parent, v1),
        (v1 / V1_NAMES[0], v1),
        (v2 / "BigEarthNet-S2", v2),
        (v2 / "BigEarthNet-S2" / TILE, v2),
    ):
        with pytest.raises(UsageError, match=f"not a BigEarthNet archive\n  did you mean {right} ?"):
            archive.open_archive(wrong)


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    with pytest.raises(UsageError, match="it is empty: extract"):
        archive.open_archive(tmp_path / "a" / "b" / "c")
    with pytest.raises(UsageError, match="no such folder for the archive"):
        archive.open_archive(tmp_path / "gone")
    (tmp_path / "a" / "x.zip").touch()
    with pytest.raises(UsageError, match="not a folder for the archive"):
        archive.open_archive(tmp_path / "a" / "x.zip")
    with pytest.raises(UsageError, match="version 1 is a folder of folders like"):
        archive.open_archive(tmp_path / "a")


def test_s1_folder_must_hold_sentinel1(v1: Path) -> None:
    with pytest.raises(UsageError, match=r"no Sentinel-1 data in it\n.*S1A_IW"):
        archive.open_archive(v1, s1=v1)


def test_v2_patch_in_a_foreign_tile(v2: Path) -> None:
    other = TILE.replace("33UUP", "33UVP")
    for name in (f"{TILE}_26_57", f"{TILE}_77_77"):
        (v2 / "BigEarthNet-S2" / other / name).mkdir(parents=True)
    found = archive.find_patches(archive.open_archive(v2))
    assert sorted(found.names) == [f"{TILE}_00_09", f"{TILE}_26_57"]
    assert [(name, str(error)) for name, error in sorted(found.misplaced, key=lambda item: item[0])] == [
        (
            f"{TILE}_26_57",
            f"{v2}/BigEarthNet-S2/{other}/{TILE}_26_57: duplicate patch: it is in {TILE} too\n  remove this one",
        ),
        (
            f"{TILE}_77_77",
            f"{v2}/BigEarthNet-S2/{other}/{TILE}_77_77: a patch in the folder of another tile\n  move it to {TILE}",
        ),
    ]


def test_blocks_are_8_by_8_and_know_the_place() -> None:
    assert archive.block_of("S2B_MSIL2A_20170924T93020_7_8") == "S2B_MSIL2A_20170924T93020_0_1"
    assert archive.block_of("S2B_MSIL2A_20170924T93020_8_15") == "S2B_MSIL2A_20170924T93020_1_1"
    # Version 2 tells the tile: another day, another orbit, the same block of ground.
    day, other = TILE, "S2B_MSIL2A_20180101T100000_N9999_R122_T33UUP"
    assert archive.block_of(f"{day}_08_07") == archive.block_of(f"{other}_15_00") == "T33UUP_1_0"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"labels": ["Pastures"]} trailing', "not readable as JSON: Extra data"),
        (b'{"labels": ["Pas', "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        (b'["Pastures"]', "not a JSON object"),
        (b"{}", "has no list of names"),
        (b'{"labels": "Pastures"}', "has no list of names"),
        (b'{"labels": ["Pastures", 3]}', "has no list of names"),
    ],
)
def test_faulty_labels(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x_labels_metadata.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"x_labels_metadata.json: {problem}"):
        archive.read_labels(str(path))


def test_labels_missing_or_fine(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json: missing"):
        archive.read_labels(str(tmp_path / "x.json"))
    (tmp_path / "x.json").write_text('{"coordinates": {}, "labels": ["Pastures", "Dump sites"]}')
    assert archive.read_labels(str(tmp_path / "x.json")) == ["Pastures", "Dump sites"]


def test_origin_is_told_beside_or_in_the_archive(v1: Path) -> None:
    assert archive.origin(Archive("v1", str(v1))) == "BigEarthNet"
    (v1.parent / "ORIGIN.txt").write_text("synthetic sample\n")
    assert archive.origin(Archive("v1", str(v1))) == "synthetic sample"


def test_lists_in_all_published_forms(tmp_path: Path) -> None:
    s2, s1 = "S2A_MSIL2A_20170613T101031_87_48", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48"
    forms = {
        "one.csv": f"{s2}\n",
        "pairs.csv": f"{s2},{s1}\r\n",
        "swapped.csv": f"s1_name,s2_name,country,season\n{s1},{s2},Austria,Summer\n\n",
        "header.csv": f"\ufeffpatch\n{s2}\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_bytes(text.encode())
        (tmp_path / f"{name}.bz2").write_bytes(bz2.compress(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}.bz2"):
            assert lists.read(path) == [(s2, s1 if name in ("pairs.csv", "swapped.csv") else None)]
    (tmp_path / "empty.csv").touch()
    assert lists.read(tmp_path / "empty.csv") == []


def test_faulty_lists(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    with pytest.raises(UsageError, match=r"train\.csv: no such list"):
        lists.read(path)
    path.write_text("S2A_MSIL2A_20170613T101031_87_48\nhello,world\n")
    with pytest.raises(DataError, match=r"train\.csv: line 2 names no Sentinel-2 patch: 'hello,world'"):
        lists.read(path)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DataError, match=r"train\.csv: not a readable list"):
        lists.read(path)
    packed = tmp_path / "train.csv.bz2"
    for content in (bz2.compress(b"S2A\n" * 1000)[:20], b"plain text"):
        packed.write_bytes(content)
        with pytest.raises(DataError, match=r"train\.csv\.bz2: not a readable list"):
            lists.read(packed)
    with pytest.raises(UsageError, match=r"no val\.csv in it\n.*may be empty"):
        lists.split_files(tmp_path)


def test_real_lists_have_their_published_sizes(shared_data: Path) -> None:
    files = lists.split_files(shared_data / "lists")
    assert {split: len(lists.read(path)) for split, path in files.items()} == {
        "train": 269_695,
        "val": 123_723,
        "test": 125_866,
    }


def test_real_metadata(shared_data: Path) -> None:
    table = metadata.read(Archive("v2", str(shared_data / "bigearthnet-v2")))
    counts = {split: table.splits.count(split) for split in ("train", "val", "test")}
    assert counts == {"train": 237_871, "val": 122_342, "test": 119_825}
    name = f"{TILE}_26_57"
    assert table.labels([name]) == [["Arable land", "Broad-leaved forest", "Mixed forest", "Pastures"]]
    assert table.s1([name]) == {name: "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57"}
    assert len(metadata.snow_and_cloud(Archive("v2", str(shared_data / "bigearthnet-v2")))) == 69_450


def test_faulty_metadata(tmp_path: Path) -> None:
    path = tmp_path / "metadata.parquet"
    opened = Archive("v2", str(tmp_path))
    with pytest.raises(DataError, match=r"metadata\.parquet: missing"):
        metadata.read(opened)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"metadata\.parquet: not readable as parquet"):
        metadata.read(opened)
    archives.write_table(path, ["a"], [["Pastures"]], ["holdout"], ["b"])
    with pytest.raises(DataError, match=r"metadata\.parquet: unknown split of patch a"):
        metadata.read(opened)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"patch_id": ["a"], "split": ["train"]}), path)
    with pytest.raises(DataError, match=r"metadata\.parquet: lacks a column"):
        metadata.read(opened)
