"""Draws splits by a keyed hash of names: no list needed beforehand, and the same for every source and order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jeoparda_tf.bigearthnet.archive import block_of
from jeoparda_tf.bigearthnet.lists import SPLITS
from tfrecords_tools.errors import UsageError

_RANGE = 2**64


def keyed_hash(text: str, seed: int, purpose: bytes) -> int:
    """Returns a hash of 64 bits that is even over its range, and independent for every seed and purpose."""
    try:
        key = seed.to_bytes(8, "little", signed=True)
    except OverflowError:
        raise UsageError(f"--seed {seed}: more than 64 bits") from None
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8, key=key, person=purpose).digest(), "big"
    )


class Fractions:
    """Which split a patch falls into.

    Args:
        shares: of train, val and test; they add up to 1.
        seed: another seed draws other splits.
        by_block: draw blocks of 8 x 8 neighbouring patches instead of single ones.

    Raises:
        UsageError: the shares are no shares.
    """

    def __init__(self, shares: Sequence[float], seed: int, by_block: bool) -> None:
        if len(shares) != len(SPLITS) or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
            told = " ".join(str(share) for share in shares)
            remedy = "three shares of train, val and test that add up to 1, such as 0.6 0.2 0.2"
            raise UsageError(f"--split-fractions {told}: not shares of a whole", remedy=remedy)
        # Whatever rounding leaves goes to the last split that is wanted at all.
        self._last = max(index for index, share in enumerate(shares) if share > 0)
        self._ends = [round(sum(shares[: index + 1]) * _RANGE) for index in range(self._last)]
        self._seed, self._by_block = seed, by_block

    def split_of(self, name: str) -> str:
        """Returns "train", "val" or "test"."""
        value = keyed_hash(block_of(name) if self._by_block else name, self._seed, b"split")
        return SPLITS[next((index for index, end in enumerate(self._ends) if value < end), self._last)]
