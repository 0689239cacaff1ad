"""The order of the records and their division into shards: both follow from the seed and the names alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrecords_tools.errors import UsageError
from tfrecords_tools.manifest import FORMAT_VERSION, Feature

from .fractions import keyed_hash

_MEGABYTE = 1_000_000
# Of a record beside its arrays: name, labels, keys, protobuf's and TFRecord's lengths and CRCs; about.
_ENVELOPE = 300


@dataclass(frozen=True)
class Range:
    """The records of one shard: `names[start:stop]` of its split."""

    split: str
    file: str
    start: int
    stop: int


def order(names: Sequence[str], seed: int) -> list[str]:
    """Returns names in the order of a keyed hash: shuffled for good, whatever order they came in."""
    return sorted(names, key=lambda name: (keyed_hash(name, seed, b"order"), name))


def record_bytes(features: Sequence[Feature]) -> int:
    """Returns how long a record is, about."""
    return _ENVELOPE + sum(
        int(np.prod(feature.shape)) * np.dtype(feature.dtype).itemsize for feature in features
    )


def shard_count(records: int, record_size: int, shard_megabytes: float, shards: int | None) -> int:
    """Returns the number of shards of a split: `shards` if given, else as many as the size asks for; none is empty.

    Raises:
        UsageError: a size or number of shards that is not positive.
    """
    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards}: at least one is needed")
    if shard_megabytes <= 0:
        raise UsageError(f"--shard-size {shard_megabytes}: a size in MB is needed")
    count = math.ceil(records * record_size / (shard_megabytes * _MEGABYTE)) if shards is None else shards
    return min(count, records)


def ranges(split: str, records: int, shards: int) -> Iterator[Range]:
    """Yields the shards of a split: contiguous ranges whose sizes differ by one at most."""
    ends = [records * index // shards for index in range(shards + 1)] if shards else []
    for index, (start, stop) in enumerate(zip(ends, ends[1:])):
        yield Range(split, f"{split}-{index:05d}-of-{shards:05d}.tfrecord", start, stop)


def fingerprint(settings: dict[str, Any], splits: dict[str, list[str]]) -> str:
    """Returns a hash of all that the shards' bytes depend on, the files' contents aside.

    Args:
        settings: JSON of nomenclature, features and whatever else decides on bytes.
        splits: names in order.
    """
    names = {split: hashlib.sha256("\n".join(names).encode()).hexdigest() for split, names in splits.items()}
    content = {"format_version": FORMAT_VERSION, "names": names, **settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
