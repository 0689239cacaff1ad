"""RMSE, SRE and UIQ by hand and against their definition written out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jeoparda_tf.scoring.reconstruction import Reconstruction, uiq_of_windows

RANDOM = np.random.default_rng(0)


def image(*numbers: float) -> np.ndarray:
    side = math.isqrt(len(numbers))
    return np.array(numbers, np.float64).reshape(1, side, side, 1)


def test_scores_are_those_computed_by_hand():
    sums = Reconstruction(1)
    sums.add(image(1, 2, 3, 4), image(1, 2, 3, 8))
    found = sums.result()
    # One error of 4 in four pixels: a mean square of 4. The mean of the truth is 2.5.
    assert found.rmse == pytest.approx([2.0])
    assert found.sre == pytest.approx([10 * math.log10(6.25 / 4)])
    # Deviations -1.5 -.5 .5 1.5 and -2.5 -1.5 -.5 4.5: squares 5 and 29, products 11; means 2.5 and 3.5.
    assert found.uiq == pytest.approx([(2 * 11 / 34) * (2 * 2.5 * 3.5 / (6.25 + 12.25))])


def test_patches_are_scored_as_one_image_band_by_band():
    truth, other = RANDOM.uniform(0, 5000, (2, 5, 9, 9, 2))
    other[..., 1] = truth[..., 1]
    together, apart = Reconstruction(2), Reconstruction(2)
    together.add(truth, other)
    for start, end in ((0, 2), (2, 5)):
        apart.add(truth[start:end], other[start:end])
    one, two = together.result(), apart.result()
    for name in ("rmse", "sre", "uiq"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12)
    error = np.mean((truth[..., 0] - other[..., 0]) ** 2)
    assert one.rmse == pytest.approx([math.sqrt(error), 0.0])
    assert one.sre == pytest.approx([10 * math.log10(truth[..., 0].mean() ** 2 / error), math.inf])
    assert one.uiq[1] == pytest.approx(1.0)


def test_uiq_slides_windows_of_eight_pixels():
    truth, other = RANDOM.uniform(0, 100, (2, 10, 9, 1))
    found = uiq_of_windows(truth, other)
    expected = []
    for row in range(3):
        for column in range(2):
            x, y = (a[row : row + 8, column : column + 8].ravel() for a in (truth, other))
            (a, b), (_, d) = np.cov(x, y)
            expected.append(4 * b * x.mean() * y.mean() / ((a + d) * (x.mean() ** 2 + y.mean() ** 2)))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-10)


def test_uiq_where_nothing_varies_is_of_the_means_alone():
    flat = np.full((8, 8, 3), (10.0, 10.0, 0.0))
    other = np.full((8, 8, 3), (10.0, 30.0, 0.0))
    np.testing.assert_allclose(uiq_of_windows(flat, other), [[1.0, 600 / 1000, 1.0]])
