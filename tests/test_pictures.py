"""Bands on one grid, and their contrast."""

from __future__ import annotations

import numpy as np

from tfrecords_tools.manifest import Band, Feature
from tfrecords_tools.pictures import composite, stretch

FEATURES = (
    Feature("fine", "uint16", (4, 4, 2), 10, (Band("A"), Band("B"))),
    Feature("coarse", "uint16", (2, 2, 1), 20, (Band("C"),)),
)


def test_composite_repeats_coarse_pixels_and_keeps_the_order_asked_for() -> None:
    arrays = {
        "fine": np.arange(32, dtype=np.uint16).reshape(4, 4, 2),
        "coarse": np.array([[[7], [8]], [[9], [10]]], np.uint16),
    }
    image = composite(arrays, FEATURES, ("C", "B", "A"))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], [[7, 7, 8, 8], [7, 7, 8, 8], [9, 9, 10, 10], [9, 9, 10, 10]])
    np.testing.assert_array_equal(image[..., 1], arrays["fine"][..., 1])
    np.testing.assert_array_equal(image[..., 2], arrays["fine"][..., 0])


def test_composite_of_coarse_bands_alone_stays_coarse() -> None:
    arrays = {"coarse": np.ones((2, 2, 1), np.uint16)}
    assert composite(arrays, FEATURES, ("C", "C", "C")).shape == (2, 2, 3)


def test_stretch_takes_percentiles_of_each_channel() -> None:
    ramp = np.arange(101, dtype=np.uint16).reshape(101, 1, 1)
    image = stretch(np.concatenate([ramp, 1000 + 3 * ramp], axis=2))
    np.testing.assert_allclose(image[:, 0, 0], np.clip((np.arange(101) - 2) / 96, 0, 1), atol=1e-6)
    np.testing.assert_allclose(image[..., 0], image[..., 1], atol=1e-6)


def test_stretch_of_constant_and_missing_pixels() -> None:
    assert (stretch(np.full((2, 2, 1), 9, np.uint16)) == 0.5).all()
    image = stretch(np.array([[[np.nan], [-10.0]], [[0.0], [10.0]]], np.float32), 0, 100)
    np.testing.assert_allclose(image[..., 0], [[0, 0], [0.5, 1]])
