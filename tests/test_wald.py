"""Degrading against scipy's, and that a mark stays in its place in all that a network sees and is to give."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.models import pixels
from jeoparda_tf.stack import tf
from jeoparda_tf.training import wald

pytestmark = pytest.mark.tensorflow

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("factor", "size"), [(2, 12), (6, 18)])
def test_degrading_is_a_gaussian_of_one_over_the_factor_and_the_mean_of_blocks(factor, size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = RANDOM.uniform(0, 4000, (1, size, size, 2)).astype(np.float32)
    found = wald.degrade(x, factor).numpy()
    blurred = ndimage.gaussian_filter(x.astype(np.float64), (0, 1 / factor, 1 / factor, 0), mode="reflect")
    blocks = blurred.reshape(1, size // factor, factor, size // factor, factor, 2).mean((2, 4))
    np.testing.assert_allclose(found, blocks, rtol=1e-5)


def test_degrading_by_two_has_the_weights_computed_by_hand():
    # exp(-k^2 / (2 * 0.5^2)) is 1, e^-2, e^-8; a coarse pixel takes the mean of two neighbours' weights.
    a, b, c = np.array([1, np.exp(-2), np.exp(-8)]) / (1 + 2 * np.exp(-2) + 2 * np.exp(-8))
    expected = [c / 2, (b + c) / 2, (a + b) / 2, (a + b) / 2, (b + c) / 2, c / 2]
    np.testing.assert_allclose(wald.degrading_matrix(8, 2)[1], [*expected, 0, 0], atol=1e-12)


@pytest.mark.parametrize("factor", [2, 6])
def test_degrading_keeps_the_mean_and_commutes_with_turning(factor):
    x = RANDOM.uniform(0, 4000, (1, 36, 36, 1)).astype(np.float32)
    found = wald.degrade(x, factor).numpy()
    assert found.mean() == pytest.approx(x.mean(), rel=1e-6)
    turned = wald.degrade(np.rot90(x, axes=(1, 2)), factor)
    np.testing.assert_allclose(turned, np.rot90(found, axes=(1, 2)), rtol=1e-5)


def centre(image: np.ndarray, metres: float) -> np.ndarray:
    """Centre of gravity of one band in metres from the upper left corner."""
    weights = image / image.sum()
    places = (np.arange(len(image)) + 0.5) * metres
    return np.array([weights.sum(1) @ places, weights.sum(0) @ places])


@pytest.mark.parametrize(("gsd", "offset"), [(20, (0, 0)), (60, (0, 0)), (60, (1, 2))])
def test_a_mark_stays_in_its_place_in_everything(gsd, offset):
    # 360 m x 360 m beginning 480 m down and 420 m across, in every band of all three grids.
    arrays = {}
    for feature in bands.S2_FEATURES:
        array = np.zeros((1, *feature.shape), np.uint16)
        rows, columns = (
            slice(480 // feature.gsd, 840 // feature.gsd),
            slice(420 // feature.gsd, 780 // feature.gsd),
        )
        array[:, rows, columns] = 3000
        arrays[feature.gsd] = tf.constant(array)
    expected = np.array([660.0 - offset[0] * gsd, 600.0 - offset[1] * gsd])
    factor = gsd // 10
    low, truth = wald.pair(arrays, gsd, offset)
    side = {20: 60, 60: 18}[gsd]
    assert truth.shape == (1, side, side, len(next(f for f in bands.S2_FEATURES if f.gsd == gsd).bands))
    np.testing.assert_allclose(centre(truth.numpy()[0, ..., 0], gsd), expected, atol=0.01)
    for own, image in low.items():
        assert image.shape[1] == side * gsd // own // factor
        np.testing.assert_allclose(
            centre(image.numpy()[0, ..., 0], own * factor), expected, atol=0.05, err_msg=str(own)
        )
        enlarged = pixels.Upsample(own // 10, "bicubic")(image) if own > 10 else image
        assert enlarged.shape[1] == side
        # Near the border the kernel is renormalised, which moves centres by some per cent of a coarse pixel.
        moved = centre(enlarged.numpy()[0, ..., -1], gsd) - expected
        assert np.abs(moved).max() < 0.03 * own * factor, own
