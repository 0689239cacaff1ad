"""A first look, for --dry-run, at archives that stream by: at their beginnings, and to their ends only for names.

Where lists or a table name the patches, the beginning is enough: it tells how quickly the rest can be read, and has the
patches that are converted as a sample.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from jeoparda_tf.bigearthnet import bands, lists, metadata, stream, tar
from jeoparda_tf.bigearthnet.archive import Archive
from jeoparda_tf.bigearthnet.packed import Index, PatchFiles
from jeoparda_tf.bigearthnet.stream import STANDARD_INPUT, Packed
from tfrecords_tools.errors import UsageError

from .config import ConvertConfig
from .gather import reading_bar, streams
from .shard import Source

_HEAD = 32 << 20  # bytes of files: more patches than the sample takes
_LABELS = "_labels_metadata.json"
_ENDINGS = {
    "s2": tuple(f"_{band}.tif" for band in bands.S2_BANDS),
    "s1": tuple(f"_{band}.tif" for band in bands.S1_BANDS),
    "maps": ("_reference_map.tif",),
}


class Reading(NamedTuple):
    """What reading archives that stream by would take.

    Attributes:
        seconds: about.
        bytes: that would lie in the journal until the manifest is written, about.
        unpacked: bytes of the tars that were read to tell so.
        listed: whether the names of the patches are those of lists or a table, not the archive's.
    """

    seconds: float
    bytes: float
    unpacked: int
    listed: bool


class Look:
    """What has been seen of one archive.

    Attributes:
        files: of the patches whose bytes were kept, by patch and name: where they lie in `volume`, and their sizes.
        names: of all patches seen.
    """

    def __init__(self, packed: Packed, volume: Path) -> None:
        self.files: dict[str, dict[str, tuple[int, int]]] = {}
        self.names: dict[str, None] = {}
        self._packed, self._volume = packed, volume
        self._members = tar.members(packed.stream, packed.path)
        self._kept = self._spilled = self._position = 0
        self._seconds, self._whole = 0.0, False

    def head(self) -> None:
        """Reads the beginning, and keeps it."""
        self._read(_HEAD, "")

    def rest(self) -> None:
        """Reads to the end, for all names; of the files, keeps those that name a Sentinel-1 patch's partner."""
        self._read(None, _LABELS)

    def _read(self, limit: Optional[int], ending: str) -> None:
        start = time.perf_counter()
        with self._volume.open("ab") as kept, reading_bar(self._packed, disable=limit is not None) as bar:
            for member in self._members:
                self.names[member.folder] = None
                if member.file.endswith(ending):
                    kept.write(member.data)
                    self.files.setdefault(member.folder, {})[member.file] = self._kept, member.size
                    self._kept += member.size
                self._spilled += member.size
                self._position = member.offset + member.size
                bar.update(self._packed.bytes_read - bar.n)
                if limit is not None and self._kept >= limit:
                    break
            else:
                self._whole = True
        self._seconds += time.perf_counter() - start

    def index(self, names: Optional[Collection[str]] = None) -> Index:
        """Returns the files that were kept, as those of all patches seen, or of others whose names are known."""
        index = Index(str(self._packed.path), [str(self._volume)])
        for name in self.names if names is None else names:
            for file, place in self.files.get(name, {"": (0, 0)}).items():
                index.add(name, file, *place)
        return index.seal()

    def lent(self, name: str, to: str) -> PatchFiles:
        """Returns the files of a patch as if they were those of another one."""
        index = Index(str(self._packed.path), [str(self._volume)])
        for file, place in self.files[name].items():
            index.add(to, file.replace(name, to), *place)
        return index.seal()[to]

    def complete(self, what: str, labels: bool) -> list[str]:
        """Returns the patches of which all files were kept."""
        endings = (*_ENDINGS[what], *((_LABELS,) if labels else ()))
        return [
            name
            for name, files in self.files.items()
            if all(f"{name}{ending}" in files for ending in endings)
        ]

    def reading(self, listed: bool) -> Reading:
        """Returns what reading it all would take, by what was seen of it."""
        packed, share = self._packed, 1.0
        if not self._whole and packed.size and packed.bytes_read:
            # The decompressor is ahead: its own counts tell how far the tar shrank.
            share = packed.size / packed.bytes_read * packed.bytes_unpacked / self._position
        return Reading(self._seconds * share, self._spilled * share, self._position, listed)


@contextmanager
def looked(config: ConvertConfig) -> Iterator[dict[str, Look]]:
    """Looks at the beginnings of the archives that stream by; what is kept of them is gone after the block.

    Raises:
        UsageError: one is standard input, or flags do not fit together.
        DataError: one is cut off, damaged or holds what it should not.
    """
    wanted = streams(config)
    if STANDARD_INPUT in wanted.values():
        remedy = "name the archive's file, or leave --dry-run out"
        raise UsageError("--dry-run would use standard input up: it can be read only once", remedy=remedy)
    with tempfile.TemporaryDirectory(prefix="jeoparda-dry-run-") as folder, ExitStack() as stack:
        looks = {}
        for what, path in wanted.items():
            looks[what] = Look(stack.enter_context(stream.opened(path)), Path(folder, what))
            looks[what].head()
        yield looks


def know_names(config: ConvertConfig, archive: Archive, looks: Mapping[str, Look]) -> tuple[Archive, bool]:
    """Returns the archive with the names of all its patches, and whether they are from lists or a table.

    Those say more than the archive may hold; what else it holds they do not say. Without them it is read to its end.

    Args:
        config: of the conversion.
        archive: opened with what was seen of its beginning.
        looks: at what of it streams by.

    Raises:
        DataError: an archive, a list or a table cannot be read.
    """
    names = _listed(config, archive) if "s2" in looks else None
    if "s2" in looks and names is None:
        looks["s2"].rest()
    if "s1" in looks and archive.layout == "v1" and not _pairs_listed(config):
        looks["s1"].rest()
    indices: dict[str, Any] = {
        f"{what}_tar": look.index(names if what == "s2" else None) for what, look in looks.items()
    }
    return replace(archive, **indices), names is not None


def _listed(config: ConvertConfig, archive: Archive) -> Optional[set[str]]:
    if archive.layout == "v2":
        table = metadata.read(archive, config.include_snow_and_cloud)
        return {*table.names, *metadata.snow_and_cloud(archive)}
    if not config.splits:
        return None
    every = (*lists.split_files(config.splits).values(), *config.exclude)
    return {row.s2 for path in every for row in lists.read(path)}


def _pairs_listed(config: ConvertConfig) -> bool:
    if not config.splits:
        return False
    return any(row.s1 for path in lists.split_files(config.splits).values() for row in lists.read(path))


def lend(sources: tuple[Source, ...], archive: Archive, looks: Mapping[str, Look]) -> tuple[Source, ...]:
    """Returns a sample with other patches' Sentinel-1 and maps where its own were not seen: they take as long.

    A patch is left out if there is none to lend.
    """
    s1 = looks["s1"].complete("s1", labels=False) if "s1" in looks else []
    maps = looks["maps"].complete("maps", labels=False) if "maps" in looks else []
    lent = []
    for number, source in enumerate(sources):
        if "s1" in looks:
            if not s1:
                continue
            partner = source.s1 if source.s1 in s1 else s1[number % len(s1)]
            source = source._replace(s1=partner, s1_files=archive.s1_files(partner))
        if "maps" in looks:
            if not maps:
                continue
            other = source.name if source.name in maps else maps[number % len(maps)]
            source = source._replace(map_files=looks["maps"].lent(other, source.name))
        lent.append(source)
    return tuple(lent)
