"""How the records of a split are divided into shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .errors import UsageError

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Range:
    """The records of one shard: those from `start` to before `stop` of its split."""

    split: str
    file: str
    start: int
    stop: int


def shard_count(records: int, record_size: float, shard_megabytes: float, shards: Optional[int]) -> int:
    """Returns the number of shards of a split: `shards` if given, else as many as the size asks for; none is empty.

    Args:
        records: of the split.
        record_size: bytes a record, about.
        shard_megabytes: size to aim at.
        shards: number to aim at instead.

    Raises:
        UsageError: a size or number of shards that is not positive.
    """
    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards}: at least one is needed")
    if not shard_megabytes > 0:  # nan neither
        raise UsageError(f"--shard-size {shard_megabytes}: a size in MB is needed")
    count = math.ceil(records * record_size / (shard_megabytes * _MEGABYTE)) if shards is None else shards
    return min(max(count, 1), records)


def ranges(split: str, records: int, shards: int) -> Iterator[Range]:
    """Yields the shards of a split: contiguous ranges whose sizes differ by one at most."""
    ends = [records * index // shards for index in range(shards + 1)] if shards else []
    for index, (start, stop) in enumerate(zip(ends, ends[1:])):
        yield Range(split, f"{split}-{index:05d}-of-{shards:05d}.tfrecord", start, stop)
