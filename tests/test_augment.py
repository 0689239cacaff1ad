"""Augmentation, eagerly and inside tf.data."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.input import augment
from jeoparda_tf.stack import tf

pytestmark = pytest.mark.tensorflow


def squares(batch: int) -> dict[str, np.ndarray]:
    """Grids of three resolutions, with one corner marked: (0, 0) of each, and a little off the diagonal."""
    arrays = {}
    for name, size, bands in (("s2_10m", 24, 4), ("s2_20m", 12, 6), ("s2_60m", 4, 2)):
        array = np.zeros((batch, size, size, bands), np.uint16)
        array[:, 0, : size // 2] = 1
        arrays[name] = array
    arrays["reference_map"] = arrays["s2_10m"][..., 0].copy()
    return arrays


def orientation(array: np.ndarray) -> int:
    """Which of the eight orientations of the marked half row this is."""
    half = array.shape[0] // 2
    row = np.zeros(array.shape[:2], bool)
    row[0, :half] = True
    variants = [np.rot90(m, k) for m in (row, row.T) for k in range(4)]
    marked = (array if array.ndim == 2 else array[..., 0]) > 0
    matches = [n for n, variant in enumerate(variants) if (variant == marked).all()]
    assert len(matches) == 1
    return matches[0]


def test_all_eight_orientations_come_equally_often_and_arrays_move_together():
    out = augment.dihedral(squares(4000), tf.constant([1, 2], tf.int64))
    assert {name: str(array.dtype.name) for name, array in out.items()} == dict.fromkeys(out, "uint16")
    kinds = np.array([[orientation(array.numpy()[i]) for array in out.values()] for i in range(4000)])
    assert (kinds == kinds[:, :1]).all()
    counts = np.bincount(kinds[:, 0], minlength=8)
    # 500 expected, standard deviation 21.
    assert abs(counts - 500).max() < 110


def test_a_turn_is_transposition_then_mirrored_rows_then_mirrored_columns():
    generator = np.random.default_rng(0)
    shapes = [(8, 5, 5, 4), (8, 5, 5, 6), (8, 5, 5, 3), (8, 5, 5, 1), (8, 5, 5)]
    for array in [generator.integers(0, 65_536, shape).astype(np.uint16) for shape in shapes] + [
        generator.normal(size=(8, 5, 5, 2)).astype(np.float32)
    ]:
        expected = array.copy()
        for number in range(8):
            patch = array[number]
            patch = patch.swapaxes(0, 1) if number & 1 else patch
            patch = patch[::-1] if number & 2 else patch
            expected[number] = patch[:, ::-1] if number & 4 else patch
        turned = augment.orient({"a": tf.constant(array)}, tf.range(8))["a"]
        np.testing.assert_array_equal(turned, expected)


def test_the_seed_decides():
    arrays = {"a": tf.random.stateless_uniform([64, 6, 6, 2], [0, 0])}
    first, again, other = (augment.dihedral(arrays, [s, 0])["a"].numpy() for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_mixup_mixes_pixels_and_labels_by_the_same_weight():
    batch, alpha = 2000, 0.4
    # Patch i is i everywhere and its label vector is (i, 1): mixed values give the weight away.
    number = tf.range(batch, dtype=tf.float32)
    arrays = {
        "ten": tf.cast(tf.tile(number[:, None, None, None], [1, 4, 4, 2]), tf.uint16),
        "map": tf.tile(number[:, None, None], [1, 2, 2]),
    }
    labels = tf.stack([number, tf.ones(batch)], 1)
    mixed, mixed_labels = augment.mixup(arrays, labels, [5, 6], alpha)
    partner = np.roll(np.arange(batch), 1)
    weight = (mixed_labels[:, 0].numpy() - partner) / (np.arange(batch) - partner)
    assert mixed["ten"].dtype == tf.uint16
    # Rounded to the nearest whole digital number.
    np.testing.assert_allclose(mixed["ten"][:, 1, 2, 0], mixed_labels[:, 0], atol=0.5 + 1e-3)
    assert mixed["map"].dtype == tf.float32
    np.testing.assert_allclose(mixed["map"][:, 0, 1], mixed_labels[:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed_labels[:, 1], 1.0, rtol=1e-6)
    assert (weight >= 0.5 - 1e-3).all()
    assert (weight <= 1 + 1e-3).all()
    # E[max(b, 1 - b)] for Beta(0.4, 0.4), by numpy's own generator.
    draws = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    assert abs(weight.mean() - np.maximum(draws, 1 - draws).mean()) < 0.015


def test_mixing_the_largest_digital_numbers_does_not_overflow():
    largest = tf.fill([64, 2, 2, 3], tf.constant(65_535, tf.uint16))
    mixed, _ = augment.mixup({"a": largest}, tf.ones([64, 1]), [1, 2], 0.4)
    np.testing.assert_array_equal(mixed["a"], largest)


def test_inside_tf_data_as_eagerly():
    arrays = {name: tf.constant(array) for name, array in squares(8).items()}
    labels = tf.eye(8)

    def both(arrays, labels):
        turned = augment.dihedral(arrays, [3, 4])
        return augment.mixup(turned, labels, [7, 8], 0.3)

    eager, graph = both(arrays, labels), next(iter(tf.data.Dataset.from_tensors((arrays, labels)).map(both)))
    for name in arrays:
        np.testing.assert_array_equal(eager[0][name], graph[0][name])
    np.testing.assert_array_equal(eager[1], graph[1])


def test_without_xla_the_same_patches_come(monkeypatch):
    arrays = {name: tf.constant(array) for name, array in squares(8).items()}
    labels = tf.eye(8)
    compiled = augment.mixup(augment.dihedral(arrays, [3, 4]), labels, [7, 8], 0.3)
    real = tf.function

    def refuse(function, jit_compile=False, **options):
        def call(*arguments):
            raise tf.errors.UnimplementedError(None, None, "no XLA here")

        return call if jit_compile else real(function, **options)

    monkeypatch.setattr(tf, "function", refuse)
    for cached in (augment._compiled, augment._has_xla):
        cached.cache_clear()
    try:
        assert not augment._has_xla()
        plain = augment.mixup(augment.dihedral(arrays, [3, 4]), labels, [7, 8], 0.3)
    finally:
        for cached in (augment._compiled, augment._has_xla):
            cached.cache_clear()
    for name in arrays:
        np.testing.assert_allclose(plain[0][name], compiled[0][name], rtol=1e-6)
    np.testing.assert_allclose(plain[1], compiled[1], rtol=1e-6)
