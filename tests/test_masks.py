"""Maps against reference maps: counts by scikit-learn, codes without a class, any number of ranks, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from jeoparda_tf import evaluate, segment
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43
from jeoparda_tf.records import Patch
from jeoparda_tf.scoring import masks
from jeoparda_tf.segment import SegmentConfig
from tests import shards
from tests.conftest import REPOSITORY, need_engine
from tests.runs import train
from tests.test_segment import write_raster
from tfrecords_tools.errors import DataError, UsageError

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
def test_fine_tuning_learns_the_maps_and_segment_takes_its_head(run, tmp_path):
    """Water is dark here, forest bright: a linear layer on the frozen features finds it, the classifier cannot."""
    patches = shards.patches(8, FEATURES, 19)
    for number, patch in enumerate(patches):
        dark = slice(0, 60) if number % 2 else slice(60, 120)
        patch.arrays["reference_map"][:] = 312
        patch.arrays["reference_map"][:, dark] = 523
        patch.arrays["s2_10m"][:] = 8000
        patch.arrays["s2_10m"][:, dark] = 500
    data = tmp_path / "water"
    shards.write_patches(data, {"train": patches, "test": patches[:4]}, features=FEATURES)
    flags = {"workdir": run, "data": data, "masks": True, "batch": 4}
    before = evaluate.evaluate_masks(evaluate.plan(evaluate.EvaluateConfig(**flags)))
    tuned = {**flags, "fine_tune_masks": True, "mask_epochs": 20, "mask_learning_rate": 0.1}
    after = evaluate.evaluate_masks(evaluate.plan(evaluate.EvaluateConfig(**tuned)))
    assert after.result.accuracy > 0.85 > before.result.accuracy
    again = evaluate.evaluate_masks(evaluate.plan(evaluate.EvaluateConfig(**flags, mask_head=True)))
    assert np.array_equal(again.result.confusion, after.result.confusion)
    assert again.path.name == "test-masks-fine-tuned.json"
    layers = [np.full((120, 180), 8000, np.uint16) for _ in range(3)]
    for layer in layers:
        layer[:, 60:120] = 500
    scene = write_raster(tmp_path / "scene.tif", layers, 10)
    out = tmp_path / "map.tif"
    segment.segment(
        SegmentConfig(scene=scene, workdir=run, out=out, bands=("B04", "B03", "B02"), mask_head=True)
    )
    with rasterio.open(out) as classes, rasterio.open(tmp_path / "map.probabilities.tif") as scores:
        assert np.abs(scores.read().astype(int).sum(0) - 250).max() <= 10  # a softmax, in steps of 1/250
        forest, water = (BEN19.codes.index((312,)) + 1, 19)
        truth = np.where(np.arange(180) // 60 == 1, water, forest)
        assert (classes.read(1) == truth).mean() > 0.8
    with pytest.raises(UsageError, match="stride 8, not step 1 and stride 16"):
        evaluate.evaluate_masks(evaluate.plan(evaluate.EvaluateConfig(**flags, mask_head=True, stride="16")))

    line = [need_engine("horovodrun"), "--gloo", "-np", "2", sys.executable, "-m", "jeoparda_tf.evaluate", "--workdir",
            str(run), "--data", str(data), "--masks", "--fine-tune-masks", "--mask-epochs", "3",
            "--batch", "4"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    path = run / "evaluation" / "mask_head.npz"
    two = np.load(path)["kernel"][0, 0]
    one_rank = {**flags, "batch": 8, "fine_tune_masks": True, "mask_epochs": 3}
    evaluate.evaluate_masks(evaluate.plan(evaluate.EvaluateConfig(**one_rank)))
    one = np.load(path)["kernel"][0, 0]
    # The same eight patches a step; gradients of the classes that occur are far from rounding.
    present = [forest - 1, water - 1]
    np.testing.assert_allclose(two[:, present], one[:, present], atol=2e-4)


@pytest.mark.tensorflow
def test_gradient_of_the_head_is_the_formulas(run):
    """One step of plain descent in numpy: X^T (softmax - onehot) over the pixels that have a class."""
    from jeoparda_tf.mapping import dense, fine_tune
    from jeoparda_tf.mapping.tiles import enlarge
    from jeoparda_tf.stack import tf
    from jeoparda_tf.training import workdir

    model, spec, _ = workdir.load_model(run)
    logits = dense.logits_map(model, 8)
    patches = members()
    x = {f.name: tf.constant(np.stack([p.arrays[f.name] for p in patches])) for f in spec.features}
    codes = np.stack([p.arrays["reference_map"] for p in patches])
    seen: list[np.ndarray] = []

    def keep(gradients):
        seen.extend(gradient.numpy() for gradient in gradients)
        return gradients

    tf.config.run_functions_eagerly(True)
    try:
        batch = {**x, "reference_map": tf.constant(codes)}
        before = logits.get_layer("logits").get_weights()
        fine_tune.train(
            logits, lambda _: [(batch, None)], BEN19, "reference_map", epochs=1, learning_rate=0.1, mean_gradients=keep
        )  # fmt: skip
    finally:
        tf.config.run_functions_eagerly(False)
    inner = tf.keras.Model(logits.inputs, logits.get_layer("logits").input)(x).numpy()
    matrix = enlarge(15, 120)
    pixels = np.einsum("yr,brcn,xc->byxn", matrix, inner, matrix).astype(np.float64)
    score = pixels @ before[0][0, 0] + before[1]
    share = np.exp(score - score.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    truth = masks.class_of_code(BEN19)[codes]
    known = truth != masks.IGNORED
    error = (share - np.eye(19)[truth])[known] / known.sum()
    np.testing.assert_allclose(seen[0][0, 0], pixels[known].T @ error, atol=1e-5)
    np.testing.assert_allclose(seen[1], error.sum(0), atol=1e-5)


@pytest.mark.tensorflow
def test_data_without_reference_maps_is_refused(run, tmp_path):
    shards.write(tmp_path / "plain", {"test": 1})
    with pytest.raises(UsageError, match="no reference maps"):
        evaluate.plan(evaluate.EvaluateConfig(workdir=run, data=tmp_path / "plain", masks=True))
    with pytest.raises(UsageError, match="no threshold to tune"):
        evaluate.plan(evaluate.EvaluateConfig(workdir=run, masks=True, tune_thresholds=True))


@pytest.mark.tensorflow
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_a_damaged_head_is_named(tmp_path, content):
    from jeoparda_tf.mapping import fine_tune

    (tmp_path / fine_tune.HEAD).write_bytes(content)
    with pytest.raises(DataError, match=r"mask_head\.npz: cannot be read"):
        fine_tune.load(None, tmp_path, step=1, stride=8)
