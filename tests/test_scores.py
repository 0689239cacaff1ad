from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from jeoparda_tf.scoring.scores import DEFINITIONS, Average, average_precision, score

SKLEARN = {"micro": "micro", "macro": "macro", "weighted": "weighted", "sample": "samples"}


@st.composite
def cases(draw):
    """Labels, scores with many ties, thresholds that are often equal to a score."""
    shape = (draw(st.integers(2, 12)), draw(st.integers(2, 5)))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    grid = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.75, 1.0])
    scores = draw(hnp.arrays(np.float32, shape, elements=grid.map(np.float32).map(float)))
    thresholds = draw(hnp.arrays(np.float64, shape[1:], elements=grid))
    return labels, scores, thresholds


def assert_equal_to_sklearn(labels, scores, thresholds):
    ours = score(labels, scores, thresholds)
    predicted = scores >= np.broadcast_to(np.float64(thresholds), labels.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without a patch: sklearn warns, and gives 0
        per_class = precision_recall_fscore_support(labels, predicted, average=None, zero_division=0)
        for name, expected in zip(("precision", "recall", "f1", "support"), per_class):
            np.testing.assert_allclose(getattr(ours, name), expected, rtol=0, atol=1e-12, err_msg=name)
        expected = average_precision_score(labels, scores, average=None)
        np.testing.assert_allclose(ours.average_precision, expected, rtol=0, atol=1e-12)
        for name, theirs in SKLEARN.items():
            values = precision_recall_fscore_support(labels, predicted, average=theirs, zero_division=0)[:3]
            values += (average_precision_score(labels, scores, average=theirs),)
            got = ours.averages[name]
            got = (got.precision, got.recall, got.f1, got.average_precision)
            np.testing.assert_allclose(got, values, rtol=0, atol=1e-12, err_msg=name)


@settings(max_examples=150, deadline=None)
@given(cases())
@example((np.zeros((3, 2), np.uint8), np.full((3, 2), 0.9, np.float32), np.array([0.5, 0.95])))
@example((np.ones((3, 2), np.uint8), np.full((3, 2), 0.9, np.float32), np.array([0.5, 0.95])))
def test_equals_sklearn_with_ties_and_empty_classes(case):
    assert_equal_to_sklearn(*case)


def test_equals_sklearn_on_an_imbalanced_set():
    rng = np.random.default_rng(0)
    labels = rng.random((2000, 19)) < np.geomspace(0.5, 0.001, 19)
    scores = (0.3 * labels + 0.7 * rng.random(labels.shape)).round(2).astype(np.float32)
    assert_equal_to_sklearn(labels, scores, 0.5)


def test_counts_and_averages_by_hand():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    scores = np.array([[0.9, 0.6], [0.5, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
    result = score(labels, scores, 0.5)
    assert result.records == 4
    assert result.support.tolist() == [3, 1]
    assert (result.tp.tolist(), result.fp.tolist(), result.fn.tolist()) == ([2, 1], [1, 1], [1, 0])
    assert result.f1.tolist() == pytest.approx([4 / 6, 2 / 3])
    assert result.micro.f1 == pytest.approx(6 / 9)
    assert result.macro.precision == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.weighted.recall == pytest.approx((3 * 2 / 3 + 1 * 1) / 4)
    # Patches: 1 of {0, 1}; exactly {0}; {1} of {0, 1}; {0} where nothing is.
    assert result.sample.f1 == pytest.approx((2 / 3 + 1 + 2 / 3 + 0) / 4)
    # Class 0, descending: hit 1/1, miss, hit 2/3, hit 3/4. Class 1: its only positive is on top.
    assert result.average_precision.tolist() == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3, 1])


def test_average_precision_gives_tied_scores_one_precision():
    assert average_precision(np.array([True, False, True]), np.array([0.5, 0.5, 0.5])) == pytest.approx(2 / 3)
    assert average_precision(np.array([True, False]), np.array([0.1, 0.9])) == pytest.approx(1 / 2)
    assert average_precision(np.array([False, False]), np.array([0.1, 0.9])) == 0


def test_a_score_equal_to_its_threshold_counts_and_float32_is_not_rounded_onto_it():
    at, below = np.float32(0.7), np.nextafter(np.float32(0.7), np.float32(0))
    scores = np.array([[at], [below]])
    assert score(np.ones((2, 1)), scores, float(at)).tp.tolist() == [1]
    # 0.7 itself lies between the two float32 numbers; rounded to float32 it would be the upper or lower one.
    middle = (float(at) + float(below)) / 2
    assert score(np.ones((2, 1)), scores, middle).tp.tolist() == [1]


def test_scores_of_parts_do_not_average_to_the_whole_but_counts_add_up():
    labels = np.array([[1], [0], [1], [1], [1]])
    scores = np.array([[0.9], [0.2], [0.1], [0.1], [0.1]])
    whole, parts = score(labels, scores), [score(labels[:2], scores[:2]), score(labels[2:], scores[2:])]
    assert (parts[0].tp + parts[1].tp).tolist() == whole.tp.tolist()
    assert np.mean([part.f1[0] for part in parts]) != pytest.approx(whole.f1[0])


def test_to_json_has_plain_numbers_and_names_the_averages():
    import json

    result = score(np.array([[1, 0]]), np.array([[0.9, 0.2]], np.float32), np.array([0.5, 0.25]))
    content = json.loads(json.dumps(result.to_json(["Pastures", "Salines"])))
    assert content["classes"][0]["name"] == "Pastures"
    assert [row["threshold"] for row in content["classes"]] == [0.5, 0.25]
    assert content["classes"][1]["support"] == 0
    assert content["averages"]["macro"]["f1"] == 0.5
    assert set(content["averages"]) == set(content["definitions"]) == set(DEFINITIONS)


def test_refuses_shapes_that_do_not_fit_and_nan():
    with pytest.raises(ValueError, match=r"labels \(2, 3\) and scores \(3, 2\)"):
        score(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        score(np.zeros((1, 1)), np.full((1, 1), np.nan))


def test_no_record_at_all_scores_zero():
    result = score(np.zeros((0, 3)), np.zeros((0, 3), np.float32))
    assert all(average == Average(0, 0, 0, 0) for average in result.averages.values())


def test_macro_over_occurring_classes_is_sklearns_over_their_labels():
    rng = np.random.default_rng(1)
    labels, scores = rng.random((50, 8)) < 0.3, rng.random((50, 8)).astype(np.float32)
    labels[:, [2, 5]] = False
    present = [0, 1, 3, 4, 6, 7]
    expected = precision_recall_fscore_support(labels, scores >= 0.5, labels=present, average="macro")[:3]
    got = score(labels, scores, 0.5).macro_occurring
    assert (got.precision, got.recall, got.f1) == pytest.approx(expected, abs=1e-12)
    ap = average_precision_score(labels[:, present], scores[:, present], average="macro")
    assert got.average_precision == pytest.approx(ap, abs=1e-12)
    nothing = score(np.zeros((3, 2)), np.ones((3, 2), np.float32), 0.5)
    assert nothing.macro_occurring == Average(0.0, 0.0, 0.0, 0.0)
