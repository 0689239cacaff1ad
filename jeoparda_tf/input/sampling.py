"""Which records each rank reads in which epoch: pure numpy, the same on every rank without a word between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Slice(NamedTuple):
    """`take` consecutive records of shard number `shard`, after the first `skip`."""

    shard: int
    skip: int
    take: int


def steps_per_epoch(records: int, size: int, batch: int) -> int:
    """Returns the number of steps of an epoch: floor(N / (R B)), the same on every rank."""
    return records // (size * batch)


def training_plan(
    shard_records: Sequence[int], *, epoch: int, seed: int, rank: int, size: int, batch: int
) -> list[Slice]:
    """Deals the records of an epoch out to the ranks.

    The shards are permuted, laid end to end as a ring and cut at a random place; of the N records in that order, rank r
    reads [r S B, (r + 1) S B) with S = floor(N / (R B)) steps of B records. No record comes twice in an epoch, every
    rank takes the same number of steps, and the fewer than R B left over change from epoch to epoch, even with one
    shard.

    Args:
        shard_records: number of records of each shard.
        epoch: counted from 0.
        seed: of the order; the plan depends on (seed, epoch, rank, size, batch) alone.
        rank: of this process.
        size: number of ranks R.
        batch: records of one rank in one step, B.

    Returns:
        the slices that the rank reads, in order; their `take` sum to S B.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(shard_records))
    total = int(sum(shard_records))
    share = steps_per_epoch(total, size, batch) * batch
    start = int(random.integers(total)) if total else 0
    return _ring(shard_records, order, (start + rank * share) % max(total, 1), share)


def evaluation_plan(shard_records: Sequence[int], *, rank: int, size: int) -> list[Slice]:
    """Deals all records out in their order, contiguously: every record to exactly one rank, shares equal within one."""
    total = int(sum(shard_records))
    start, stop = total * rank // size, total * (rank + 1) // size
    return _ring(shard_records, np.arange(len(shard_records)), start, stop - start)


def _ring(shard_records: Sequence[int], order: np.ndarray, start: int, count: int) -> list[Slice]:
    """Cuts `count` records out of the ring of shards in `order`, from position `start` on."""
    slices: list[Slice] = []
    position = 0
    for shard in [*order, *order]:  # twice around: the cut may run over the seam
        records = int(shard_records[shard])
        skip = max(0, start - position)
        take = min(records - skip, count)
        if take > 0:
            slices.append(Slice(int(shard), skip, take))
            count -= take
        position += records
    return slices
