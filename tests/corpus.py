"""Broken archives, tables, lists and paths, and what a conversion says of each.

In commands and messages, ROOT is the folder with the spoilt copy, OUT a new folder, and … some words of a library's.
"""

from __future__ import annotations

import bz2
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.archives import LABELS_19, SCENE, TILE, v1_name, v2_name
from tests.conversions import V1_SPLITS, V2_SPLITS
from tests.spoil import (
    Broken,
    Spoil,
    at_root,
    both,
    change,
    cut,
    error,
    flip,
    folder,
    forbid,
    listed,
    lose,
    nothing,
    pixels,
    put,
)

PATCH, PARTNER = v1_name(5), f"{SCENE}_33UUP_0_5"
BAND = f"BigEarthNet-v1.0/{PATCH}/{PATCH}_B03.tif"
JSON = f"BigEarthNet-v1.0/{PATCH}/{PATCH}_labels_metadata.json"
S1_JSON = f"BigEarthNet-S1-v1.0/{PARTNER}/{PARTNER}_labels_metadata.json"

V1 = "convert ROOT/BigEarthNet-v1.0 OUT --splits ROOT --shards 2 --workers 1"
V1_S1 = f"{V1} --s1 ROOT/BigEarthNet-S1-v1.0"
V2 = "convert ROOT OUT --workers 1"
TAR = "convert ROOT/s2.tar OUT --splits ROOT --workers 1"

_SKIP = ", or leave such patches out with --on-error skip"
AGAIN = f"extract it again from the published archive{_SKIP}"
RESTORE = f"restore it from the published archive{_SKIP}"
DOWNLOAD = "download it again from the page of the published archive"
SPLITS = "--splits takes a folder with train.csv, val.csv and test.csv (perhaps .csv.bz2; may be empty)"
FOLDER = "name the folder that the published archive was extracted into, or the archive itself"
PACK = "pack it again from the published files, which holds none"
COPY_TAR = "copy or download the archive again"


def table(**changes: Any) -> Spoil:
    """Writes metadata.parquet again with other columns; None leaves one out."""

    def spoil(root: Path) -> None:
        columns = {
            "patch_id": [v2_name(index) for index in range(9)],
            "labels": [[LABELS_19[index % 5]] for index in range(9)],
            "split": V2_SPLITS,
            "s1_name": [f"{SCENE}_33UUP_00_{index:02d}" for index in range(9)],
            **changes,
        }
        (root / "metadata.parquet").unlink()
        kept = {key: values for key, values in columns.items() if values is not None}
        pq.write_table(pa.table(kept), root / "metadata.parquet")

    return spoil


def tar(name: str = f"{PATCH}/{PATCH}_B02.tif", kind: bytes = tarfile.REGTYPE) -> Spoil:
    """Packs one member as s2.tar."""

    def spoil(root: Path) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, 600 if kind == tarfile.REGTYPE else 0
        member.linkname = "/etc/passwd"
        with tarfile.open(root / "s2.tar", "w") as archive:
            archive.addfile(member, io.BytesIO(bytes(member.size)))

    return spoil


def _eight() -> list[Any]:
    return [v2_name(index) for index in range(8)]


