"""The sampling plan, over random shard sizes, ranks and batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jeoparda_tf.input.sampling import Slice, evaluation_plan, steps_per_epoch, training_plan

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def records_of(plan: list[Slice]) -> list[tuple[int, int]]:
    return [(part.shard, index) for part in plan for index in range(part.skip, part.skip + part.take)]


@given(sizes, st.integers(1, 9), st.integers(1, 7), st.integers(0, 5), st.integers(0, 3))
def test_training_is_disjoint_with_equal_steps_and_almost_complete(shards, size, batch, epoch, seed):
    plans = [
        training_plan(shards, epoch=epoch, seed=seed, rank=r, size=size, batch=batch) for r in range(size)
    ]
    read = [records_of(plan) for plan in plans]
    steps = steps_per_epoch(sum(shards), size, batch)
    assert [len(part) for part in read] == [steps * batch] * size
    everything = [record for part in read for record in part]
    assert len(set(everything)) == len(everything)
    assert sum(shards) - len(everything) < size * batch
    assert all(0 <= index < shards[shard] for shard, index in everything)


@given(sizes, st.integers(1, 9))
def test_evaluation_covers_every_record_once_in_order(shards, size):
    read = [record for r in range(size) for record in records_of(evaluation_plan(shards, rank=r, size=size))]
    assert read == [(shard, index) for shard, count in enumerate(shards) for index in range(count)]


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
