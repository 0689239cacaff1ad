"""Split: the right records, byte for byte, with counts and statistics of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests import shards
from tfrecords_tools import manifest, split, stats, table, tfrecord, verify
from tfrecords_tools.errors import DataError, UsageError

FEATURES = (manifest.Feature("ten", "uint16", (4, 4, 2), 10, (manifest.Band("A"), manifest.Band("B"))),)
CLASSES = manifest.Nomenclature("abc", ("a", "b", "c"))


@pytest.fixture
def source(tmp_path):
    counts = {"train": 20, "val": 10, "test": 5}
    shards.write(tmp_path / "data", counts, shards=4, features=FEATURES, nomenclature=CLASSES, display={})
    return tmp_path / "data"


def _records(directory, name):
    known = manifest.read(directory)
    return [r for s in known.splits[name].shards for r in tfrecord.read_records(directory / s.file)]


@pytest.mark.parametrize("balanced", [(), ("--balanced",)])
def test_subset(source, tmp_path, balanced, capsys):
    out = tmp_path / "new" / "out"
    assert split.main([str(source), str(out), "--fraction", "0.5", *balanced]) == 0
    assert "train 10, val 5, test 2 records" in capsys.readouterr().out
    assert verify.verify(out, manifest.read(out)) == []
    for name in ("train", "val", "test"):
        assert stats.main([str(out), "--split", name, "--workers", "1"]) == 0
        whole, part = _records(source, name), _records(out, name)
        places = [whole.index(record) for record in part]
        assert places == sorted(set(places))
    known = manifest.read(out)
    assert [len(known.splits[name].shards) for name in ("train", "val", "test")] == [2, 2, 2]
    assert known.excluded == {"not drawn": 18}
    assert known.sources["subset"]["drawn"] == ("balanced" if balanced else "random")
    assert known.origin == shards.ORIGIN


def test_records_of_one_split(source, tmp_path):
    split.main([str(source), str(tmp_path / "out"), "--records", "7", "--splits", "val", "val"])
    known = manifest.read(tmp_path / "out")
    assert list(known.splits) == ["val"]
    assert known.splits["val"].records == 7
    assert known.statistics == {}
    assert table.read(tmp_path / "out").num_rows == 7


def test_everything(tmp_path):
    counts = {"train": 20, "val": 8}
    shards.write(tmp_path / "data", counts, shards=4, features=FEATURES, nomenclature=CLASSES, display={})
    split.main([str(tmp_path / "data"), str(tmp_path / "out"), "--fraction", "1"])
    old, new = manifest.read(tmp_path / "data"), manifest.read(tmp_path / "out")
    assert (new.splits, new.statistics) == (old.splits, old.statistics)


def test_seed(source, tmp_path):
    chosen = []
    for number, seed in enumerate("001"):
        split.main([str(source), str(tmp_path / str(number)), "--records", "5", "--seed", seed])
        chosen.append(table.read(tmp_path / str(number))["name"].to_pylist())
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def test_balanced_raises_rare_classes():
    labels = np.zeros((1000, 3), bool)
    labels[:, 0] = True  # in every record
    labels[:100, 1] = True
    labels[500:505, 2] = True
    labels[995:, 0] = False  # no label at all
    drawn = split.draw_balanced(labels, 60, np.random.default_rng(0))
    counts = labels[drawn].sum(axis=0)
    assert counts[2] == 5  # all there are
    assert counts[1] >= 25  # six by chance
    assert len(drawn) == 60
    assert not (drawn >= 995).any()


@given(arrays.arrays(bool, (12, 3)), st.integers(0, 12), st.integers(0, 9))
def test_balanced_draws_as_many_as_asked_for(labels, number, seed):
    drawn = split.draw_balanced(labels, number, np.random.default_rng(seed))
    assert len(drawn) == number
    assert sorted(set(drawn.tolist())) == drawn.tolist()
    unlabelled = ~labels.any(axis=1)
    if unlabelled[drawn].any():  # only when all others are taken
        assert (~unlabelled).sum() == (~unlabelled[drawn]).sum()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "either --fraction or --records"),
        (["--fraction", "0.5", "--records", "3"], "either --fraction or --records"),
        (["--fraction", "0"], "not above 0"),
        (["--fraction", "1.5"], "not above 0 and at most 1"),
        (["--records", "11"], "cannot draw 11 records from val, which has 10"),
        (["--records", "0"], "cannot draw 0 records"),
        (["--records", "3", "--seed", "-1"], "--seed is -1, but must be at least 0"),
    ],
)
def test_usage(source, tmp_path, flags, problem):
    with pytest.raises(UsageError, match=problem):
        split.main([str(source), str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_unknown_split(source, tmp_path):
    with pytest.raises(DataError, match="no split 'validation'"):
        split.main([str(source), str(tmp_path / "out"), "--fraction", "1", "--splits", "validation"])


def test_out_is_not_empty(source):
    with pytest.raises(UsageError, match="is not empty"):
        split.main([str(source), str(source), "--fraction", "1"])


def test_out_is_a_file(source, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        split.main([str(source), str(tmp_path / "out"), "--fraction", "1"])


def test_damaged_source_leaves_no_manifest(source, tmp_path):
    path = source / "val-00003-of-00004.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="record 1: is cut off"):
        split.main([str(source), str(tmp_path / "out"), "--fraction", "1"])
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_table_that_does_not_fit(source, tmp_path):
    rows = [table.Row(**row) for row in table.read(source).to_pylist()]
    table.write(source, rows[1:])
    with pytest.raises(DataError, match="does not list the records of train"):
        split.main([str(source), str(tmp_path / "out"), "--fraction", "1"])
    rows[0], rows[1] = rows[0]._replace(name=rows[1].name), rows[1]._replace(name=rows[0].name)
    table.write(source, rows)
    with pytest.raises(DataError, match=r"record 0 is .*_0_0, records\.parquet has .*_0_1"):
        split.main([str(source), str(tmp_path / "out2"), "--fraction", "1"])
