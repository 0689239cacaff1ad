"""Which records each rank reads in which epoch: pure numpy, the same on every rank without a word between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

# Of the fractional parts of repeat factors: a million records of them fit into 64 bits.
_BITS = 32


class Slice(NamedTuple):
    """`take` consecutive records of shard number `shard`, after the first `skip`."""

    shard: int
    skip: int
    take: int


def steps_per_epoch(records: int, size: int, batch: int) -> int:
    """Returns the number of steps of an epoch: floor(N / (R B)), the same on every rank."""
    return records // (size * batch)


def repeat_factors(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Returns how often each record is to come in an epoch, on average: more often the rarer its rarest class.

    Repeat-factor sampling (Gupta et al. 2019, LVIS, arXiv:1908.03195): r_c = max(1, sqrt(t / f_c)) for a class that the
    share f_c of the records carries, and r_i = max of r_c over the classes of the record; 1 for a record without any.

    Args:
        labels: 0/1 [records, classes].
        threshold: t; classes rarer than this come more often. 0 for none.

    Returns:
        float64 [records], each at least 1.
    """
    carries = np.asarray(labels, bool)
    share = carries.sum(0) / max(len(carries), 1)
    of_class = np.sqrt(np.maximum(threshold / np.where(share > 0, share, 1.0), 1.0))
    return np.where(carries, of_class, 1.0).max(1, initial=1.0)


def lengthened(factors: np.ndarray) -> int:
    """Returns how many records every epoch has at least when they come `factors` times: the floor of their sum."""
    whole, parts = _fixed_point(factors)
    return int(whole.sum() + (parts.sum() >> _BITS))


def occurrences(factors: np.ndarray, *, epoch: int, seed: int) -> np.ndarray:
    """Returns how often each record comes in one epoch: its factor, rounded up or down at random, right on average.

    The fractional parts are laid end to end, in an order of the epoch's own, and a comb of unit spacing with a random
    offset picks the records that are rounded up (systematic sampling): so the sum is `lengthened`, or one more.

    Args:
        factors: of all records, at least 1 each.
        epoch: counted from 0.
        seed: a record's number depends on (seed, epoch, its place) alone, the same on every rank.

    Returns:
        int64 [records].
    """
    # The last number keeps these draws apart from those of the order of shards.
    random = np.random.default_rng([seed, epoch, 1])
    whole, parts = _fixed_point(factors)
    order = random.permutation(len(parts))
    ends = np.cumsum(parts[order]) + int(random.integers(1 << _BITS))
    teeth = np.diff(ends >> _BITS, prepend=(ends[:1] - parts[order][:1]) >> _BITS)
    whole[order] += teeth
    return whole


def _fixed_point(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whole and fractional parts, int64, the latter in units of 2 ** -_BITS: their sums have no rounding."""
    whole = np.floor(factors).astype(np.int64)
    return whole, ((factors - whole) * (1 << _BITS)).astype(np.int64)


def training_plan(
    shard_records: Sequence[int],
    *,
    epoch: int,
    seed: int,
    rank: int,
    size: int,
    batch: int,
    steps: Optional[int] = None,
) -> list[Slice]:
    """Deals the records of an epoch out to the ranks.

    The shards are permuted, laid end to end as a ring and cut at a random place; of the N records in that order, rank r
    reads [r S B, (r + 1) S B) with S = floor(N / (R B)) steps of B records. No record comes twice in an epoch, every
    rank takes the same number of steps, and the fewer than R B left over change from epoch to epoch, even with one
    shard.

    Where records come several times, the list is the lengthened one: the numbers of a shard and of a slice then count
    occurrences, and each occurrence is read once.

    Args:
        shard_records: number of records of each shard.
        epoch: counted from 0.
        seed: of the order; the plan depends on (seed, epoch, rank, size, batch) alone.
        rank: of this process.
        size: number of ranks R.
        batch: records of one rank in one step, B.
        steps: S, where it is not to be as many as there are full ones in this epoch's list.

    Returns:
        the slices that the rank reads, in order; their `take` sum to S B.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(shard_records))
    total = int(sum(shard_records))
    share = (steps_per_epoch(total, size, batch) if steps is None else steps) * batch
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
