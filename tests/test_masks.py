"""Maps against reference maps: counts by scikit-learn, codes without a class, any number of ranks, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from jeoparda_tf import evaluate
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.records import Patch
from jeoparda_tf.scoring import masks
from tests import shards
from tests.conftest import REPOSITORY, need_engine
from tests.runs import train
from tfrecords_tools.errors import UsageError

RANDOM = np.random.default_rng(5)


def test_scores_are_sklearns_and_pixels_without_a_class_play_no_part():
    truth = RANDOM.choice([masks.IGNORED, 0, 1, 3], (2, 30, 30), p=[0.3, 0.3, 0.3, 0.1])
    predicted = np.where(RANDOM.random(truth.shape) < 0.5, truth, RANDOM.integers(0, 3, truth.shape))
    predicted = np.where(predicted == masks.IGNORED, 1, predicted)
    result = masks.score(masks.count(truth, predicted, 5), 7)
    kept = truth != masks.IGNORED
    y, z = truth[kept], predicted[kept]
    assert np.array_equal(result.confusion, confusion_matrix(y, z, labels=range(5)))
    # Class 2 is on the map alone, class 4 nowhere: that one counts in no mean.
    np.testing.assert_allclose(result.iou[:4], jaccard_score(y, z, labels=range(4), average=None), rtol=1e-12)
    assert result.iou[2] == 0
    assert np.isnan(result.iou[4])
    assert result.mean_iou == pytest.approx(jaccard_score(y, z, labels=range(4), average="macro"), abs=1e-12)
    assert result.accuracy == pytest.approx(accuracy_score(y, z), abs=1e-12)
    assert result.to_json(tuple("abcde"))["iou"]["e"] is None


def test_nothing_to_compare_is_no_score():
    result = masks.score(masks.count(np.full((3, 3), masks.IGNORED), np.zeros((3, 3), int), 2), 9)
    assert json.dumps(result.to_json(("a", "b")))
    assert result.to_json(("a", "b"))["mean_iou"] is None
    assert np.isnan(result.accuracy)


def test_codes_find_their_class():
    table = masks.class_of_code(BEN19)
    # Both kinds of urban fabric are one class; roads, nodata and unlabelled are none.
    assert table[[111, 112, 121, 523]].tolist() == [0, 0, 1, 18]
    assert (table[[122, 0, 999, 335, 65535]] == masks.IGNORED).all()
    assert [int(table[codes[0]]) for codes in BEN19.codes] == list(range(19))
    assert masks.class_of_code(CLC43)[523] == 42


FEATURES = (*bands.S2_FEATURES, bands.MAP_FEATURE)
CODES = (111, 112, 122, 211, 312, 523, 999, 0)


def members() -> list[Patch]:
    """Five patches whose reference maps are halves of two codes; 122, 999 and 0 take one half each."""
    patches = shards.patches(5, FEATURES, 19)
    for left, right, patch in zip(CODES, CODES[3:], patches):
        patch.arrays[bands.MAP_FEATURE.name][:, :60] = left
        patch.arrays[bands.MAP_FEATURE.name][:, 60:] = right
    return patches


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run, and beside it shards with reference maps."""
    folder = tmp_path_factory.mktemp("run")
    workdir = train(folder, "rgb", features=FEATURES)
    shards.write_patches(folder / "maps", {"test": members()}, features=FEATURES)
    return workdir


def expected(run: Path, patches: list[Patch]) -> np.ndarray:
    """Returns the confusion matrix by plain means: TensorFlow's bilinear resize, scikit-learn's counts."""
    from jeoparda_tf.mapping import dense
    from jeoparda_tf.stack import tf
    from jeoparda_tf.training import workdir

    model, spec, _ = workdir.load_model(run)
    x = {f.name: np.stack([p.arrays[f.name] for p in patches]) for f in spec.features}
    logits = dense.logits_map(model, 8)(x)
    found = tf.image.resize(logits, (120, 120)).numpy().argmax(-1).ravel()
    truth = np.stack([p.arrays[bands.MAP_FEATURE.name] for p in patches]).ravel()
    numbers = {code: number for number, codes in enumerate(BEN19.codes) for code in codes}
    kept = np.isin(truth, list(numbers))
    return confusion_matrix([numbers[c] for c in truth[kept]], found[kept], labels=range(19))


@pytest.mark.tensorflow
def test_command_counts_every_pixel_once_on_any_number_of_ranks(run):
    data = run.parent / "maps"
    job = evaluate.plan(evaluate.EvaluateConfig(workdir=run, data=data, masks=True, batch=2))
    alone = evaluate.evaluate_masks(job)
    wanted = expected(run, members())
    # Two bilinear implementations may part where two scores are equal.
    assert np.abs(alone.result.confusion - wanted).sum() <= 20
    assert alone.result.confusion.sum() + alone.result.ignored == 5 * 14400
    assert alone.result.ignored == 3 * 7200
    assert wanted.sum() == alone.result.confusion.sum()
    line = [need_engine("horovodrun"), "--gloo", "-np", "2", sys.executable, "-m", "jeoparda_tf.evaluate", "--workdir",
            str(run), "--data", str(data), "--masks", "--batch", "2"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pixel accuracy") == 1
    content = json.loads((run / "evaluation" / "test-masks.json").read_text())
    assert (content["records"], content["ignored_pixels"], content["stride"]) == (5, 3 * 7200, 8)
    assert np.abs(np.array(content["confusion"]) - alone.result.confusion).sum() <= 20
    assert content["pixel_accuracy"] == pytest.approx(alone.result.accuracy, abs=1e-3)


@pytest.mark.tensorflow
def test_data_without_reference_maps_is_refused(run, tmp_path):
    shards.write(tmp_path / "plain", {"test": 1})
    with pytest.raises(UsageError, match="no reference maps"):
        evaluate.plan(evaluate.EvaluateConfig(workdir=run, data=tmp_path / "plain", masks=True))
    with pytest.raises(UsageError, match="no threshold to tune"):
        evaluate.plan(evaluate.EvaluateConfig(workdir=run, masks=True, tune_thresholds=True))
