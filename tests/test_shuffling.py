"""Statistics of what training reads: shards in the converter's order, the plan of each rank, the pipeline's buffer.

Every comparison with chance allows four standard deviations: a right program would fail one of them in 16,000 draws of
the seed. Seeds are fixed, so a failure repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.conversion import plan
from jeoparda_tf.input import pipeline
from jeoparda_tf.records import Patch
from tests import shards
from tfrecords_tools.manifest import Feature, Manifest

pytestmark = pytest.mark.tensorflow

PATCHES, RANKS, BATCH, EPOCHS = 4000, 4, 20, 3
STEPS = PATCHES // (RANKS * BATCH)
SIGMAS = 4
# The first pixel of a patch is its place in the archive.
PLACE = Feature("s2_10m", "uint16", (1, 1, 1), 10, bands.S2_FEATURES[0].bands[:1])
# Share of the patches that carry classes 0, 1, 2; they lie together in the archive, as on the ground.
SHARES = (0.01, 0.1, 0.5)


def written(directory: Path, order: Sequence[int]) -> tuple[Path, Manifest]:
    """Writes the patches of an archive in an order of their places."""
    labels = np.zeros((PATCHES, len(BEN19.classes)), np.int64)
    for number, share in enumerate(SHARES):
        labels[1000 : 1000 + int(share * PATCHES), number] = 1
    patches = [
        Patch(name(place), labels[place], {PLACE.name: np.full((1, 1, 1), place, np.uint16)})
        for place in order
    ]
    return directory, shards.write_patches(directory, {"train": patches}, shards=8, features=(PLACE,))


def name(place: int) -> str:
    return f"S2A_MSIL2A_20170613T101031_{place // 100}_{place % 100}"


def read(data: tuple[Path, Manifest], epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns places [ranks, steps, batch] and labels [ranks, steps, batch, classes] of what an epoch reads."""
    ranks = [
        pipeline.for_training(
            *data, (PLACE,), batch=BATCH, epoch=epoch, seed=1, rank=rank, size=RANKS, shuffle_buffer=256
        )
        for rank in range(RANKS)
    ]
    batches = [[(inputs[PLACE.name], labels) for inputs, labels in dataset] for dataset in ranks]
    places = np.array([[np.ravel(images) for images, _ in rank] for rank in batches], np.int64)
    return places, np.array([[labels for _, labels in rank] for rank in batches])


@pytest.fixture(scope="module")
def epochs(tmp_path_factory) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the ranks read of shards in the order in which conversion writes them."""
    place_of = {name(place): place for place in range(PATCHES)}
    order = [place_of[each] for each in plan.order(list(place_of), seed=0)]
    data = written(tmp_path_factory.mktemp("shards"), order)
    return [read(data, epoch) for epoch in range(EPOCHS)]


def pairs_together(places: np.ndarray) -> float:
    """Counts the pairs that share a batch of a rank and are at most ten places apart in the archive."""
    batches = np.sort(places.reshape(-1, BATCH), axis=1)
    return float(sum((batches[:, lag:] - batches[:, :-lag] <= 10).sum() for lag in range(1, 11)))


def pairs_in_a_step(places: np.ndarray) -> float:
    """The same of a step of all ranks, whose gradients make one."""
    batches = np.sort(places.swapaxes(0, 1).reshape(STEPS, -1), axis=1)
    return float(sum((batches[:, lag:] - batches[:, :-lag] <= 10).sum() for lag in range(1, 11)))


def distance(places: np.ndarray) -> float:
    """Returns how far from each other in the archive are those that are read one after the other, in the mean."""
    return float(np.abs(np.diff(places.reshape(RANKS, -1), axis=1)).mean())


STATISTICS = (pairs_together, pairs_in_a_step, distance)


@pytest.fixture(scope="module")
def chance() -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the statistics over epochs in which any order is as likely as any other."""
    random = np.random.default_rng(0)
    drawn = [random.permutation(PATCHES).reshape(RANKS, STEPS, BATCH) for _ in range(500)]
    values = {each.__name__: [each(places) for places in drawn] for each in STATISTICS}
    return {key: (float(np.mean(value)), float(np.std(value))) for key, value in values.items()}


@pytest.mark.parametrize("statistic", STATISTICS)
def test_neighbours_in_the_archive_are_no_closer_in_the_batches_than_chance(epochs, chance, statistic):
    mean, deviation = chance[statistic.__name__]
    # By hand: each of 39,945 such pairs shares a batch with a probability of 19/3999; two random patches are N/3 apart.
    by_hand = {
        "pairs_together": 39_945 * 19 / 3999,
        "pairs_in_a_step": 39_945 * 79 / 3999,
        "distance": PATCHES / 3,
    }
    assert mean == pytest.approx(by_hand[statistic.__name__], abs=deviation / 4)
    for places, _ in epochs:
        assert abs(statistic(places) - mean) < SIGMAS * deviation


@pytest.mark.parametrize("statistic", STATISTICS)
def test_shards_in_the_order_of_the_archive_would_fail_that(chance, tmp_path, statistic):
    mean, deviation = chance[statistic.__name__]
    places, _ = read(written(tmp_path, range(PATCHES)), 0)
    assert abs(statistic(places) - mean) > 5 * SIGMAS * deviation


def test_every_patch_comes_once_an_epoch_and_the_first_batches_of_epochs_differ(epochs):
    for places, _ in epochs:
        assert sorted(places.ravel()) == list(range(PATCHES))
    for (one, _), (other, _) in combinations(epochs, 2):
        for rank in range(RANKS):
            assert len(set(one[rank, 0]) & set(other[rank, 0])) < BATCH / 4
        assert (one != other).mean() > 0.99


def test_classes_of_each_rank_are_as_frequent_as_in_the_whole(epochs):
    drawn = PATCHES // RANKS
    for _, labels in epochs:
        counts = labels.reshape(RANKS, drawn, -1).sum(1)
        for number, share in enumerate(SHARES):
            # Hypergeometric: drawn without replacement.
            deviation = np.sqrt(drawn * share * (1 - share) * (PATCHES - drawn) / (PATCHES - 1))
            assert abs(counts[:, number] - drawn * share).max() < SIGMAS * deviation
            assert counts[:, number].sum() == share * PATCHES
