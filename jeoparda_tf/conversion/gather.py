"""Archives that stream by: one pass takes each file into one of some spill files, from which shards are converted.

The spill of a patch follows from the hash that orders the records, so that a shard, which is a range of that order,
finds its patches in a few of them. What a pass has taken is kept in the journal until the manifest is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional
from zipfile import BadZipFile

from jeoparda_tf.bigearthnet import stream, tar
from jeoparda_tf.bigearthnet.archive import find_maps
from jeoparda_tf.bigearthnet.packed import Index
from jeoparda_tf.bigearthnet.stream import STANDARD_INPUT, Packed
from tfrecords_tools.errors import UsageError
from tfrecords_tools.writer import TEMPORARY

from .config import ConvertConfig
from .output import Output, cannot_write
from .plan import order_hash

if TYPE_CHECKING:
    from tqdm import tqdm

SPILLS = 64
_UNITS = {"GB": 10**9, "MB": 10**6}
# What the memory allowed is for beside files that wait to be spilled, as measured: the program with what it reads
# ahead, and the index, of which sealing makes a second one for a moment.
_PROGRAM, _FILE, _PATCH = 80 << 20, 60, 180
_LEAST = 1 << 20
# They say how it is done, or are in the request by themselves.
_BESIDE_THE_REQUEST = (
    "out",
    "force",
    "workers",
    "executor",
    "task",
    "finish",
    "memory",
    "reader",
    "on_error",
)


def streams(config: ConvertConfig) -> dict[str, Path]:
    """Returns the archives that have to be read from front to back, by what they are of.

    Raises:
        UsageError: there are some, and other flags do not go with that.
    """
    found = {what: path for what, path in _sources(config).items() if stream.kind(path) == "stream"}
    if list(found.values()).count(STANDARD_INPUT) > 1:
        raise UsageError("standard input is one archive, but two are named -")
    if found and (config.task or config.finish):
        remedy = "unpack it to a plain .tar, which all tasks read in place; or convert without --task"
        raise UsageError(
            "a compressed archive has one reader, not tasks", path=next(iter(found.values())), remedy=remedy
        )
    return found


def request(config: ConvertConfig) -> str:
    """Returns a hash of what is asked for: tells that a conversion is done without reading the archive again."""
    values = {key: value for key, value in asdict(config).items() if key not in _BESIDE_THE_REQUEST}
    sizes = [path.stat().st_size for path in _sources(config).values() if path.is_file()]
    return hashlib.sha256(json.dumps([values, sizes], sort_keys=True, default=str).encode()).hexdigest()


def maps_of(config: ConvertConfig) -> Optional[Path]:
    """Returns the folder or archive of the reference maps, if they are wanted and there are any."""
    if config.maps or not config.reference_maps:
        return config.maps
    return find_maps(config.archive)


def gather(config: ConvertConfig, output: Output) -> dict[str, Index]:
    """Takes what archives that stream by hold into the journal; what an earlier call has taken whole stays.

    Returns:
        where everything lies, by what it is of ("s2", "s1", "maps"); only of archives that stream by.

    Raises:
        UsageError: OUT cannot be written or holds something else, or flags do not fit together.
        DataError: an archive is cut off, damaged or holds what it should not, or the disk is full.
    """
    wanted = streams(config)
    memory = parse_memory(config.memory)
    if not wanted:
        return {}
    found: dict[str, Index] = {}
    with output.gathering(config.force) as journal:
        for what, path in wanted.items():
            index = _taken(journal, what, path)
            if index is None:
                # Those of the archives before stay in memory: columns and names, about twice what is on the disk.
                known = sum(2 * _size(str(journal / f"{other}.npz")) for other in found)
                with _nothing_half_taken(journal, what, path):
                    index = _take(journal, what, path, config.seed, memory - known)
            found[what] = index
    return found


def reading_bar(packed: Packed, disable: bool = False) -> tqdm:
    """Returns a progress bar of an archive's bytes."""
    from tqdm import tqdm

    name = _told(packed.path)
    return tqdm(
        total=packed.size,
        initial=packed.bytes_read,
        unit="B",
        unit_scale=True,
        desc=f"reading {name}",
        disable=disable or None,  # None: unless stderr is a terminal
    )