_VH = f"BigEarthNet-S1-v1.0/{PARTNER}/{PARTNER}_VH.tif"
_MAP = f"Reference_Maps/{TILE}/{v2_name(3)}"
_NAN = np.full((120, 120), np.nan, np.float32)
FILES = (
    Broken("band missing", lose(BAND), V1, error(f"{BAND}: missing", AGAIN)),
    Broken("band empty", put(BAND, b""), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band truncated", cut(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band is text", put(BAND, "hello\n" * 1000), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band is a folder", folder(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken("band may not be read", forbid(BAND), V1, error(f"{BAND}: cannot be read: …", AGAIN)),
    Broken(
        "band too small",
        pixels(BAND, np.zeros((60, 60), np.uint16)),
        V1,
        error(f"{BAND}: has 60 x 60 pixels, not 120 x 120", AGAIN),
    ),
    Broken(
        "band of signed integers",
        pixels(BAND, np.zeros((120, 120), np.int16)),
        V1,
        error(f"{BAND}: is int16, not uint16", AGAIN),
    ),
    Broken(
        "two bands in one file",
        pixels(BAND, np.zeros((2, 120, 120), np.uint16)),
        V1,
        error(f"{BAND}: has 2 bands, not one", AGAIN),
    ),
    Broken(
        "rasterio: band empty",
        put(BAND, b""),
        f"{V1} --reader rasterio",
        error(f"{BAND}: cannot be read: …", AGAIN),
    ),
    Broken(
        "NaN in Sentinel-1",
        pixels(_VH, _NAN),
        V1_S1,
        error(f"{_VH}: patch {PATCH}: holds values that are not finite", AGAIN),
    ),
    Broken("Sentinel-1 band missing", lose(_VH), V1_S1, error(f"{_VH}: patch {PATCH}: missing", AGAIN)),
    Broken(
        "reference map missing",
        lose(_MAP),
        f"{V2} --reference-maps",
        error(f"{_MAP}/{v2_name(3)}_reference_map.tif: missing", AGAIN),
    ),
    Broken(
        "no reference maps",
        lose("Reference_Maps"),
        f"{V2} --reference-maps",
        at_root("--reference-maps, but there is no Reference_Maps in it"),
        2,
    ),
)
_NO_JSON, _NO_NAMES = (
    error(f"{JSON}: not readable as JSON: …", RESTORE),
    error(f'{JSON}: has no list of names under "labels"', RESTORE),
)
LABELS = (
    Broken("JSON missing", lose(JSON), V1, error(f"{JSON}: missing", RESTORE)),
    Broken("JSON empty", put(JSON, b""), V1, _NO_JSON),
    Broken(
        "text after the object",
        put(JSON, '{"labels": ["Pastures"]} text'),
        V1,
        error(f"{JSON}: not readable as JSON: Extra data: line 1 column 26 (char 25)", RESTORE),
    ),
    Broken("JSON a list", put(JSON, '["Pastures"]'), V1, error(f"{JSON}: not a JSON object", RESTORE)),
    Broken("JSON without labels", put(JSON, "{}"), V1, _NO_NAMES),
    Broken("labels no list", put(JSON, '{"labels": "Pastures"}'), V1, _NO_NAMES),
    Broken("no label", put(JSON, '{"labels": []}'), V1, error(f"{JSON}: has no labels", RESTORE)),
    Broken(
        "unknown label",
        put(JSON, '{"labels": ["Moon"]}'),
        V1,
        error(f"{JSON}: unknown label 'Moon' for clc43", RESTORE),
    ),
    Broken("JSON not UTF-8", put(JSON, b'{"labels": ["\xff"]}'), V1, _NO_JSON),
    Broken("JSON of endless depth", put(JSON, "[" * 100_000), V1, _NO_JSON),
    Broken(
        "Sentinel-1 JSON without partner",
        put(S1_JSON, "{}"),
        V1_S1,
        error(f"{S1_JSON}: names no corresponding_s2_patch", RESTORE),
    ),
    Broken("Sentinel-1 JSON cut", cut(S1_JSON), V1_S1, error(f"{S1_JSON}: not readable as JSON: …", RESTORE)),
)
_TABLE, _LAST = "metadata.parquet", v2_name(8)
_NO_PARQUET = error(f"{_TABLE}: not readable as parquet: …", DOWNLOAD)
_KNOWN = "known: train, validation, val, test"
TABLES = (
    Broken("table missing", lose(_TABLE), V2, error(f"{_TABLE}: missing", DOWNLOAD)),
    Broken("table empty", put(_TABLE, b""), V2, _NO_PARQUET),
    Broken("table truncated", cut(_TABLE), V2, _NO_PARQUET),
    Broken("table is text", put(_TABLE, "patch_id,labels\n" * 9), V2, _NO_PARQUET),
    Broken(
        "table lacks a column", table(split=None), V2, error(f"{_TABLE}: lacks a column: …split…", DOWNLOAD)
    ),
    Broken(
        "unknown split",
        table(split=["train"] * 8 + ["holdout"]),
        V2,
        error(f"{_TABLE}: unknown split of patch {_LAST}", _KNOWN),
    ),
    Broken(
        "split of another type",
        table(split=[1] * 9),
        V2,
        error(f"{_TABLE}: column split is int64, not text", DOWNLOAD),
    ),
    Broken(
        "row twice",
        table(patch_id=[*_eight(), v2_name(7)]),
        V2,
        error(f"{_TABLE}: patch {v2_name(7)}: is in it twice", f"remove one of the two{_SKIP}"),
    ),
    Broken(
        "patch in two splits",
        table(patch_id=[*_eight(), v2_name(0)]),
        V2,
        error(f"{_TABLE}: patch {v2_name(0)}: is in two splits, train and test", f"decide on one{_SKIP}"),
    ),
    Broken(
        "name missing in the table",
        table(patch_id=[*_eight(), None]),
        V2,
        error(f"{_TABLE}: row 8 names no patch", DOWNLOAD),
    ),
    Broken(
        "labels empty",
        table(labels=[["Pastures"]] * 8 + [[]]),
        V2,
        error(f"{_TABLE}: patch {_LAST}: has no labels", RESTORE),
    ),
    Broken(
        "labels missing",
        table(labels=[["Pastures"]] * 8 + [None]),
        V2,
        error(f"{_TABLE}: patch {_LAST}: has no labels", RESTORE),
    ),
    Broken(
        "labels of another type",
        table(labels=list(range(9))),
        V2,
        error(f"{_TABLE}: column labels is int64, not lists of text", DOWNLOAD),
    ),
    Broken(
        "unknown label in the table",
        table(labels=[["Pastures"]] * 8 + [["Moon"]]),
        V2,
        error(f"{_TABLE}: patch {_LAST}: unknown label 'Moon' for ben19", RESTORE),
    ),
    Broken(
        "patch not in the archive",
        table(patch_id=[*_eight(), v2_name(77)]),
        V2,
        at_root(
            f"1 of 9 listed patches are not in it: {v2_name(77)} (listed in ROOT/{_TABLE})",
            "extract the whole archive, or convert what is there with --on-error skip",
        ),
    ),
    Broken(
        "no partner in the table",
        table(s1_name=["S1A"] * 8 + [None]),
        f"{V2} --s1 ROOT/BigEarthNet-S1",
        error(f"BigEarthNet-S1: patch {_LAST}: has no Sentinel-1 partner", RESTORE),
    ),
)
_NO_LIST = "not a readable list: …"
LISTS = (
    Broken("list missing", lose("val.csv"), V1, at_root("no val.csv in it", SPLITS), 2),
    Broken("list a folder", folder("val.csv"), V1, at_root("no val.csv in it", SPLITS), 2),
    Broken(
        "folder of lists missing",
        nothing,
        V1.replace("--splits ROOT", "--splits ROOT/x"),
        error("x: no such folder for --splits"),
        2,
    ),
    Broken(
        "a file for the folder of lists",
        nothing,
        V1.replace("--splits ROOT", "--splits ROOT/val.csv"),
        error("val.csv: not a folder, but --splits must be one"),
        2,
    ),
    Broken(
        "all lists empty",
        both(*(listed(split, ()) for split in V1_SPLITS)),
        V1,
        error("BigEarthNet-v1.0: no patch is left to convert", "left out: 14 in no split list"),
    ),
    Broken(
        "list without names",
        put("train.csv", "hello,world\n1,2\n"),
        V1,
        error(
            "train.csv: line 2 names no Sentinel-2 patch: '1,2'",
            "one patch a line is expected, its name in the first column",
        ),
    ),
    Broken(
        "list binary",
        put("train.csv", bytes(range(256))),
        V1,
        error(f"train.csv: {_NO_LIST}", "download the list again"),
    ),
    Broken(
        "bz2 broken",
        both(lose("train.csv"), put("train.csv.bz2", bz2.compress(PATCH.encode() * 1000)[:30])),
        V1,
        error(f"train.csv.bz2: {_NO_LIST}", "download the list again"),
    ),
    Broken(
        "bz2 no bz2",
        both(lose("train.csv"), put("train.csv.bz2", PATCH)),
        V1,
        error(f"train.csv.bz2: {_NO_LIST}", "download the list again"),
    ),
    Broken(
        "patch twice in a list",
        listed("val", [v1_name(8), v1_name(8)]),
        V1,
        error(f"val.csv: patch {v1_name(8)}: is in it twice", f"remove one of the two{_SKIP}"),
    ),
    Broken(
        "patch in two lists",
        listed("test", [PATCH]),
        V1,
        error(f"test.csv: patch {PATCH}: is in two splits, train and test", f"decide on one{_SKIP}"),
    ),
    Broken(
        "names nobody has",
        listed("test", [f"{PATCH}9"]),
        V1,
        error(
            f"BigEarthNet-v1.0: 1 of 11 listed patches are not in it: {PATCH}9 (listed in ROOT/test.csv)",
            "extract the whole archive, or convert what is there with --on-error skip",
        ),
    ),
    Broken(
        "list to exclude missing",
        nothing,
        f"{V1} --exclude ROOT/snow.csv",
        error("snow.csv: no such list of patches"),
        2,
    ),
)
_LOW = f"BigEarthNet-v1.0/{PATCH}"
PATHS = (
    Broken(
        "no such archive",
        nothing,
        V1.replace("-v1.0", "-v3.0"),
        error("BigEarthNet-v3.0: no such folder for the archive", FOLDER),
        2,
    ),
    Broken(
        "a file for the archive",
        nothing,
        V1.replace("BigEarthNet-v1.0", BAND),
        error(f"{BAND}: not a folder for the archive", FOLDER),
        2,
    ),
    Broken(
        "a level too high",
        nothing,
        V1.replace("ROOT/BigEarthNet-v1.0", "ROOT"),
        at_root("not a BigEarthNet archive", "did you mean ROOT/BigEarthNet-v1.0 ?"),
        2,
    ),
    Broken(
        "a level too low",
        nothing,
        V1.replace("BigEarthNet-v1.0", _LOW),
        error(f"{_LOW}: not a BigEarthNet archive", "did you mean ROOT/BigEarthNet-v1.0 ?"),
        2,
    ),
    Broken(
        "archive empty",
        folder("new"),
        V1.replace("BigEarthNet-v1.0", "new"),
        error("new: not a BigEarthNet archive", "it is empty: extract the published archive into it"),
        2,
    ),
    Broken(
        "tiles for version 2's archive",
        nothing,
        V2.replace("ROOT", "ROOT/BigEarthNet-S2"),
        error("BigEarthNet-S2: not a BigEarthNet archive", "did you mean ROOT ?"),
        2,
    ),
    Broken(
        "tiles empty",
        both(lose("BigEarthNet-S2"), folder("BigEarthNet-S2")),
        V2,
        at_root("no patch in it", "extract the published archive here again"),
    ),
    Broken(
        "Sentinel-2 for Sentinel-1",
        nothing,
        f"{V1} --s1 ROOT/BigEarthNet-v1.0",
        error(
            "BigEarthNet-v1.0: no Sentinel-1 data in it",
            "--s1 takes the folder that holds the folders of Sentinel-1 patches like S1A_…",
        ),
        2,
    ),
    Broken(
        "OUT a file",
        nothing,
        V1.replace("OUT", "ROOT/val.csv"),
        error("val.csv: cannot be written: File exists", "…"),
        2,
    ),
    Broken(
        "OUT with foreign files",
        nothing,
        V1.replace("OUT", "ROOT"),
        at_root("is not empty: it holds BigEarthNet-S1-v1.0", "name a new or empty folder"),
        2,
    ),
    Broken(
        "no splits",
        nothing,
        V1.replace("--splits ROOT", ""),
        error(
            "BigEarthNet-v1.0: version 1 holds no split",
            "name the published lists with --splits DIR …--split-fractions 0.6 0.2 0.2",
        ),
        2,
    ),
)
_LINK = error(f"s2.tar: member {PATCH}/{PATCH}_B02.tif is a link or a device", PACK)
_ONE_LISTED = both(listed("train", [PATCH]), listed("val", ()), listed("test", ()))
TARS = (
    Broken(
        "member with an absolute path",
        tar("/etc/x/y.tif"),
        TAR,
        error("s2.tar: member /etc/x/y.tif lies outside of it", PACK),
    ),
    Broken(
        "member above",
        tar("a/../../y.tif"),
        TAR,
        error("s2.tar: member a/../../y.tif lies outside of it", PACK),
    ),
    Broken("symbolic link", tar(kind=tarfile.SYMTYPE), TAR, _LINK),
    Broken("hard link", tar(kind=tarfile.LNKTYPE), TAR, _LINK),
    Broken("device", tar(kind=tarfile.CHRTYPE), TAR, _LINK),
    Broken(
        "tar truncated",
        both(tar(), change("s2.tar", lambda content: content[:700])),
        TAR,
        error(f"s2.tar: cut off within {PATCH}/{PATCH}_B02.tif", COPY_TAR),
    ),
    Broken(
        "tar empty",
        put("s2.tar", b""),
        TAR,
        error("s2.tar: damaged or cut off: no header at byte 0, where it ends", COPY_TAR),
    ),
    Broken(
        "tar is text",
        put("s2.tar", "hello\n" * 1000),
        TAR,
        error("s2.tar: not a readable tar: no header at byte 0", COPY_TAR),
    ),
    Broken(
        "tar header damaged",
        both(tar(), flip("s2.tar", 3)),
        TAR,
        error("s2.tar: not a readable tar: no header at byte 0", COPY_TAR),
    ),
    Broken("tar without patches", tar("a/b.txt"), TAR, error("s2.tar: no Sentinel-2 patches in this tar"), 2),
    Broken(
        "tar lacks labels",
        both(tar(), _ONE_LISTED),
        TAR,
        error(f"s2.tar/{PATCH}/{PATCH}_labels_metadata.json: missing", RESTORE),
    ),
)

CONVERSIONS = (*FILES, *LABELS, *TABLES, *LISTS, *PATHS, *TARS)
