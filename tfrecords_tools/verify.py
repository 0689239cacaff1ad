"""Re-reads a directory of shards and names every fault: hashes, CRCs, contents, counts, missing and foreign files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from . import cli, manifest, table, tfds
from .errors import DataError
from .manifest import TABLE_NAME, Feature, Manifest, Shard

if TYPE_CHECKING:
    import pyarrow

    from .tfrecord import Framed


@dataclass(frozen=True)
class Config:
    """What to verify."""

    directory: Path = cli.option("directory of shards", positional=True)
    workers: int = cli.option("processes, each reading one shard at a time", default=os.cpu_count() or 1)


class Contents(NamedTuple):
    """What one shard holds.

    Attributes:
        faults: what is wrong with it, a sentence each; all but those of the whole shard begin with the record.
        names: of the records in order; None where one could not be decoded.
        labels: int64 [records, classes]; zeros where one could not be decoded.
    """

    faults: list[str]
    names: list[Optional[str]]
    labels: np.ndarray


def verify(directory: Path, known: Manifest, workers: int = 1) -> list[str]:
    """Reads every file of a directory once and compares it with the manifest and the table of records.

    Args:
        directory: of shards.
        known: its manifest.
        workers: processes, each reading one shard at a time.

    Returns:
        the faults, a sentence each, beginning with the file; none if the directory is whole.
    """
    faults = _foreign_files(directory, known) + tfds.check(directory, known)
    rows: Optional[pyarrow.Table] = None
    try:
        rows = table.read(directory)
        faults += _table_faults(rows, known)
    except DataError as error:
        faults.append(f"{TABLE_NAME}: {error.problem}")
    for split, entry in known.splits.items():
        whole, counts = True, np.zeros(len(known.nomenclature.classes), np.int64)
        for shard, contents in zip(entry.shards, _read_all(directory, known, entry.shards, workers)):
            found = contents.faults + (
                [] if rows is None else _differences(split, shard, contents, rows, known)
            )
            faults += [f"{shard.file}: {fault}" for fault in found]
            whole = whole and not found
            counts += contents.labels.sum(axis=0)
        if whole:  # else the counts differ because of the faults named already
            faults += _count_faults(split, counts, known)
    return faults


def _foreign_files(directory: Path, known: Manifest) -> list[str]:
    ours = {shard.file for split in known.splits.values() for shard in split.shards}
    return [
        f"{p.name}: not in the manifest" for p in sorted(directory.glob("*.tfrecord")) if p.name not in ours
    ]


def _table_faults(rows: pyarrow.Table, known: Manifest) -> list[str]:
    """Returns what is wrong with the table in itself: unknown shards, names that come twice."""
    ours = {shard.file for split in known.splits.values() for shard in split.shards}
    faults = [
        f"names a foreign shard {name}" for name in rows["shard"].unique().to_pylist() if name not in ours
    ]
    counts = rows["name"].value_counts().to_pylist()
    faults += [f"has {c['values']} {c['counts']} times" for c in counts if c["counts"] > 1]
    return [f"{TABLE_NAME}: {fault}" for fault in faults]


def _read_all(directory: Path, known: Manifest, shards: Sequence[Shard], workers: int) -> Iterator[Contents]:
    """Yields the contents of shards in their order, read by `workers` processes."""
    from tqdm import tqdm

    read = partial(read_shard, directory, features=known.features, classes=len(known.nomenclature.classes))
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(ProcessPoolExecutor(workers)).map if workers > 1 else map
        yield from tqdm(
            engine(read, shards), "verifying", len(shards), unit="shard", leave=False, disable=None
        )


def read_shard(directory: Path, shard: Shard, features: Sequence[Feature], classes: int) -> Contents:
    """Reads a shard once and takes hash, CRCs and contents from the same buffers.

    Args:
        directory: that should hold it.
        shard: what the manifest says of it.
        features: of every record.
        classes: length of the labels.
    """
    from . import tfrecord

    digest = hashlib.sha256()
    contents = Contents([], [], np.zeros((shard.records, classes), np.int64))
    try:
        with (directory / shard.file).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for index, framed in enumerate(tfrecord.scan(file)):
                for part in (framed.header, framed.data, framed.footer):
                    digest.update(part)
                _examine(framed, index, features, contents)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        contents.faults.append("is missing" if missing else f"cannot be read: {error.strerror or error}")
        return contents
    contents.faults.extend(_shard_faults(shard, contents, size, digest.hexdigest()))
    return contents


def _examine(framed: Framed, index: int, features: Sequence[Feature], contents: Contents) -> None:
    """Decodes one record and enters it, or its fault, into the shard's contents."""
    from .tfrecord import decode_example

    fault, name = framed.fault, None
    if not fault:
        try:
            record = decode_example(framed.data, features)
            name, labels = record["name"], record["labels"]
            if labels.shape != contents.labels.shape[1:] or not ((labels == 0) | (labels == 1)).all():
                fault = f"labels are not {contents.labels.shape[1]} zeros and ones"
            elif index < len(contents.labels):
                contents.labels[index] = labels
        except DataError as error:
            fault = f"cannot be decoded: {error.problem}"
    contents.names.append(None if fault else name)
    contents.faults.extend([f"record {index}: {fault}"] if fault else [])