def parse_memory(text: str) -> int:
    """Returns bytes for a text like 2GB or 500MB; without a unit it is GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|MB)?", text.strip(), re.IGNORECASE)
    size = float(match[1]) * _UNITS[(match[2] or "GB").upper()] if match else 0
    if size <= 0:
        raise UsageError(f"--memory {text}: not a size", remedy="such as 2GB or 500MB")
    return int(size)


def _sources(config: ConvertConfig) -> dict[str, Path]:
    every = {"s2": config.archive, "s1": config.s1, "maps": maps_of(config)}
    return {what: path for what, path in every.items() if path is not None}


def _taken(journal: Path, what: str, path: Path) -> Optional[Index]:
    """Returns the index that an earlier pass over the same archive has written at its end."""
    try:
        identity = json.loads((journal / f"{what}.archive").read_text())
        index = Index.load(journal / f"{what}.npz")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    found = {volume: _size(volume) for volume in index.volumes}
    return index if identity == {"archive": _identity(path), "spills": found} else None


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _identity(path: Path) -> list[Any]:
    if not path.is_file():
        return [str(path)]
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]


@contextmanager
def _nothing_half_taken(journal: Path, what: str, path: Path) -> Iterator[None]:
    """Removes what was spilled if the pass does not get to its end: the next one begins anew."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            _forget(journal, what)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(
                f"the same command reads {_told(path)} again, from its beginning"
            ) from None
        raise


def _forget(journal: Path, what: str) -> None:
    for old in (journal / f"{what}.archive", *journal.glob(f"{what}-*.spill")):
        old.unlink(missing_ok=True)


def _told(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else path.name


def _take(journal: Path, what: str, path: Path, seed: int, memory: int) -> Index:
    """One pass over an archive."""
    _forget(journal, what)
    spills = _Spills(journal.absolute(), what)
    index = Index(str(path), spills.paths)
    folder, spill, files = "", 0, 0
    with stream.opened(path) as packed, reading_bar(packed) as bar:
        for member in tar.members(packed.stream, path):
            if member.folder != folder:  # the highest bits: a range of the order
                folder, spill = member.folder, order_hash(member.folder, seed) * SPILLS >> 64
                spills.room = memory - _PROGRAM - _FILE * files - _PATCH * len(index)
            index.add(folder, member.file, spills.add(spill, member.data), member.size, spill)
            files += 1
            bar.update(packed.bytes_read - bar.n)
    spills.finish()  # first: sealing wants the memory
    index.seal()
    _write_whole(journal / f"{what}.npz", index.write)
    identity = {"archive": _identity(path), "spills": dict(zip(spills.paths, spills.sizes))}
    _write_whole(journal / f"{what}.archive", lambda target: target.write_text(json.dumps(identity)))
    return index


class _Spills:
    """Files that grow at their ends through buffers in memory; at most one is open at a time.

    Attributes:
        room: bytes that may wait in memory, though never less than a little.
    """

    def __init__(self, journal: Path, what: str) -> None:
        self.paths = [str(journal / f"{what}-{number:03d}.spill") for number in range(SPILLS)]
        self.sizes = [0] * SPILLS  # with what waits
        self._waiting: list[list[bytes]] = [[] for _ in range(SPILLS)]
        self.room = self._taken = 0

    def add(self, spill: int, data: bytes) -> int:
        """Adds a file; returns where it begins."""
        if self._taken + len(data) > max(self.room, _LEAST):
            self.flush()
        offset = self.sizes[spill]
        self._waiting[spill].append(data)
        self.sizes[spill] += len(data)
        self._taken += len(data)
        return offset

    def flush(self) -> None:
        """Writes what waits."""
        for path, waiting in zip(self.paths, self._waiting):
            if waiting:
                _append(path, waiting)
                waiting.clear()
        self._taken = 0

    def finish(self) -> None:
        """Writes what waits, and makes sure that it is on the disk."""
        self.flush()
        for path in self.paths:
            _append(path, [], sync=True)


def _append(path: str, data: list[bytes], sync: bool = False) -> None:
    try:
        with open(path, "ab") as file:  # noqa: PTH123
            file.writelines(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(Path(path), error) from error


def _write_whole(path: Path, write: Any) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
