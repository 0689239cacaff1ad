"""The table of all records beside the manifest: where each one stands, its name and its labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import DataError
from .manifest import TABLE_NAME, Manifest

if TYPE_CHECKING:
    import pyarrow


_REMEDY = "copy it again from where the shards come from, or convert the archive again"


class Row(NamedTuple):
    """One record.

    Attributes:
        split: for instance "train".
        shard: file name of the shard.
        position: in the shard, from 0.
        name: of the patch.
        labels: class names, in the order of the nomenclature.
    """

    split: str
    shard: str
    position: int
    name: str
    labels: list[str]


def schema() -> pyarrow.Schema:
    """Returns the columns and their types."""
    import pyarrow

    text = pyarrow.string()
    types = (text, text, pyarrow.int32(), text, pyarrow.list_(text))
    return pyarrow.schema(list(zip(Row._fields, types)))


def write(directory: Path, rows: Iterable[Row]) -> None:
    """Writes `records.parquet`, rows in shard order, whole or not at all.

    Raises:
        DataError: the disk is full or the folder is gone.
    """
    import pyarrow
    from pyarrow import parquet

    columns = list(zip(*rows)) or [()] * len(Row._fields)
    arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema())]
    path = directory / TABLE_NAME
    temporary = path.with_name(path.name + ".tmp")
    try:
        parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema()), temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error


def read(directory: Path) -> pyarrow.Table:
    """Reads `records.parquet`.

    Raises:
        DataError: it is missing, damaged or has other columns.
    """
    import pyarrow
    from pyarrow import parquet

    path = directory / TABLE_NAME
    try:
        table = parquet.ParquetFile(path).read()
    except FileNotFoundError:
        raise DataError("the table of records is missing", path=path, remedy=_REMEDY) from None
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"cannot be read: {error}", path=path, remedy=_REMEDY) from error
    if not table.schema.equals(schema()):
        raise DataError(f"has other columns than {', '.join(Row._fields)}", path=path, remedy=_REMEDY)
    return table


def rows_of(split: str, known: Manifest, rows: pyarrow.Table, directory: Path) -> list[Row]:
    """Returns a split's rows of the table, in the order of its records.

    Raises:
        DataError: they are not those of the manifest's shards.
    """
    from pyarrow import compute

    members = [Row(**row) for row in rows.filter(compute.equal(rows["split"], split)).to_pylist()]
    places = [
        (shard.file, position) for shard in known.splits[split].shards for position in range(shard.records)
    ]
    if [(row.shard, row.position) for row in members] != places:
        remedy = "`python -m tfrecords_tools.verify` says what is wrong"
        raise DataError(f"does not list the records of {split}", path=directory / TABLE_NAME, remedy=remedy)
    return members


def read_labels(directory: Path, split: str, classes: Sequence[str]) -> np.ndarray:
    """Returns the labels of a split as the table has them: uint8 [records, classes], in the order of the shards.

    A name that is not in `classes` leaves its row short. Raises a DataError as `read` does.
    """
    import pyarrow.compute

    rows = read(directory)
    names = rows.filter(pyarrow.compute.equal(rows["split"], split))["labels"].to_pylist()
    index = {name: number for number, name in enumerate(classes)}
    labels = np.zeros((len(names), len(index)), np.uint8)
    for row, present in zip(labels, names):
        row[[index[name] for name in present if name in index]] = 1
    return labels
