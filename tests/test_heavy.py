"""Heavy augmentation: what lies at one place lies there in all resolutions, and only Sentinel-2 is made brighter."""

from __future__ import annotations

import numpy as np
import pytest

from jeoparda_tf.input import heavy
from jeoparda_tf.stack import tf

pytestmark = pytest.mark.tensorflow

GSD = {"s2_10m": 10, "s2_20m": 20, "s2_60m": 60, "s1": 10}
SIDE = {name: 1200 // gsd for name, gsd in GSD.items()}


def constant(batch: int, value: float = 1000.0) -> dict[str, np.ndarray]:
    return {name: np.full((batch, side, side, 2), value, np.float32) for name, side in SIDE.items()}


def places(batch: int, metres: int) -> dict[str, np.ndarray]:
    """Every pixel holds the number of the square of so many metres that it lies in."""
    arrays = {}
    for name, gsd in GSD.items():
        row = np.arange(SIDE[name]) * gsd // metres
        number = (row[:, None] * (1200 // metres) + row).astype(np.uint16)
        arrays[name] = np.tile(number[None, :, :, None], (batch, 1, 1, 2))
    return arrays


def at_60m(array: np.ndarray, gsd: int) -> np.ndarray:
    """Returns [batch, 20, 20] of the first band, after checking that every cell of 60 m is of one value."""
    k = 60 // gsd
    blocks = np.asarray(array)[..., 0].reshape(len(array), 20, k, 20, k)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    return blocks[:, :, 0, :, 0]


def test_a_mark_stays_at_one_place_in_all_resolutions():
    moved = heavy._move(places(200, 60), GSD, [3, 4])
    cells = {name: at_60m(array, GSD[name]) for name, array in moved.items()}
    for name in GSD:
        np.testing.assert_array_equal(cells[name], cells["s2_60m"])
    # They do move: shifts of up to two cells, and crops, in both directions.
    assert len({patch.tobytes() for patch in cells["s2_60m"]}) > 150
    # Within the cell too: the squares of 20 m agree between 10 m and 20 m.
    fine = heavy._move(places(50, 20), GSD, [3, 4])
    ten, twenty = fine["s2_10m"].numpy()[..., 0], fine["s2_20m"].numpy()[..., 0]
    for row in range(2):
        for column in range(2):
            np.testing.assert_array_equal(ten[:, row::2, column::2], twenty)


def test_shift_and_crop_mirror_the_window():
    moved = heavy._move(places(2000, 60), GSD, [5, 6])["s2_60m"].numpy()[..., 0]
    rows, columns = moved // 20, moved % 20
    assert (rows == rows[:, :, :1]).all()
    assert (columns == columns[:, :1]).all()
    steps = np.diff(rows[:, :, 0].astype(int))
    # Neighbours stay neighbours, or an edge's row is repeated where the mirror begins.
    assert set(np.unique(steps)) == {-1, 0, 1}
    windows = np.array([len(np.unique(patch)) for patch in rows[:, :, 0]])
    assert windows.min() >= 13  # 15 of 20 rows at least, less those that a shift leaves out
    assert windows.max() == 20
    assert 0 in rows[:, 0, 0]
    assert len(np.unique(rows[:, 0, 0])) > 3


def test_cutout_hides_one_square_in_all_resolutions():
    arrays = constant(300)
    for array in arrays.values():
        array[:, : array.shape[1] // 2] = 3000.0
    cut = heavy._cut_out(arrays, GSD, [7, 8])
    # The mean is 2,000 but for the rounding of float32 sums.
    cut = {name: np.round(array) for name, array in cut.items()}
    hidden = {name: at_60m(array, GSD[name]) == 2000.0 for name, array in cut.items()}
    for name in GSD:
        np.testing.assert_array_equal(hidden[name], hidden["s2_60m"])
        assert set(np.unique(cut[name])) == {1000.0, 2000.0, 3000.0}
    for patch in hidden["s2_60m"]:
        rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
        assert len(rows) == len(columns) <= 5
        assert patch.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
    assert len({int(patch.sum()) for patch in hidden["s2_60m"]}) == 5
    assert hidden["s2_60m"].any((0, 1)).all()
    assert hidden["s2_60m"].any((0, 2)).all()


def test_only_sentinel_2_is_made_brighter():
    out = {name: array.numpy() for name, array in heavy._jitter(constant(300), [9, 10]).items()}
    assert out["s1"].mean() == pytest.approx(1000, abs=0.01)
    assert out["s1"].std() == pytest.approx(0.2, rel=0.02)
    means = {name: out[name].mean((1, 2)) / 1000 for name in GSD if name != "s1"}
    for mean in means.values():
        assert (mean > 0.9 * 0.95 - 0.01).all()
        assert (mean < 1.1 * 1.05 + 0.01).all()
        assert mean.std(0).min() > 0.04
        assert abs(mean[:, 0] - mean[:, 1]).max() > 0.05  # gains differ from band to band
    # The brightness is a patch's: its resolutions go together.
    assert np.corrcoef(means["s2_10m"].mean(1), means["s2_60m"].mean(1))[0, 1] > 0.7
    noise = out["s2_10m"][0, :, :, 0]
    assert noise.std() == pytest.approx(20, rel=0.05)
    dark = heavy._jitter(constant(4, 0.0), [1, 1])
    assert dark["s2_10m"].numpy().min() == 0
    assert dark["s1"].numpy().min() < 0


def test_the_seed_decides_eagerly_and_inside_tf_data():
    arrays = {name: tf.constant(array) for name, array in places(4, 20).items()}
    first, other = heavy.heavy(arrays, GSD, [1, 2]), heavy.heavy(arrays, GSD, [1, 3])
    graph = next(iter(tf.data.Dataset.from_tensors(arrays).map(lambda x: heavy.heavy(x, GSD, [1, 2]))))
    for name, array in first.items():
        assert (array.dtype, array.shape) == (tf.float32, arrays[name].shape)
        np.testing.assert_allclose(array, graph[name], rtol=1e-5)
        assert (array.numpy() != other[name].numpy()).any()