def _shard_faults(shard: Shard, contents: Contents, size: int, sha256: str) -> list[str]:
    """Returns what is wrong with the shard as a whole and does not follow from the faults of its records."""
    if len(contents.names) != shard.records:
        return [f"has {len(contents.names)} records, the manifest says {shard.records}"]
    if contents.faults or (size, sha256) == (shard.bytes, shard.sha256):
        return []
    if size != shard.bytes:
        return [f"has {size} bytes, the manifest says {shard.bytes}"]
    return ["its SHA-256 is not the manifest's, though each record is whole: another shard under this name?"]


def _differences(
    split: str, shard: Shard, contents: Contents, rows: pyarrow.Table, known: Manifest
) -> list[str]:
    """Compares a shard's records with their rows in the table; the first difference stands for all."""
    from pyarrow import compute

    expected = rows.filter(compute.equal(rows["shard"], shard.file)).to_pylist()
    if len(expected) != shard.records:
        return [f"{TABLE_NAME} has {len(expected)} rows of it, the manifest says {shard.records}"]
    differing = []
    for index, (row, name, labels) in enumerate(zip(expected, contents.names, contents.labels)):
        present = [known.nomenclature.classes[i] for i in np.flatnonzero(labels)]
        found = table.Row(split, shard.file, index, name or "", present)
        if name is not None and table.Row(**row) != found:
            differing.append(f"record {index} is {name} {present}, {TABLE_NAME} has {_row(row)}")
    more = f" (so are {len(differing) - 1} more records)" if len(differing) > 1 else ""
    return [differing[0] + more] if differing else []


def _row(row: Mapping[str, Any]) -> str:
    return f"{row['name']} {row['labels']} (split {row['split']}, position {row['position']})"


def _count_faults(split: str, counts: np.ndarray, known: Manifest) -> list[str]:
    entries = zip(known.nomenclature.classes, counts.tolist(), known.splits[split].label_counts)
    return [
        f"{manifest.FILE_NAME}: {split} counts {said} {name!r}, its records have {found}"
        for name, found, said in entries
        if found != said
    ]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Verifies a directory; returns 1 if there is any fault."""
    config = cli.parse(Config, "python -m tfrecords_tools.verify", __doc__, argv)
    known = manifest.read(config.directory)
    start = time.perf_counter()
    faults = verify(config.directory, known, config.workers)
    seconds = time.perf_counter() - start
    for fault in faults:
        print(fault)
    shards = [shard for split in known.splits.values() for shard in split.shards]
    size = sum(shard.bytes for shard in shards)
    what = f"{len(known.splits)} splits, {len(shards)} shards, {sum(s.records for s in shards):,} records"
    if faults:
        print(f"{config.directory} is damaged: {len(faults)} faults ({what})")
        return 1
    print(
        f"{config.directory} is whole: {what}, {size / 1e6:,.0f} MB read at {size / 1e6 / seconds:,.0f} MB/s"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
