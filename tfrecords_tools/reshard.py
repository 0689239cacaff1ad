"""Writes the records of a directory of shards into fewer or more shards, in their order, as a new directory.

Without the archive: records are copied byte for byte, each shard checked by its CRCs and its SHA-256. An interrupted
run leaves no manifest.json: delete OUT and start again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import cli, division, manifest, table, tfds
from .errors import UsageError
from .manifest import Manifest, Split
from .writer import ShardWriter


@dataclass(frozen=True)
class Config:
    """Into how many shards."""

    directory: Path = cli.option("directory of shards", positional=True)
    out: Path = cli.option("new directory; needs as much space as the old one", positional=True)
    shards: Optional[int] = cli.option("number of shards a split", default=None, metavar="N")
    shard_size: Optional[float] = cli.option("instead: size of a shard in MB, about", None, metavar="MB")


def reshard(config: Config) -> Manifest:
    """Copies all records; the shards come first, the table next, the manifest last.

    Raises:
        UsageError: neither or both of number and size are given, or `out` is not empty.
        DataError: the source is damaged, or the disk is full.
    """
    if (config.shards is None) == (config.shard_size is None):
        raise UsageError("give either --shards or --shard-size")
    known = manifest.read(config.directory)
    counts = {name: _shard_count(split, config) for name, split in known.splits.items()}
    rows = table.read(config.directory)
    members = {name: table.rows_of(name, known, rows, config.directory) for name in known.splits}
    cli.new_folder(config.out)
    splits: dict[str, Split] = {}
    moved: list[table.Row] = []
    records = _read(config.directory, known)
    for name, split in known.splits.items():
        shards = []
        for part in division.ranges(name, split.records, counts[name]):
            with ShardWriter(config.out / part.file) as writer:
                moved += [
                    row._replace(shard=part.file, position=writer.write(next(records)))
                    for row in members[name][part.start : part.stop]
                ]
            shards.append(writer.shard)
        splits[name] = dataclasses.replace(split, shards=tuple(shards))
    next(records, None)  # which checks the last shard's hash
    table.write(config.out, moved)
    sources = known.sources_of_copy("resharded", of=str(config.directory))
    written = dataclasses.replace(known, splits=splits, sources=sources)
    tfds.write(config.out, written)
    written.write(config.out)
    return written


def _shard_count(split: Split, config: Config) -> int:
    size = sum(shard.bytes for shard in split.shards) / max(1, split.records)
    megabytes = 1.0 if config.shard_size is None else config.shard_size
    return division.shard_count(split.records, size, megabytes, config.shards)


def _read(directory: Path, known: Manifest) -> Iterator[bytes]:
    """Yields all records, split by split."""
    from tqdm import tqdm

    from .tfrecord import read_shard

    shards = [shard for split in known.splits.values() for shard in split.shards]
    total = sum(shard.records for shard in shards)
    records = itertools.chain.from_iterable(read_shard(directory, shard) for shard in shards)
    yield from tqdm(records, "copying", total, unit="record", leave=False, disable=None)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Copies the shards and says what there is now."""
    config = cli.parse(Config, "python -m tfrecords_tools.reshard", __doc__, argv)
    written = reshard(config)
    parts = ", ".join(
        f"{name} {split.records:,} records in {len(split.shards):,} shards"
        for name, split in written.splits.items()
    )
    print(f"{config.out}: {parts}")
    return 0


if __name__ == "__main__":
    cli.run(main)
