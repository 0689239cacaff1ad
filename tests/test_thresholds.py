from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jeoparda_tf.scoring.scores import score
from jeoparda_tf.scoring.thresholds import tune


def column(*values):
    return np.array(values, np.float64)[:, None]


def test_threshold_lies_midway_below_the_best_cut():
    # Cut below 0.8: F1 2/3; below 0.6: 1/2 at best; below 0.4: 4/5.
    threshold = tune(column(1, 0, 1, 0), column(0.8, 0.6, 0.4, 0.1))
    assert threshold.tolist() == pytest.approx([0.25])


def test_of_equal_f1_the_highest_threshold_is_taken():
    # Letting in the first only: 2*1/(1+2) = 2/3. Down to the second positive: 2*2/(4+2) = 2/3.
    assert tune(column(1, 0, 0, 1), column(0.9, 0.7, 0.5, 0.3)).tolist() == pytest.approx([0.8])


def test_below_the_lowest_score_comes_zero():
    assert tune(column(1, 1), column(0.4, 0.8)).tolist() == pytest.approx([0.2])
    assert tune(column(1, 1), column(0.0, 0.8)).tolist() == [0.0]


def test_class_without_a_positive_keeps_one_half():
    labels = np.array([[0, 1], [0, 0]])
    assert tune(labels, np.array([[0.9, 0.2], [0.8, 0.1]])).tolist() == pytest.approx([0.5, 0.15])


def test_neighbouring_float32_scores_are_told_apart():
    upper = np.float32(0.7)
    lower = np.nextafter(upper, np.float32(0))
    scores = np.array([[upper], [lower]])
    threshold = tune(np.array([[1], [0]]), scores)
    assert float(lower) < threshold[0] < float(upper)
    assert score(np.array([[1], [0]]), scores, threshold).f1.tolist() == [1.0]


grid = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(
    hnp.arrays(np.uint8, (n, 2), elements=st.integers(0, 1)), hnp.arrays(np.float64, (n, 2), elements=grid)
)))  # fmt: skip
def test_no_other_threshold_is_better(case):
    labels, scores = case
    tuned = score(labels, scores, tune(labels, scores)).f1
    candidates = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0, 1.1]
    best = np.max([score(labels, scores, cut).f1 for cut in candidates], axis=0)
    assert tuned.tolist() == best.tolist()
