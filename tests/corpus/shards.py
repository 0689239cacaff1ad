"""Broken shards, tables of records and manifests, and what each tool says of them.

In commands and messages, ROOT is the folder with the spoilt copy, OUT a new folder, and … some words of a library's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.spoil import (
    Broken,
    Spoil,
    at_root,
    change,
    cut,
    error,
    faults,
    flip,
    folder,
    lose,
    manifest,
    nothing,
    put,
)

FIRST, SECOND = "train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"
COPY = "copy it again from where the shards come from, or convert the archive again"
SHARD = "copy the shard or convert the archive again; `python -m tfrecords_tools.verify` checks all shards"
LAST = "a conversion writes it last: let it finish, or name the folder that it wrote to"


def swap(root: Path) -> None:
    """Lets two shards change names."""
    (root / FIRST).rename(root / "kept")
    (root / SECOND).rename(root / FIRST)
    (root / "kept").rename(root / SECOND)


VERIFY = "verify ROOT --workers 1"
READERS = ("show ROOT --record 0", "stats ROOT --workers 1")
COPIERS = ("split ROOT OUT --fraction 1", "reshard ROOT OUT --shards 3")


def everywhere(name: str, spoil: Spoil, message: str, commands: Sequence[str]) -> Iterator[Broken]:
    """Yields one fault that several commands meet and name alike."""
    for command in commands:
        yield Broken(f"{command.split()[0]}: {name}", spoil, command, message)


_ALL_BUT_VERIFY = (*READERS, *COPIERS)
_FLIPPED, _CUT = f"{FIRST}: record 0: its data is damaged (CRC)", f"{FIRST}: record 0: is cut off"
_HALF = change(FIRST, lambda content: content[:30])
_OTHER = "its SHA-256 is not the manifest's, though"
_GONE = "records.parquet: the table of records is missing"
_NAMES = [f"S2A_MSIL2A_20170613T101031_0_{index}" for index in range(6)]


def _swapped(file: str, found: int, meant: int) -> tuple[str, str]:
    names = f"record 0 is {_NAMES[found]} …, records.parquet has {_NAMES[meant]} …"
    return (
        f"{file}: {_OTHER} each record is whole: another shard under this name?",
        f"{file}: {names} (split train, position 0) (so are 2 more records)",
    )


_NO_MANIFEST = error("manifest.json: cannot be read: no JSON: …", COPY)
SHARDS = (
    *everywhere("bit flipped", flip(FIRST, 60), faults(_FLIPPED), [VERIFY]),
    *everywhere("bit flipped", flip(FIRST, 60), error(_FLIPPED, SHARD), _ALL_BUT_VERIFY),
    *everywhere("shard cut", _HALF, faults(_CUT, f"{FIRST}: has 1 records, the manifest says 3"), [VERIFY]),
    *everywhere("shard cut", _HALF, error(_CUT, SHARD), _ALL_BUT_VERIFY),
    *everywhere("shard missing", lose(FIRST), faults(f"{FIRST}: is missing"), [VERIFY]),
    *everywhere(
        "shard missing",
        lose(FIRST),
        error(f"{FIRST}: cannot be read: No such file or directory", SHARD),
        _ALL_BUT_VERIFY,
    ),
    Broken("verify: shards swapped", swap, VERIFY, faults(*_swapped(FIRST, 3, 0), *_swapped(SECOND, 0, 3))),
    Broken(
        "split: shards swapped",
        swap,
        COPIERS[0],
        error(f"{FIRST}: record 0 is {_NAMES[3]}, records.parquet has {_NAMES[0]}", SHARD),
    ),
    Broken(
        "reshard: shards swapped",
        swap,
        COPIERS[1],
        error(f"{FIRST}: {_OTHER} its 3 records are whole", SHARD),
    ),
    Broken(
        "verify: foreign shard",
        put("train-00002-of-00002.tfrecord", b""),
        VERIFY,
        faults("train-00002-of-00002.tfrecord: not in the manifest"),
    ),
    Broken("verify: table missing", lose("records.parquet"), VERIFY, faults(_GONE)),
    *everywhere("table missing", lose("records.parquet"), error(_GONE, COPY), COPIERS),
    *everywhere(
        "table truncated", cut("records.parquet"), error("records.parquet: cannot be read: …", COPY), COPIERS
    ),
    *everywhere("manifest cut", cut("manifest.json"), _NO_MANIFEST, [VERIFY, *_ALL_BUT_VERIFY]),
    Broken("verify: manifest not UTF-8", put("manifest.json", b"\xff\xfe"), VERIFY, _NO_MANIFEST),
    Broken("show: manifest of endless depth", put("manifest.json", "[" * 100_000), READERS[0], _NO_MANIFEST),
    Broken(
        "show: manifest missing",
        lose("manifest.json"),
        READERS[0],
        at_root("no manifest.json here", LAST),
    ),
    Broken(
        "show: manifest of another program",
        put("manifest.json", '{"labels": []}'),
        READERS[0],
        error("manifest.json: not a manifest of sharded-tfrecords", COPY),
    ),
    Broken(
        "verify: manifest of a later version",
        manifest(format_version=99),
        VERIFY,
        error(
            "manifest.json: format version 99, but this program reads version 1",
            "convert the archive again, or use the release that wrote it",
        ),
    ),
    Broken(
        "stats: manifest lacks an entry",
        manifest(nomenclature=None),
        READERS[1],
        error("manifest.json: incomplete: it lacks 'nomenclature'", COPY),
    ),
    Broken(
        "show: manifest malformed",
        manifest(splits=[1, 2]),
        READERS[0],
        error("manifest.json: malformed: …", COPY),
    ),
    Broken(
        "verify: manifest is a folder",
        folder("manifest.json"),
        VERIFY,
        error("manifest.json: cannot be read: Is a directory", COPY),
    ),
    Broken("show: no such directory", nothing, "show ROOT/x", error("x: no such directory", LAST)),
)
