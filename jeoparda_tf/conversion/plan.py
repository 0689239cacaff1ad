"""The order of the records and their division into shards: both follow from the seed and the names alone.

The division itself is tfrecords_tools.division's, which reshard and split share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrecords_tools.division import Range as Range
from tfrecords_tools.division import ranges as ranges
from tfrecords_tools.division import shard_count as shard_count
from tfrecords_tools.manifest import FORMAT_VERSION, Feature

from .fractions import keyed_hash

# Of a record beside its arrays: name, labels, keys, protobuf's and TFRecord's lengths and CRCs; about.
_ENVELOPE = 300


def order(names: Sequence[str], seed: int) -> list[str]:
    """Returns names in the order of a keyed hash: shuffled for good, whatever order they came in."""
    return sorted(names, key=lambda name: (order_hash(name, seed), name))


def order_hash(name: str, seed: int) -> int:
    """Returns the 64 bits that decide on a record's place."""
    return keyed_hash(name, seed, b"order")


def record_bytes(features: Sequence[Feature]) -> int:
    """Returns how long a record is, about."""
    return _ENVELOPE + sum(
        int(np.prod(feature.shape)) * np.dtype(feature.dtype).itemsize for feature in features
    )


def fingerprint(settings: dict[str, Any], splits: dict[str, list[str]]) -> str:
    """Returns a hash of all that the shards' bytes depend on, the files' contents aside.

    Args:
        settings: JSON of nomenclature, features and whatever else decides on bytes.
        splits: names in order.
    """
    names = {split: hashlib.sha256("\n".join(names).encode()).hexdigest() for split, names in splits.items()}
    content = {"format_version": FORMAT_VERSION, "names": names, **settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
