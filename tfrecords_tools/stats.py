"""Recounts labels and band statistics from the records and compares them with the manifest."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np

from . import cli, manifest
from .manifest import BandStatistics, Manifest, Shard
from .show import grid
from .statistics import RecordSums

TRAIN = "train"  # the split whose band statistics the manifest holds


@dataclass(frozen=True)
class Config:
    """What to count."""

    directory: Path = cli.option("directory of shards", positional=True)
    split: str = cli.option("split to count", default=TRAIN)
    workers: int = cli.option("processes, each counting one shard at a time", default=os.cpu_count() or 1)


class Counts:
    """Running counts of labels and sums of bands over records.

    Attributes:
        labels: int64 [classes], how many records carry each class.
        sums: of the bands.
    """

    def __init__(self, known: Manifest) -> None:
        self.labels = np.zeros(len(known.nomenclature.classes), np.int64)
        self.sums = RecordSums(known.features)

    def add(self, record: dict[str, Any]) -> None:
        """Adds one decoded record."""
        self.labels += record["labels"]
        self.sums.add(record)

    def merge(self, other: Counts) -> None:
        """Adds the records that another process has counted."""
        self.labels += other.labels
        self.sums.merge(other.sums)


def count_shard(directory: Path, known: Manifest, shard: Shard) -> Counts:
    """Counts one shard.

    Raises:
        DataError: a record is damaged; names shard and record.
    """
    from .tfrecord import decode_at, read_records

    counts, path = Counts(known), directory / shard.file
    for index, record in enumerate(read_records(path)):
        counts.add(decode_at(record, known, path, index))
    return counts


def count(directory: Path, known: Manifest, split: str, workers: int = 1) -> Counts:
    """Counts all records of a split, the same for any number of workers."""
    from tqdm import tqdm

    total, shards = Counts(known), known.split(split, directory).shards
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(ProcessPoolExecutor(workers)).map if workers > 1 else map
        done = engine(partial(count_shard, directory, known), shards)
        for counts in tqdm(done, "counting", len(shards), unit="shard", leave=False, disable=None):
            total.merge(counts)
    return total


def same(found: Optional[BandStatistics], stated: Optional[BandStatistics]) -> bool:
    """Tells whether statistics agree: count, minimum and maximum exactly, mean and deviation to nine digits."""
    if found is None or stated is None:
        return found is stated
    if (found.count, found.min, found.max) != (stated.count, stated.min, stated.max):
        return False
    near = 1e-9 * max(abs(found.min), abs(found.max))
    return all(math.isclose(getattr(found, k), getattr(stated, k), abs_tol=near) for k in ("mean", "std"))


def _label_rows(counts: Counts, known: Manifest, split: str) -> Iterator[tuple[str, ...]]:
    stated = known.splits[split].label_counts
    for name, found, said in zip(known.nomenclature.classes, counts.labels.tolist(), stated):
        yield name, f"{found:,}", "" if found == said else f"{said:,}"


def _band_rows(counts: Counts, known: Manifest, split: str) -> Iterator[tuple[str, ...]]:
    result = counts.sums.result()
    for band in known.bands:
        found, stated = result.get(band), known.statistics.get(band)
        differs = split == TRAIN and not same(found, stated)
        yield (band, *_text(found), " ".join(_text(stated)) if differs else "")


def _text(s: Optional[BandStatistics]) -> tuple[str, ...]:
    return (f"{s.count:,}", *(f"{x:.10g}" for x in (s.mean, s.std, s.min, s.max))) if s else ("-",) * 5


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints counts and statistics beside the manifest's; returns 1 if they differ."""
    config = cli.parse(Config, "python -m tfrecords_tools.stats", __doc__, argv)
    known = manifest.read(config.directory)
    counts = count(config.directory, known, config.split, config.workers)
    labels = list(_label_rows(counts, known, config.split))
    bands = list(_band_rows(counts, known, config.split))
    console = cli.console()
    console.print(f"{config.directory}, {config.split}: {known.origin}")
    other = "manifest, if other"
    console.print(grid("records with each class", "class", "records", other, rows=labels))
    console.print(grid("bands", "band", "pixels", "mean", "std", "min", "max", other, rows=bands))
    differing = sum(row[-1] != "" for row in labels + bands)
    what = "labels and bands are" if config.split == TRAIN else "labels are"
    console.print(
        f"{differing} rows differ from the manifest" if differing else f"{what} as the manifest says"
    )
    return 1 if differing else 0


if __name__ == "__main__":
    cli.run(main)
