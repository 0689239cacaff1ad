"""Statistics: against numpy in high precision, and the same whatever the order or the workers."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfrecords_tools.manifest import Band, BandStatistics, Feature
from tfrecords_tools.statistics import BandSums, RecordSums

FEATURES = (
    Feature("ten", "uint16", (4, 4, 2), 10, (Band("A"), Band("B"))),
    Feature("radar", "float32", (4, 4, 1), 10, (Band("VV"),)),
    Feature("map", "uint16", (4, 4), 10),
)


def _sums(*parts):
    sums = BandSums()
    for part in parts:
        sums.add(part)
    return sums


def test_by_hand():
    # 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; of the population, not of a sample
    result = _sums(np.array([[1, 2]], np.uint16), np.array([[3], [6]], np.uint16)).result()
    assert result == BandStatistics(4, 3.0, 3.5**0.5, 1.0, 6.0)


def test_integer_sums_do_not_overflow():
    full = np.full((120, 120), 65535, np.uint16)
    sums = _sums(*[full] * 300)
    assert sums.total == 65535 * 120 * 120 * 300
    assert sums.squares == 65535**2 * 120 * 120 * 300
    assert sums.result() == BandStatistics(120 * 120 * 300, 65535.0, 0.0, 65535.0, 65535.0)


@given(arrays.arrays(np.uint16, (5, 7, 3)))
def test_integer_sums_are_exact(array):
    sums = _sums(array)
    values = [int(v) for v in array.ravel()]
    assert sums.total == sum(values)
    assert sums.squares == sum(v * v for v in values)
    assert (sums.min, sums.max) == (min(values), max(values))


@given(st.permutations(range(6)), st.integers(1, 5))
def test_floats_add_up_to_the_same_bits_in_any_order_and_division(order, cut):
    generator = np.random.default_rng(3)
    parts = [generator.normal(-12, 10.0**k, (4, 4)).astype(np.float32) for k in range(6)]
    expected = _sums(*parts).result()
    left, right = (_sums(*(parts[i] for i in half)) for half in (order[:cut], order[cut:]))
    left.merge(BandSums.from_json(json.loads(json.dumps(right.to_json()))))
    assert left.result() == expected


def test_floats_agree_with_long_double():
    pixels = np.random.default_rng(1).normal(-12.6, 5, 10_000).astype(np.float32)
    result = _sums(pixels[:3000], pixels[3000:]).result()
    assert result.mean == pytest.approx(float(pixels.astype(np.longdouble).mean()), rel=1e-12)
    assert result.std == pytest.approx(float(pixels.astype(np.longdouble).std()), rel=1e-10)


def test_constant_floats_have_no_spread():
    result = _sums(np.full(1000, 0.1, np.float32)).result()
    assert result.std == pytest.approx(0, abs=1e-7)


def test_pixels_that_are_not_finite_are_not_counted():
    first, second = np.array([1, np.nan, 3, np.inf, -np.inf], np.float32), np.array([np.nan], np.float32)
    assert _sums(first, second).result() == BandStatistics(2, 2.0, 1.0, 1.0, 3.0)


def test_no_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        BandSums().result()
    assert BandSums.from_json(json.loads(json.dumps(BandSums().to_json()))) == BandSums()


def test_integers_too_large_for_float64_are_still_near():
    assert _sums(np.array([2**31 - 1] * 4, np.int32)).total == Fraction(4 * (2**31 - 1))


def _record(seed):
    generator = np.random.default_rng(seed)
    ten = generator.integers(0, 10_000, (4, 4, 2)).astype(np.uint16)
    return {"ten": ten, "radar": ten[..., :1].astype(np.float32) / 7, "map": np.zeros((4, 4), np.uint16)}


def test_records_by_band():
    records = [_record(seed) for seed in range(5)]
    whole, first, second = (RecordSums(FEATURES) for _ in range(3))
    for index, record in enumerate(records):
        whole.add(record)
        (first if index % 2 else second).add(record)
    first.merge(RecordSums.from_json(FEATURES, json.loads(json.dumps(second.to_json()))))
    assert first.result() == whole.result()
    assert list(whole.result()) == ["A", "B", "VV"]
    b = np.stack([record["ten"][..., 1] for record in records]).astype(float)
    assert whole.result()["B"].mean == b.mean()
    assert whole.result()["B"].std == pytest.approx(b.std(), rel=1e-14)


def test_without_records_there_are_no_statistics():
    assert RecordSums(FEATURES).result() == {}
