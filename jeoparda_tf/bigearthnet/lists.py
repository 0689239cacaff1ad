"""Reads the published lists of patch names: splits, pairs, snow and cloud; plain or compressed with bzip2."""

from __future__ import annotations

import bz2
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from tfrecords_tools.cli import existing_folder
from tfrecords_tools.errors import DataError, UsageError

SPLITS = ("train", "val", "test")


class Row(NamedTuple):
    """One line of a list: the Sentinel-2 patch and, in BigEarthNet-MM's lists, its Sentinel-1 patch."""

    s2: str
    s1: Optional[str]


def read(path: Path) -> list[Row]:
    """Reads a list of patches: CSV, one patch a line, with or without a header.

    The columns are told apart by their values, since published lists differ in their order: names of
    Sentinel-2 patches begin with S2, those of Sentinel-1 with S1; other columns are of no use here.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read or a line names no patch.
    """
    return list(_rows(path, _text(path)))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (bz2.decompress(data) if path.suffix == ".bz2" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError("no such list of patches", path=path) from None
    except (OSError, EOFError, ValueError) as error:
        remedy = "download the list again"
        raise DataError(f"not a readable list: {error}", path=path, remedy=remedy) from error


def _rows(path: Path, text: str) -> Iterator[Row]:
    for number, cells in enumerate(csv.reader(io.StringIO(text)), start=1):
        s2 = next((cell for cell in cells if cell.startswith("S2")), None)
        if s2:
            yield Row(s2.strip(), next((cell.strip() for cell in cells if cell.startswith("S1")), None))
        elif number > 1 and any(cell.strip() for cell in cells):
            remedy = "one patch a line is expected, its name in the first column"
            line = ",".join(cells)[:60]
            raise DataError(f"line {number} names no Sentinel-2 patch: {line!r}", path=path, remedy=remedy)


def split_files(directory: Path) -> dict[str, Path]:
    """Returns the three lists of a folder by split: train.csv, val.csv, test.csv, each perhaps with .bz2.

    Raises:
        UsageError: the folder or one of the lists is missing.
    """
    existing_folder(directory, "--splits")
    files = {}
    for split in SPLITS:
        candidates = [directory / f"{split}.csv", directory / f"{split}.csv.bz2"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            remedy = "--splits takes a folder with train.csv, val.csv and test.csv (perhaps .csv.bz2; may be empty)"
            raise UsageError(f"no {split}.csv in it", path=directory, remedy=remedy)
        files[split] = found
    return files
