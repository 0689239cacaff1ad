"""Reads metadata.parquet of version 2: split, labels and Sentinel-1 partner of every patch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrecords_tools.errors import DataError

from .archive import SNOW_AND_CLOUD_TABLE, Archive

_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_COLUMNS = ["patch_id", "labels", "split", "s1_name"]
_REMEDY = "download it again from the page of the published archive"


class Metadata:
    """The table of an archive's patches.

    Attributes:
        names: patch names, row by row.
        splits: "train", "val" or "test" of each (the table says "validation").
        file: path of the table.
        digest: SHA-256 of the table's files: changes with any label.
    """

    def __init__(self, tables: Any, digest: str, path: Path):
        self._tables, self.digest, self.file = tables, digest, str(path)
        self.names: list[str] = tables["patch_id"].to_pylist()
        self.splits = [_SPLITS.get(split, "") for split in tables["split"].to_pylist()]
        if None in self.names:
            raise DataError(f"row {self.names.index(None)} names no patch", path=path, remedy=_REMEDY)
        if "" in self.splits:
            name = self.names[self.splits.index("")]
            raise DataError(
                f"unknown split of patch {name}", path=path, remedy=f"known: {', '.join(_SPLITS)}"
            )
        self._rows = {name: row for row, name in enumerate(self.names)}

    def labels(self, names: Sequence[str]) -> list[list[str]]:
        """Returns the label names of patches; the table stays in Arrow's memory, 1.5 million strings would not fit."""
        return [row or [] for row in self._column("labels", names)]

    def label_counts(self, names: Sequence[str]) -> dict[str, int]:
        """Returns how many of some patches have each label, by label."""
        from pyarrow import compute

        rows = self._tables["labels"].take([self._rows[name] for name in names])
        return {
            entry["values"]: entry["counts"]
            for entry in compute.value_counts(compute.list_flatten(rows)).to_pylist()
        }

    def s1(self, names: Sequence[str]) -> dict[str, str]:
        """Returns the Sentinel-1 partners by patch name; patches without one are left out."""
        return {name: s1 for name, s1 in zip(names, self._column("s1_name", names)) if s1}

    def _column(self, column: str, names: Sequence[str]) -> list[Any]:
        values: list[Any] = self._tables[column].take([self._rows[name] for name in names]).to_pylist()
        return values


def read(archive: Archive, include_snow_and_cloud: bool = False) -> Metadata:
    """Reads the table of a v2 archive, and with it the patches under snow, cloud or shadow where asked for.

    Raises:
        DataError: a table is missing, unreadable or lacks a column.
    """
    import pyarrow

    path = Path(archive.table_file())
    paths = [path, path.with_name(SNOW_AND_CLOUD_TABLE)] if include_snow_and_cloud else [path]
    tables = pyarrow.concat_tables([_table(path, _COLUMNS) for path in paths]).combine_chunks()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return Metadata(tables, digest, path)


def snow_and_cloud(archive: Archive) -> list[str]:
    """Returns the patches of the second table, those under snow, cloud or shadow; none where it is missing."""
    path = Path(archive.table_file()).with_name(SNOW_AND_CLOUD_TABLE)
    if not path.is_file():
        return []
    names: list[str] = _table(path, ["patch_id"])["patch_id"].to_pylist()
    return names


def _table(path: Path, columns: list[str]) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read(columns=columns).select(columns)
    except FileNotFoundError:
        raise DataError("missing", path=path, remedy=_REMEDY) from None
    except KeyError as error:
        raise DataError(f"lacks a column: {error.args[0]}", path=path, remedy=_REMEDY) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not readable as parquet: {error}", path=path, remedy=_REMEDY) from error
    for column in columns:
        kind = table.schema.field(column).type
        if not (_is_list_of_text(kind) if column == "labels" else _is_text(kind)):
            wanted = "lists of text" if column == "labels" else "text"
            raise DataError(f"column {column} is {kind}, not {wanted}", path=path, remedy=_REMEDY)
    return table


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    # A column in which nothing stands has no type of its own.
    return types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)


def _is_list_of_text(kind: Any) -> bool:
    from pyarrow import types

    return (types.is_list(kind) or types.is_large_list(kind)) and _is_text(kind.value_type)
