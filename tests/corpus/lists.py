"""Broken tables and lists of patches, and what a conversion says of each."""

from __future__ import annotations

import bz2
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.archives import LABELS_19, SCENE, v1_name, v2_name
from tests.conversions import V1_SPLITS, V2_SPLITS
from tests.corpus.common import _SKIP, DOWNLOAD, PATCH, RESTORE, SPLITS, V1, V2
from tests.spoil import Broken, Spoil, at_root, both, cut, error, folder, listed, lose, nothing, put


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


def _eight() -> list[Any]:
    return [v2_name(index) for index in range(8)]


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
