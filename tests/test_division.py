"""The division of records into shards: all of them, in order, in shards of nearly one size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_tools import division
from tfrecords_tools.errors import UsageError


@given(st.integers(0, 2000), st.integers(1, 60))
def test_ranges_cover_all_in_shards_of_nearly_one_size(records: int, wanted: int) -> None:
    shards = division.shard_count(records, 1, 128, wanted)
    ranges = list(division.ranges("val", records, shards))
    assert [n for r in ranges for n in range(r.start, r.stop)] == list(range(records))
    sizes = [r.stop - r.start for r in ranges]
    assert len(ranges) == min(wanted, records)
    assert not sizes or (max(sizes) - min(sizes) <= 1 and min(sizes) >= 1)
    assert [r.file for r in ranges] == [f"val-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]


def test_shard_size() -> None:
    assert division.shard_count(800, 160_000, 128, None) == 1  # 128 MB exactly
    assert division.shard_count(801, 160_000, 128, None) == 2
    assert division.shard_count(269_695, 160_300, 128, None) == 338
    assert division.shard_count(3, 160_000, 128, 8) == 3  # no empty shards
    assert division.shard_count(0, 160_000, 128, None) == 0
    assert division.shard_count(9, 160_000, math.inf, None) == 1
    for bad in ((0, 5), (-1.0, None), (128, 0)):
        with pytest.raises(UsageError):
            division.shard_count(10, 160_000, *bad)
