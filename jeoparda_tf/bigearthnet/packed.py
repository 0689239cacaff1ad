"""Patches whose files lie within larger files: where each one's bytes are, in little memory."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from tfrecords_tools.errors import DataError

# Headers between the files of a patch, and a few files of others: cheaper read than gone around.
_GAPS = 1 << 16


class Place(NamedTuple):
    """The bytes of one file within a larger one."""

    offset: int
    size: int


@dataclass(frozen=True)
class PatchFiles:
    """The files of one patch in an archive; small, so that it goes to a worker with the job.

    Attributes:
        archive: path of the archive, as errors name it.
        name: of the patch.
        suffixes: names of the files less the patch's; "/" and a whole name for one that does not begin with it.
        offsets: where each begins.
        sizes: how many bytes each has.
        volume: path of the file that holds the bytes.
        contents: the bytes by file name, once they are loaded.
    """

    archive: str
    name: str
    suffixes: tuple[str, ...] = ()
    offsets: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    volume: str = ""
    contents: Optional[dict[str, memoryview]] = None

    @property
    def places(self) -> dict[str, Place]:
        """Where each file lies, by its name; of one that is there twice, the last."""
        return dict(zip(self._files(), map(Place, self.offsets, self.sizes)))

    def opened(self, file: str) -> Union[str, memoryview]:
        """Returns what gdal and rasterio open: a path of theirs or, once loaded, the bytes.

        A file that is missing gives a path that cannot be opened.
        """
        if self.contents is not None:
            found = self.contents.get(file)
            return self.told(file) if found is None else found
        place = self.places.get(file)
        return self.told(file) if place is None else f"/vsisubfile/{place.offset}_{place.size},{self.volume}"

    def told(self, file: str) -> str:
        """Returns how errors name a file."""
        return f"{self.archive}/{self.name}/{file}"

    def loaded(self) -> PatchFiles:
        """Returns it with the bytes of all files: at one go where they lie together, as they nearly always do.

        Raises:
            DataError: the archive cannot be read.
        """
        if self.contents is not None:
            return self
        found: list[memoryview] = []
        if self.offsets:
            start = min(self.offsets)
            end = max(offset + size for offset, size in zip(self.offsets, self.sizes))
            if end - start <= 2 * sum(self.sizes) + _GAPS:
                whole = memoryview(self._read([(start, end - start)])[0])
                found = [
                    whole[offset - start : offset - start + size]
                    for offset, size in zip(self.offsets, self.sizes)
                ]
            else:
                found = [memoryview(data) for data in self._read(zip(self.offsets, self.sizes))]
        return replace(self, contents=dict(zip(self._files(), found)))

    def read(self, file: str) -> Union[bytes, memoryview]:
        """Returns the bytes of a file, which is read unless it is loaded.

        Raises:
            DataError: it is missing or the archive cannot be read.
        """
        found = self.contents if self.contents is not None else self.places
        if file not in found:
            raise DataError("missing", path=self.told(file))
        return self.contents[file] if self.contents is not None else self._read([self.places[file]])[0]

    def _files(self) -> list[str]:
        return [suffix[1:] if suffix[:1] == "/" else self.name + suffix for suffix in self.suffixes]

    def _read(self, places: Iterable[tuple[int, int]]) -> list[bytes]:
        try:
            # No file object: it would take longer than the reading.
            volume = os.open(self.volume, os.O_RDONLY)
            try:
                return [os.pread(volume, size, offset) for offset, size in places]
            finally:
                os.close(volume)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", path=self.volume) from error


class Index(Mapping[str, PatchFiles]):
    """The files of an archive by patch: columns of numbers, since millions of objects would fill the memory.

    Args:
        archive: path of the archive, as errors name it.
        volumes: paths of the files that hold the bytes; those of one patch lie in one.
    """

    def __init__(self, archive: str, volumes: Sequence[str]) -> None:
        self.archive, self.volumes = archive, list(volumes)
        self._patches: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._volume = array("H")  # by patch; what follows, by file
        self._last = 0
        self._numbers = array("I")
        self._columns: tuple[Any, ...] = array("I"), array("Q"), array("Q")  # arrays of numpy once sealed
        self._starts = np.zeros(1, np.int64)
        # Most patches have the same files, so most share one tuple, which a job then takes along once.
        self._tuples: dict[tuple[int, ...], tuple[str, ...]] = {}

    def add(self, patch: str, file: str, offset: int, size: int, volume: int = 0) -> int:
        """Adds a file; one that is there already counts as it was added last, as if extracted.

        Returns:
            the number of what follows the patch's name in the file's.
        """
        number = self._patches.get(patch)
        if number is None:
            number = self._patches[patch] = len(self._patches)
            self._volume.append(volume)
        # Files are named for their patch: what follows is one of a few. No name of a file has a slash.
        suffix = file[len(patch) :] if file.startswith(patch) else f"/{file}"
        self._last = number
        suffix_number = self._suffixes.setdefault(suffix, len(self._suffixes))
        self.add_another(suffix_number, offset, size)
        return suffix_number

    def add_another(self, suffix: int, offset: int, size: int) -> None:
        """Adds another file of the patch added to last, by the number of what follows the patch's name in its own."""
        suffixes, offsets, sizes = self._columns
        self._numbers.append(self._last)
        suffixes.append(suffix)
        offsets.append(offset)
        sizes.append(size)

    def seal(self) -> Index:
        """Sorts it by patch, after the last file was added and before the first is asked for."""
        numbers = np.frombuffer(self._numbers, "I")
        columns = [np.frombuffer(column, column.typecode) for column in self._columns]
        if (numbers[1:] < numbers[:-1]).any():  # else files of a patch lie together: nothing to copy
            order = np.argsort(numbers, kind="stable")
            columns = [column[order] for column in columns]
        counts = np.bincount(numbers, minlength=len(self._patches))
        return self._set(columns, counts)

    def _set(self, columns: Sequence[np.ndarray], counts: np.ndarray) -> Index:
        self._columns = tuple(columns)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._numbers = array("I")
        self._files = list(self._suffixes)
        return self

    def __getitem__(self, name: str) -> PatchFiles:
        number = self._patches[name]
        own = slice(self._starts[number], self._starts[number + 1])
        numbers, offsets, sizes = (tuple(column[own].tolist()) for column in self._columns)
        suffixes = self._tuples.get(numbers)
        if suffixes is None:
            suffixes = self._tuples[numbers] = tuple(self._files[index] for index in numbers)
        return PatchFiles(self.archive, name, suffixes, offsets, sizes, self.volumes[self._volume[number]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._patches)

    def __len__(self) -> int:
        return len(self._patches)

    def __contains__(self, name: object) -> bool:
        return name in self._patches

    def write(self, path: Path) -> None:
        """Writes it, sealed, as one .npz; OSError if that fails."""
        names = {"patches": list(self._patches), "suffixes": self._files}
        names.update(archive=[self.archive], volumes=self.volumes)
        text = np.frombuffer(json.dumps(names).encode(), np.uint8)
        columns = {str(number): column for number, column in enumerate(self._columns)}
        volume, counts = np.frombuffer(self._volume, "H"), np.diff(self._starts)
        with path.open("wb") as file:
            np.savez(file, names=text, volume=volume, counts=counts, **columns)

    @classmethod
    def load(cls, path: Path) -> Index:
        """Reads what `write` wrote, sealed.

        Raises:
            OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile: it is something else.
        """
        with np.load(path) as stored:
            names = json.loads(stored["names"].tobytes())
            index = cls(names["archive"][0], names["volumes"])
            index._patches = {name: number for number, name in enumerate(names["patches"])}
            index._suffixes = {name: number for number, name in enumerate(names["suffixes"])}
            index._volume.frombytes(stored["volume"].tobytes())
            return index._set([stored[str(number)] for number in range(3)], stored["counts"])
