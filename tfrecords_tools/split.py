"""Draws a smaller subset of a directory of shards, at random or balanced over the classes, as a new directory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from . import cli, division, manifest, table, tfds
from .errors import DataError, UsageError
from .manifest import TABLE_NAME, BandStatistics, Manifest, Shard, Split
from .stats import TRAIN, Counts
from .writer import ShardWriter


@dataclass(frozen=True)
class Config:
    """What to draw."""

    directory: Path = cli.option("directory of shards", positional=True)
    out: Path = cli.option("new directory for the subset", positional=True)
    fraction: Optional[float] = cli.option(
        "part of each split's records, above 0 and at most 1", default=None
    )
    records: Optional[int] = cli.option("number of records of each split", default=None)
    balanced: bool = cli.option("always draw next a record of the class drawn least", default=False)
    seed: int = cli.option("of the draw", default=0)
    splits: tuple[str, ...] = cli.option("splits to draw from; by default all", default=(), nargs="+")


def draw_random(count: int, number: int, generator: np.random.Generator) -> np.ndarray:
    """Returns `number` of the indices below `count`, each equally likely, ascending."""
    return np.sort(generator.permutation(count)[:number])


def draw_balanced(labels: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Draws records one by one, each a random one of the class that so far has the fewest (ties: the first).

    Rare classes are thereby used up first, and frequent ones come mostly along with them. Records without a label
    are drawn last.

    Args:
        labels: bool [records, classes].
        number: of records to draw.
        generator: of random numbers.

    Returns:
        their indices, ascending.
    """
    order = generator.permutation(len(labels))
    waiting = [iter(order[labels[order, index]].tolist()) for index in range(labels.shape[1])]
    drawn = np.zeros(len(labels), bool)
    counts = np.zeros(labels.shape[1])
    for _ in range(number):
        record = None
        while record is None and np.isfinite(counts).any():
            rarest = int(np.argmin(counts))
            record = next((index for index in waiting[rarest] if not drawn[index]), None)
            if record is None:
                counts[rarest] = np.inf  # used up
        if record is None:
            break
        drawn[record] = True
        counts += labels[record]
    rest = order[~drawn[order]][: number - int(drawn.sum())]
    drawn[rest] = True
    return np.flatnonzero(drawn)


def split(config: Config) -> Manifest:
    """Writes the subset: the chosen records byte for byte in their order, its own counts and statistics.

    The shards come first, the table next, the manifest last: without it the directory is not whole.

    Raises:
        UsageError: what is asked for cannot be drawn, or `out` is not empty.
        DataError: the source is damaged, or the disk is full.
    """
    known = manifest.read(config.directory)
    if config.seed < 0:
        raise UsageError(f"--seed is {config.seed}, but must be at least 0")
    names = tuple(dict.fromkeys(config.splits)) or tuple(known.splits)
    sizes = {name: _size(config, name, known.split(name, config.directory).records) for name in names}
    rows = table.read(config.directory)
    cli.new_folder(config.out)
    splits: dict[str, Split] = {}
    kept: list[table.Row] = []
    statistics: Mapping[str, BandStatistics] = {}
    for number, name in enumerate(names):
        members = table.rows_of(name, known, rows, config.directory)
        chosen = _draw(config, known, members, sizes[name], np.random.default_rng([config.seed, number]))
        counts = Counts(known)
        shards, copied = _copy(config, known, name, chosen, counts)
        splits[name] = Split(tuple(shards), tuple(counts.labels.tolist()))
        kept += copied
        if name == TRAIN:
            statistics = counts.sums.result()
    table.write(config.out, kept)
    drawn = "balanced" if config.balanced else "random"
    how = known.sources_of_copy("subset", of=str(config.directory), drawn=drawn, seed=config.seed)
    left = {"not drawn": sum(split.records for split in known.splits.values()) - len(kept)}
    subset = dataclasses.replace(
        known,
        splits=splits,
        statistics=statistics,
        sources=how,
        excluded={**known.excluded, **left},
    )
    tfds.write(config.out, subset)
    subset.write(config.out)
    return subset


def _size(config: Config, split: str, available: int) -> int:
    """Returns how many records to draw from a split."""
    if (config.fraction is None) == (config.records is None):
        raise UsageError("give either --fraction or --records")
    if config.fraction is not None:
        if not 0 < config.fraction <= 1:
            raise UsageError(f"--fraction {config.fraction:g} is not above 0 and at most 1")
        return min(available, max(1, round(config.fraction * available)))
    number = config.records or 0
    if not 0 < number <= available:
        problem = f"cannot draw {number} records from {split}, which has {available}"
        raise UsageError(
            problem, path=config.directory, remedy="name the --splits to draw from, or another number"
        )
    return number


def _draw(
    config: Config, known: Manifest, members: list[table.Row], number: int, generator: np.random.Generator
) -> list[table.Row]:
    if config.balanced:
        labels = np.array(
            [[name in row.labels for name in known.nomenclature.classes] for row in members], bool
        )
        return [members[index] for index in draw_balanced(labels, number, generator)]
    return [members[index] for index in draw_random(len(members), number, generator)]


def _copy(
    config: Config, known: Manifest, split: str, chosen: list[table.Row], counts: Counts
) -> tuple[list[Shard], list[table.Row]]:
    """Copies records into shards of about the source's size; counts them on the way."""
    from .tfrecord import RESTORE, decode_at

    source = known.splits[split]
    number = max(1, round(len(source.shards) * len(chosen) / max(1, source.records)))
    records = _read(config.directory, chosen)
    shards, copied = [], []
    for part in division.ranges(split, len(chosen), min(number, len(chosen))):
        with ShardWriter(config.out / part.file) as writer:
            for row, record in zip(chosen[part.start : part.stop], records):
                decoded = decode_at(record, known, config.directory / row.shard, row.position)
                if decoded["name"] != row.name:
                    problem = f"record {row.position} is {decoded['name']}, {TABLE_NAME} has {row.name}"
                    raise DataError(problem, path=config.directory / row.shard, remedy=RESTORE)
                counts.add(decoded)
                copied.append(row._replace(shard=part.file, position=writer.write(record)))
        shards.append(writer.shard)
    return shards, copied


def _read(directory: Path, rows: Sequence[table.Row]) -> Iterator[bytes]:
    """Yields the records of rows that are in shard order."""
    from tqdm import tqdm

    from .tfrecord import pick_records

    with tqdm(desc="copying", total=len(rows), unit="record", leave=False, disable=None) as progress:
        for shard, members in itertools.groupby(rows, key=lambda row: row.shard):
            for record in pick_records(directory / shard, [row.position for row in members]):
                yield record
                progress.update()


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Writes the subset and says what is in it."""
    config = cli.parse(Config, "python -m tfrecords_tools.split", __doc__, argv)
    subset = split(config)
    parts = ", ".join(f"{name} {entry.records:,}" for name, entry in subset.splits.items())
    print(f"{config.out}: {parts} records")
    return 0


if __name__ == "__main__":
    cli.run(main)
