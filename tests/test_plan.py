from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jeoparda_tf.bigearthnet.bands import features
from jeoparda_tf.conversion import plan
from jeoparda_tf.conversion.fractions import Fractions
from tests.archives import TILE
from tfrecords_tools.errors import UsageError

NAMES = st.lists(st.text(min_size=1, max_size=8), max_size=40, unique=True)


@given(NAMES, st.integers(0, 2**31), st.randoms())
def test_order_depends_on_seed_and_names_alone(names: list[str], seed: int, random: object) -> None:
    ordered = plan.order(names, seed)
    assert sorted(ordered) == sorted(names)
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan.order(shuffled, seed) == ordered
    # Leaving some out leaves the others' order as it is: so a list of exclusions moves few records.
    assert plan.order(names[::2], seed) == [name for name in ordered if name in names[::2]]


def test_order_is_that_of_the_keyed_hash() -> None:
    names = [f"S2A_{index}" for index in range(50)]
    key = (3).to_bytes(8, "little")
    expected = sorted(
        names, key=lambda n: hashlib.blake2b(n.encode(), digest_size=8, key=key, person=b"order").digest()
    )
    assert plan.order(names, 3) == expected
    assert plan.order(names, 4) != expected


def test_record_bytes() -> None:
    size = plan.record_bytes(features())
    assert 160_000 < size < 161_000
    assert plan.record_bytes(features(s1=True, reference_map=True)) == size + 120 * 120 * (2 * 4 + 2)


def test_fingerprint_sees_every_change() -> None:
    first = plan.fingerprint({"seed": 0}, {"train": ["a", "b"], "val": ["c"]})
    assert first == plan.fingerprint({"seed": 0}, {"train": ["a", "b"], "val": ["c"]})
    others = [
        ({"seed": 1}, ["a", "b"], ["c"]),
        ({"seed": 0}, ["b", "a"], ["c"]),
        ({"seed": 0}, ["a"], ["b", "c"]),
    ]
    assert first not in [plan.fingerprint(s, {"train": train, "val": val}) for s, train, val in others]


def _names(tiles: int = 6, side: int = 40) -> list[str]:
    return [
        f"{TILE.replace('33', str(10 + tile))}_{row:02d}_{column:02d}"
        for tile in range(tiles)
        for row in range(side)
        for column in range(side)
    ]


@pytest.mark.parametrize(("by_block", "tolerance"), [(False, 0.02), (True, 0.12)])
def test_fractions_are_met(by_block: bool, tolerance: float) -> None:
    names = _names()
    fractions = Fractions((0.6, 0.3, 0.1), 0, by_block)
    counts = Counter(fractions.split_of(name) for name in names)
    for split, share in {"train": 0.6, "val": 0.3, "test": 0.1}.items():
        assert counts[split] / len(names) == pytest.approx(share, abs=tolerance)


def test_blocks_stay_together_at_all_dates() -> None:
    fractions = Fractions((0.5, 0.25, 0.25), 1, by_block=True)
    splits = {name: fractions.split_of(name) for name in _names()}
    for name, split in splits.items():
        base, row, column = name.rsplit("_", 2)
        corner = f"{base}_{int(row) // 8 * 8:02d}_{int(column) // 8 * 8:02d}"
        assert splits[corner] == split
        assert fractions.split_of(name.replace("20170613T101031", "20180101T000000")) == split
    assert len({splits[name] for name in splits}) == 3


def test_seed_and_order_hash_are_independent_of_the_split() -> None:
    names = _names(1)
    first, second = (Fractions((0.5, 0.5, 0), seed, by_block=False) for seed in (0, 1))
    same = sum(first.split_of(name) == second.split_of(name) for name in names) / len(names)
    assert same == pytest.approx(0.5, abs=0.05)
    # Were one hash used for both, the first half of the order would be the train split.
    half = plan.order(names, 0)[: len(names) // 2]
    assert sum(first.split_of(name) == "train" for name in half) / len(half) == pytest.approx(0.5, abs=0.06)


def test_fractions_of_zero_and_one() -> None:
    assert {Fractions((1, 0, 0), 0, False).split_of(name) for name in _names(1)} == {"train"}
    assert {Fractions((0, 0, 1), 0, False).split_of(name) for name in _names(1)} == {"test"}
    for bad in ((0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5), (60, 20, 20), (math.nan, 0, 0)):
        with pytest.raises(UsageError, match="not shares of a whole"):
            Fractions(bad, 0, True)
