"""Several runs in one table: their own scores, what differs, what does not compare."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from jeoparda_tf import report
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.models.spec import ModelSpec
from jeoparda_tf.training import workdir
from tests import runs
from tfrecords_tools.errors import UsageError

pytestmark = pytest.mark.tensorflow


# Means against imbalance, each of which a comparison must name.
MEANS = {"mixup": 0.3, "loss": "focal", "positive_power": 0.5, "repeat_threshold": 0.01}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs on the same shards: the second with mixup, another model and 7 epochs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, epochs in (("plain", 12), ("mixed", 7)):
        runs.write(folder / name, folder / "data", epochs=epochs)
        spec = workdir.read_spec(folder / name)
        small = dataclasses.replace(spec, name="tiny" if name == "plain" else "shallow")
        assert isinstance(small, ModelSpec)
        (folder / name / "model.json").write_text(small.to_json())
    config = json.loads((folder / "mixed" / "config.json").read_text())
    (folder / "mixed" / "config.json").write_text(json.dumps({**config, **MEANS}))
    evaluated = json.loads((folder / "mixed" / "evaluation" / "test.json").read_text())
    (folder / "mixed" / "evaluation" / "test.json").write_text(
        json.dumps({**evaluated, "thresholds": "tuned on val"})
    )
    return folder


def test_one_table_and_one_picture(pair, tmp_path, capsys):
    flags = ["--compare", str(pair / "plain"), str(pair / "mixed"), "-o", str(tmp_path / "out")]
    report.main(flags)
    printed = capsys.readouterr().out
    assert (
        "Not BigEarthNet: synthetic sample. test split, 300 patches, clc43, 38 of its 43 classes occur."
        in printed
    )
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())
    differs = (
        "epochs 12, loss bce, mixup 0.0, positive_power 0.0, repeat_threshold 0.0, thresholds 0.5 for all classes",
        "epochs 7, loss focal, mixup 0.3, positive_power 0.5, repeat_threshold 0.01, thresholds tuned on val",
    )
    for row, name, differing, epochs in zip(rows, ("plain", "mixed"), differs, (12, 7)):
        averages = json.loads((pair / name / "evaluation" / "test.json").read_text())["averages"]
        assert row["F1 micro"] == pytest.approx(averages["micro"]["f1"], abs=1e-12)
        assert row["AP macro"] == pytest.approx(averages["macro"]["average_precision"], abs=1e-12)
        assert row["F1 macro occ."] == pytest.approx(averages["macro_occurring"]["f1"], abs=1e-12)
        assert row["differs"] == differing
        assert row["epochs"] == epochs
        assert row["images_per_second"] == 55.5
        assert f"{row['parameters']:,}" in printed
        assert f"{row['F1 macro']:.3f}" in printed
    # The shallow CNN by hand, on twelve bands: three pools leave 1 of 12 pixels; 43 classes.
    kernels = 25 * 12 * 32 + 25 * 32 * 32 + 9 * 32 * 64 + 64 * 128 + 128 * 43
    assert rows[1]["parameters"] == kernels + 32 + 32 + 64 + 128 + 43
    picture = np.asarray(Image.open(tmp_path / "out" / "comparison.png").convert("RGB"))
    for colour in ((0x00, 0x72, 0xB2), (0xB3, 0x47, 0x00)):
        assert (picture == colour).all(-1).sum() > 50


def test_other_patches_or_classes_are_said_not_to_compare(pair, tmp_path, capsys):
    runs.write(tmp_path / "other", tmp_path / "data", patches=40, nomenclature=BEN19)
    report.main(["--compare", str(pair / "plain"), str(tmp_path / "other"), "-o", str(tmp_path / "out")])
    assert "Not the same data and nomenclature and patches" in capsys.readouterr().out


def test_what_cannot_be_compared(pair, tmp_path):
    with pytest.raises(UsageError, match="at least two runs"):
        report.main(["--compare", str(pair / "plain")])
    with pytest.raises(UsageError, match="no evaluation of the val split"):
        report.main(["--compare", str(pair / "plain"), str(pair / "mixed"), "--split", "val"])
    with pytest.raises(UsageError, match="do not go together"):
        report.main(["--workdir", str(pair / "plain"), "--compare", str(pair / "plain"), str(pair / "mixed")])
    with pytest.raises(UsageError, match="--compare RUN RUN"):
        report.main([])
