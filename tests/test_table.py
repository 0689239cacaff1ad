"""The table of records: what is written comes back; what is damaged is named."""

import pyarrow
import pytest
from pyarrow import parquet

from tfrecords_tools import table
from tfrecords_tools.errors import DataError

ROWS = [
    table.Row("train", "a.tfrecord", 0, "one", ["Pastures", "Arable land"]),
    table.Row("val", "b.tfrecord", 1, "two", []),
]


def test_round_trip(tmp_path):
    table.write(tmp_path, ROWS)
    assert table.read(tmp_path).to_pylist() == [row._asdict() for row in ROWS]
    assert [path.name for path in tmp_path.iterdir()] == ["records.parquet"]


def test_empty(tmp_path):
    table.write(tmp_path, [])
    assert table.read(tmp_path).num_rows == 0


def test_missing(tmp_path):
    with pytest.raises(DataError, match="table of records is missing"):
        table.read(tmp_path)


def test_damaged(tmp_path):
    table.write(tmp_path, ROWS)
    path = tmp_path / "records.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        table.read(tmp_path)


def test_other_columns(tmp_path):
    parquet.write_table(pyarrow.table({"name": ["one"]}), tmp_path / "records.parquet")
    with pytest.raises(DataError, match="other columns than split, shard, position, name, labels"):
        table.read(tmp_path)


def test_folder_gone(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        table.write(tmp_path / "gone", ROWS)
