"""Evaluation by the command a user types: alone, over ranks, on data that does not fit."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from jeoparda_tf import evaluate
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from tests import shards
from tests.conftest import REPOSITORY, need_engine
from tfrecords_tools import cli, manifest, table
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Path]:
    """Shards of random pixels, and a run of one epoch on them."""
    from jeoparda_tf.training import loop
    from jeoparda_tf.training.config import FitConfig

    folder = tmp_path_factory.mktemp("run")
    data, workdir = folder / "shards", folder / "run"
    shards.write(data, {"train": 16, "val": 9, "test": 11}, shards=3)
    loop.train(
        FitConfig(
            data=data, workdir=workdir, bands=("rgb",), model="tiny", batch=8, epochs=1, warmup_epochs=0.0
        )
    )
    return data, workdir


def command(run, *flags: str, ranks: int = 0) -> subprocess.CompletedProcess[str]:
    launcher = [need_engine("horovodrun"), "--gloo", "-np", str(ranks)] if ranks else []
    line = [
        *launcher,
        sys.executable,
        "-m",
        "jeoparda_tf.evaluate",
        "--workdir",
        str(run[1]),
        "--batch",
        "4",
        *flags,
    ]
    return subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)


def written(run, split: str = "test"):
    path = run[1] / "evaluation" / f"{split}.json"
    with np.load(path.with_suffix(".npz")) as arrays:
        return json.loads(path.read_text()), dict(arrays)


def test_scores_are_sklearns_and_the_table_is_sorted_by_support(run):
    done = command(run)
    assert done.returncode == 0, done.stderr
    content, arrays = written(run)
    truth = np.array([patch.labels for patch in shards.patches(11, (), 19, seed=20)])
    labels, scores = arrays["labels"], arrays["scores"]
    assert labels.shape == truth.shape == scores.shape
    averages = content["averages"]
    assert averages["micro"]["f1"] == pytest.approx(
        f1_score(labels, scores >= 0.5, average="micro"), abs=1e-12
    )
    assert averages["macro"]["f1"] == pytest.approx(
        f1_score(labels, scores >= 0.5, average="macro", zero_division=0), abs=1e-12
    )
    present = labels.any(0)
    ap = average_precision_score(labels[:, present], scores[:, present], average=None).sum() / 19
    assert averages["macro"]["average_precision"] == pytest.approx(ap, abs=1e-12)
    assert (content["records"], content["origin"], content["nomenclature"]) == (11, shards.ORIGIN, "ben19")
    assert "Not BigEarthNet: random numbers" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.rstrip().endswith("0.500")]
    supports = [int(line.split()[-6]) for line in lines]
    assert len(supports) == 19
    assert supports == sorted(supports, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_gives_the_same(run, ranks):
    evaluate.evaluate(plan(run, tune_thresholds=True, batch=4))
    alone, alone_arrays = written(run)
    done = command(run, "--tune-thresholds", ranks=ranks)
    assert done.returncode == 0, done.stderr
    together, arrays = written(run)
    assert np.array_equal(arrays["labels"], alone_arrays["labels"])
    np.testing.assert_allclose(arrays["scores"], alone_arrays["scores"], atol=1e-6)
    np.testing.assert_allclose(arrays["thresholds"], alone_arrays["thresholds"], atol=1e-6)
    for name, values in alone["averages"].items():
        assert together["averages"][name] == pytest.approx(values, abs=1e-9)
    assert done.stdout.count("predicted in") == 1


@pytest.mark.slow
def test_a_fault_met_by_one_rank_alone_ends_all(run, tmp_path):
    written = shards.write(tmp_path, {"train": 16, "val": 9, "test": 11}, shards=3)
    file = tmp_path / written.splits["test"].shards[0].file  # read by the first of two ranks
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    done = command(run, "--data", str(tmp_path), ranks=2)
    assert done.returncode != 0
    assert done.stderr.count("a record cannot be read") == 1
    assert "tfrecords_tools.verify" in done.stderr
    # What horovodrun itself has to say stands in lines without a rank.
    assert not [line for line in done.stderr.splitlines() if line.startswith("[") and "Traceback" in line]


def test_thresholds_are_tuned_on_validation_alone(run):
    job = evaluate.plan(evaluate.EvaluateConfig(workdir=run[1], tune_thresholds=True, batch=4))
    tuned = evaluate.evaluate(job)
    evaluate.evaluate(evaluate.plan(evaluate.EvaluateConfig(workdir=run[1], split="val", batch=4)))
    from jeoparda_tf.scoring import results, thresholds

    validation = written(run, "val")[1]
    expected = thresholds.tune(validation["labels"], validation["scores"])
    np.testing.assert_allclose(tuned.result.thresholds, expected, atol=1e-6)
    assert results.read_thresholds(run[1], BEN19.classes)[0].tolist() == tuned.result.thresholds.tolist()
    assert tuned.about["thresholds"] == "tuned on val"


def test_a_43_class_model_is_scored_at_every_level(tmp_path, capsys):
    from jeoparda_tf.training import loop
    from jeoparda_tf.training.config import FitConfig

    small = tmp_path / "shards", tmp_path / "run"
    shards.write(small[0], {"train": 4, "val": 4, "test": 5}, nomenclature=CLC43)
    loop.train(
        FitConfig(
            data=small[0],
            workdir=small[1],
            bands=("B02",),
            model="tiny",
            batch=4,
            epochs=1,
            warmup_epochs=0.0,
        )
    )
    evaluation = evaluate.evaluate(plan(small, batch=4))
    evaluate.show(evaluation, CLC43.classes)
    content, arrays = written(small)
    levels = content["levels"]
    assert [len(level["classes"]) for level in levels.values()] == [5, 15, 43, 19]
    assert levels["clc_level_3"]["averages"] == content["averages"]
    for row in levels["clc_level_1"]["classes"]:
        columns = [codes[0] in row["codes"] for codes in CLC43.codes]
        assert row["support"] == arrays["labels"][:, columns].any(1).sum()
        assert row["tp"] + row["fp"] == (arrays["scores"][:, columns].max(1) >= 0.5).sum()
    assert "clc_level_1" in capsys.readouterr().out


def plan(run, **flags):
    return evaluate.plan(evaluate.EvaluateConfig(workdir=run[1], **flags))


def test_data_that_does_not_fit_is_refused(run, tmp_path):
    shards.write(tmp_path / "bands", {"test": 1}, features=bands.S2_FEATURES[1:], display={})
    with pytest.raises(DataError, match=r"takes s2_10m as uint16 .* this data has nothing"):
        plan(run, data=tmp_path / "bands")
    turned = dataclasses.replace(BEN19, classes=BEN19.classes[::-1])
    shards.write(tmp_path / "classes", {"test": 1}, nomenclature=turned)
    with pytest.raises(DataError, match="classes of ben19"):
        plan(run, data=tmp_path / "classes")
    content = json.loads((run[0] / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        plan(run, data=tmp_path)
    with pytest.raises(DataError, match="no split 'nonsense'"):
        plan(run, split="nonsense")


def test_what_was_asked_wrongly_is_a_usage_error(run, tmp_path):
    with pytest.raises(UsageError, match="workdir"):
        evaluate.plan(evaluate.EvaluateConfig(workdir=tmp_path))
    with pytest.raises(UsageError, match=r"--threshold is 1.5"):
        plan(run, threshold=1.5)
    with pytest.raises(UsageError, match="no checkpoint of step 999"):
        evaluate.evaluate(plan(run, checkpoint=999))
    with pytest.raises(UsageError, match="checkpoint"):
        cli.parse(evaluate.EvaluateConfig, "x", "", ["--workdir", "x", "--checkpoint", "worst"])


def test_records_that_the_table_does_not_list_are_noticed(run):
    found, labels = manifest.read(run[0]), table.read_labels(run[0], "test", BEN19.classes)
    scores = np.full(labels.shape, 0.5, np.float32)
    evaluate.check_complete(run[0], found, "test", scores, labels)
    swapped = labels[[1, 0, *range(2, 11)]]
    for wrong in (labels[:-1], np.concatenate([labels, labels[:1]]), swapped):
        with pytest.raises(DataError, match=r"not those that records.parquet lists"):
            evaluate.check_complete(run[0], found, "test", scores, wrong)
    scores[7, 3] = np.nan
    with pytest.raises(DataError, match="no number for 1 records of test, first for record 7"):
        evaluate.check_complete(run[0], found, "test", scores, labels)


def test_help_and_usage_errors_do_not_import_tensorflow():
    code = (
        "import sys; from jeoparda_tf import evaluate, predict\n"
        "for main in (evaluate.main, predict.main):\n"
        "    try: main(['--help'])\n"
        "    except SystemExit: pass\n"
        "print('tensorflow' in sys.modules, 'rasterio' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout.endswith("False False\n")
