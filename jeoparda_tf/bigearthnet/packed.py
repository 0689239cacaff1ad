"""Patches whose files lie within larger files: where each one's bytes are, in little memory."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfrecords_tools.errors import DataError


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
        places: by file name.
        volume: path of the file that holds the bytes.
    """

    archive: str
    name: str
    places: dict[str, Place] = field(default_factory=dict)
    volume: str = ""

    def path(self, file: str) -> str:
        """Returns what gdal and rasterio open in place of a path; a file that is missing gives one that fails."""
        place = self.places.get(file)
        if place is None:
            return self.told(file)
        return f"/vsisubfile/{place.offset}_{place.size},{self.volume}"

    def told(self, file: str) -> str:
        """Returns how errors name a file."""
        return f"{self.archive}/{self.name}/{file}"

    def read(self, file: str) -> bytes:
        """Reads a whole file.

        Raises:
            DataError: it is missing or the archive cannot be read.
        """
        place = self.places.get(file)
        if place is None:
            raise DataError("missing", path=self.told(file))
        try:
            # No file object: it would take as long as the reading, a dozen times a patch.
            volume = os.open(self.volume, os.O_RDONLY)
            try:
                return os.pread(volume, place.size, place.offset)
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
        self._columns = array("I"), array("I"), array("Q"), array("Q")
        self._sorted: list[np.ndarray] = []
        self._starts = np.zeros(1, np.int64)
        self._files: list[str] = []

    def add(self, patch: str, file: str, offset: int, size: int, volume: int = 0) -> None:
        """Adds a file; one that is there already counts as it was added last, as if extracted."""
        number = self._patches.get(patch)
        if number is None:
            number = self._patches[patch] = len(self._patches)
            self._volume.append(volume)
        # Files are named for their patch: what follows is one of a few. No name of a file has a slash.
        suffix = file[len(patch) :] if file.startswith(patch) else f"/{file}"
        patches, suffixes, offsets, sizes = self._columns
        patches.append(number)
        suffixes.append(self._suffixes.setdefault(suffix, len(self._suffixes)))
        offsets.append(offset)
        sizes.append(size)

    def seal(self) -> Index:
        """Sorts it by patch, after the last file was added and before the first is asked for."""
        patches, *rest = (np.frombuffer(column, column.typecode) for column in self._columns)
        order = np.argsort(patches, kind="stable")
        self._starts = np.searchsorted(patches[order], np.arange(len(self._patches) + 1))
        self._sorted = [column[order] for column in rest]
        self._files = list(self._suffixes)
        return self

    def __getitem__(self, name: str) -> PatchFiles:
        number = self._patches[name]
        own = slice(self._starts[number], self._starts[number + 1])
        places = {}
        for suffix, offset, size in zip(*(column[own].tolist() for column in self._sorted)):
            suffix = self._files[suffix]
            places[suffix[1:] if suffix[:1] == "/" else name + suffix] = Place(offset, size)
        return PatchFiles(self.archive, name, places, self.volumes[self._volume[number]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._patches)

    def __len__(self) -> int:
        return len(self._patches)

    def __contains__(self, name: object) -> bool:
        return name in self._patches

    def write(self, path: Path) -> None:
        """Writes it as one .npz; OSError if that fails."""
        names = {"patches": list(self._patches), "suffixes": list(self._suffixes)}
        names.update(archive=[self.archive], volumes=self.volumes)
        columns = {
            str(number): np.frombuffer(column, column.typecode) for number, column in enumerate(self._columns)
        }
        text = np.frombuffer(json.dumps(names).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez(file, names=text, volume=np.frombuffer(self._volume, "H"), **columns)

    @classmethod
    def load(cls, path: Path) -> Index:
        """Reads what `write` wrote, sealed; OSError, ValueError or KeyError if it is something else."""
        with np.load(path) as stored:
            names = json.loads(stored["names"].tobytes())
            index = cls(names["archive"][0], names["volumes"])
            index._patches = {name: number for number, name in enumerate(names["patches"])}
            index._suffixes = {name: number for number, name in enumerate(names["suffixes"])}
            index._volume.frombytes(stored["volume"].tobytes())
            for number, column in enumerate(index._columns):
                column.frombytes(stored[str(number)].tobytes())
        return index.seal()
