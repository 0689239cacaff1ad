"""What tensorflow-datasets reads of our shards, value by value, and what verify says of the files it needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.conversion.run import convert
from tests import shards
from tests.conftest import need_module
from tests.conversions import read_back, v2_config
from tfrecords_tools import manifest, split, tfds, verify


@pytest.fixture
def data(tmp_path: Path) -> Path:
    shards.write(tmp_path / "data", {"train": 4}, features=bands.S2_FEATURES[2:], display={})
    return tmp_path / "data"


@pytest.mark.tensorflow
def test_tensorflow_datasets_reads_every_value(v2: Path, tmp_path: Path) -> None:
    from jeoparda_tf.stack import tf

    if tf.__version__.startswith("2.15.") and sys.version_info >= (3, 11):
        need_module("tensorflow_datasets")  # of the pinned versions, only these have it
    reader = pytest.importorskip("tensorflow_datasets", reason="not among the versions of this Python")
    out, half = tmp_path / "out", tmp_path / "half"
    convert(v2_config(v2, out, s1=v2 / "BigEarthNet-S1", reference_maps=True, shards=2))
    split.main([str(out), str(half), "--fraction", "0.5"])
    for directory in (out, half):
        known, expected = manifest.read(directory), read_back(directory)
        builder = reader.builder_from_directory(directory)
        assert builder.name == "bigearthnet"
        assert "reBEN" in builder.info.citation
        assert builder.info.redistribution_info.license == "CDLA-Permissive-1.0"
        assert set(builder.info.splits) == set(expected)
        assert set(builder.info.features) == {"labels", "name", *(f.name for f in known.features)}
        assert "; ".join(known.nomenclature.classes) in builder.info.features["labels"].doc.desc
        for name, records in expected.items():
            info = builder.info.splits[name]
            assert info.num_examples == len(records)
            assert [Path(p).name for p in info.filepaths] == [s.file for s in known.splits[name].shards]
            found = list(reader.as_numpy(builder.as_dataset(split=name)))
            assert [example["name"].decode() for example in found] == [r["name"] for r in records]
            for example, record in zip(found, records):
                assert set(example) == set(record)
                for key in set(record) - {"name"}:
                    assert example[key].dtype == record[key].dtype
                    assert np.array_equal(example[key], record[key]), key
    part = reader.builder_from_directory(out).as_dataset(split="train[1:3]")
    assert [e["name"].decode() for e in part.as_numpy_iterator()] == [
        record["name"] for record in read_back(out)["train"][1:3]
    ]


@pytest.mark.parametrize("name", tfds.FILE_NAMES)
def test_verify_finds_lost_and_spoilt_files_and_the_command_mends_them(
    data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known, whole = manifest.read(data), (data / name).read_bytes()
    remedy = f"`python -m tfrecords_tools.tfds {data}` writes it again"
    assert tfds.check(data, known) == []
    (data / name).write_text("{")
    assert tfds.check(data, known) == [f"{name}: cannot be read; {remedy}"]
    (data / name).write_text(json.dumps({"name": "other"}))
    assert verify.verify(data, known) == [f"{name}: is not what the manifest says; {remedy}"]
    (data / name).unlink()
    assert tfds.check(data, known) == [f"{name}: is missing; {remedy}"]
    assert tfds.main([str(data)]) == 0
    assert capsys.readouterr().out.endswith("wrote features.json and dataset_info.json\n")
    assert (data / name).read_bytes() == whole
