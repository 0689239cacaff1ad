"""The sampling plan, over random shard sizes, ranks and batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jeoparda_tf.input.sampling import (
    Slice,
    evaluation_plan,
    lengthened,
    occurrences,
    repeat_factors,
    steps_per_epoch,
    training_plan,
)

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def records_of(plan: list[Slice]) -> list[tuple[int, int]]:
    return [(part.shard, index) for part in plan for index in range(part.skip, part.skip + part.take)]


@given(sizes, st.integers(1, 9), st.integers(1, 7), st.integers(1, 3), st.integers(0, 5), st.integers(0, 3))
def test_training_is_disjoint_with_equal_steps_and_almost_complete(
    shards, size, batch, accumulate, epoch, seed
):
    patches = batch * accumulate  # of one rank in one step
    plans = [
        training_plan(shards, epoch=epoch, seed=seed, rank=r, size=size, batch=patches) for r in range(size)
    ]
    read = [records_of(plan) for plan in plans]
    steps = steps_per_epoch(sum(shards), size, patches)
    assert steps == sum(shards) // (size * batch * accumulate)
    assert [len(part) for part in read] == [steps * patches] * size
    everything = [record for part in read for record in part]
    assert len(set(everything)) == len(everything)
    assert sum(shards) - len(everything) < size * patches
    assert all(0 <= index < shards[shard] for shard, index in everything)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 5), st.integers(2, 7))
def test_leftover_records_change_between_epochs(shards, size, batch):
    total = sum(shards)
    left = []
    for epoch in range(12):
        plans = [
            training_plan(shards, epoch=epoch, seed=2, rank=r, size=size, batch=batch) for r in range(size)
        ]
        everything = {(shard, index) for shard, count in enumerate(shards) for index in range(count)}
        left.append(frozenset(everything - {record for plan in plans for record in records_of(plan)}))
    # None or all may be left over; else twelve epochs that all leave the same ones have no chance.
    if 0 < len(left[0]) < total:
        assert len(set(left)) > 1


@given(sizes, st.integers(1, 9))
def test_evaluation_covers_every_record_once_in_order(shards, size):
    read = [record for r in range(size) for record in records_of(evaluation_plan(shards, rank=r, size=size))]
    assert read == [(shard, index) for shard, count in enumerate(shards) for index in range(count)]


def test_repeat_factors_by_hand():
    # Of 8 records all carry the first class, 2 the second, 1 the third, none the fourth.
    labels = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], *[[1, 0, 0, 0]] * 5])
    # t = 1/2: sqrt(1/2 / 1/8) = 2, sqrt(1/2 / 2/8) = sqrt(2).
    expected = [2, np.sqrt(2), np.sqrt(2), 1, 1, 1, 1, 1]
    np.testing.assert_allclose(repeat_factors(labels, 0.5), expected, rtol=1e-15)
    assert (repeat_factors(labels, 0.1) == 1).all()
    assert (repeat_factors(np.zeros((3, 4)), 0.5) == 1).all()
    # The rarest of several classes decides.
    assert repeat_factors(labels | [[0, 1, 0, 0]] + [[0, 0, 0, 0]] * 7, 0.5)[0] == 2


factors_of = st.lists(st.floats(1, 6), min_size=1, max_size=60).map(np.array)


@given(factors_of, st.integers(0, 9), st.integers(0, 3))
def test_records_come_their_factor_rounded_up_or_down(factors, epoch, seed):
    times = occurrences(factors, epoch=epoch, seed=seed)
    assert (times >= np.floor(factors)).all()
    assert (times <= np.ceil(factors)).all()
    assert times.sum() - lengthened(factors) in (0, 1)
    assert abs(lengthened(factors) - factors.sum()) < 1 + 1e-6
    np.testing.assert_array_equal(times, occurrences(factors, epoch=epoch, seed=seed))


def test_records_come_their_factor_on_average_not_in_step_with_others():
    factors = np.tile([1.0, 1.25, 1.5, 3.9], 25)
    times = np.array([occurrences(factors, epoch=epoch, seed=1) for epoch in range(800)])
    # The standard deviation of a mean is at most 0.5 / sqrt(800) = 0.018.
    assert abs(times.mean(0) - factors).max() < 5 * 0.018
    # Two of the same factor are rounded up together about as often as by chance: 1/4, deviation 0.015.
    both = (times[:, 2] == 2) & (times[:, 6] == 2)
    assert abs(both.mean() - 0.25) < 5 * 0.015
    assert (times[0] != times[1]).any()
    assert (occurrences(factors, epoch=0, seed=2) != times[0]).any()


@given(
    st.lists(st.lists(st.floats(1, 4), max_size=20), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 5),
)
def test_every_planned_occurrence_is_read_once_in_equal_steps(shards, size, batch, epoch):
    factors = np.array([factor for shard in shards for factor in shard], float)
    times = np.split(occurrences(factors, epoch=epoch, seed=4), np.cumsum([len(s) for s in shards])[:-1])
    lengths = [int(part.sum()) for part in times]
    steps = steps_per_epoch(lengthened(factors), size, batch)
    read = []
    for rank in range(size):
        part = training_plan(lengths, epoch=epoch, seed=4, rank=rank, size=size, batch=batch, steps=steps)
        assert sum(cut.take for cut in part) == steps * batch
        read += records_of(part)
    assert len(set(read)) == len(read) == steps * batch * size
    assert all(0 <= place < lengths[shard] for shard, place in read)
    assert sum(lengths) - len(read) <= size * batch


def test_a_rank_opens_only_its_own_shards():
    plan = training_plan([100] * 16, epoch=0, seed=0, rank=1, size=4, batch=10)
    # 400 of 1,600 records: four shards, or three and the ends of two.
    assert len(plan) <= 5
    assert sum(part.take != 100 for part in plan) <= 2


def test_leftover_records_change_from_epoch_to_epoch_even_with_one_shard():
    left = []
    for epoch in range(8):
        plans = [training_plan([25], epoch=epoch, seed=3, rank=r, size=2, batch=5) for r in range(2)]
        read = {index for plan in plans for _, index in records_of(plan)}
        assert len(read) == 20
        left.append(frozenset(range(25)) - read)
    assert len(set(left)) >= 5


def test_epochs_and_seeds_differ_and_repeat():
    def order(epoch: int, seed: int) -> list[Slice]:
        return training_plan([7] * 30, epoch=epoch, seed=seed, rank=0, size=1, batch=10)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)


def test_every_record_is_read_equally_often_over_many_epochs():
    shards, counts = [11, 5, 9], np.zeros((3, 11))
    for epoch in range(600):
        for shard, index in records_of(training_plan(shards, epoch=epoch, seed=1, rank=0, size=1, batch=10)):
            counts[shard, index] += 1
    seen = counts[counts > 0]
    # 20 of 25 records an epoch: 480 expected, standard deviation below 10 for independent draws.
    assert len(seen) == 25
    assert abs(seen - 480).max() < 50
