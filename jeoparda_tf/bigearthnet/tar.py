"""Plain .tar archives read in place: an index says where each file's bytes lie, gdal and rasterio open them there."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tfrecords_tools.errors import DataError

_BACK = "pack it again from the published files, which holds none"
_AGAIN = "copy or download the archive again"


class Place(NamedTuple):
    """The bytes of one file within an archive."""

    offset: int
    size: int


@dataclass(frozen=True)
class PatchFiles:
    """The files of one patch in an archive; small, so that it goes to a worker with the job.

    Attributes:
        archive: path of the .tar.
        name: of the patch.
        places: by file name.
    """

    archive: str
    name: str
    places: dict[str, Place] = field(default_factory=dict)

    def path(self, file: str) -> str:
        """Returns what gdal and rasterio open in place of a path; a file that is missing gives one that fails."""
        place = self.places.get(file)
        if place is None:
            return self.told(file)
        return f"/vsisubfile/{place.offset}_{place.size},{self.archive}"

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
            with open(self.archive, "rb") as archive:  # noqa: PTH123 - called once a patch
                archive.seek(place.offset)
                return archive.read(place.size)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", path=self.archive) from error


def index(path: Path) -> dict[str, PatchFiles]:
    """Lists an archive's patches by one pass over its headers: folders with a name like S2... or S1...

    A file that is there twice counts as it stands last, as if extracted.

    Raises:
        DataError: it is no tar, is cut off, or has a member that is a link, a device, or lies outside of it.
    """
    patches: dict[str, PatchFiles] = {}
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _check(member, path)
                parts = PurePosixPath(member.name).parts
                if member.isfile() and len(parts) > 1:
                    own = patches.setdefault(parts[-2], PatchFiles(str(path), parts[-2]))
                    own.places[parts[-1]] = Place(member.offset_data, member.size)
                    if member.offset_data + member.size > end:
                        raise DataError(f"cut off within {member.name}", path=path, remedy=_AGAIN)
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps them all: too many for memory
            last = archive.offset
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"not a readable tar: {error}", path=path, remedy=_AGAIN) from error
    with path.open("rb") as file:
        file.seek(last)
        # tarfile ends without a word at a damaged or missing header.
        if file.read(512) != bytes(512):
            problem = f"damaged or cut off: no header at byte {last:,} of {end:,}"
            raise DataError(problem, path=path, remedy=_AGAIN)
    return patches


def _check(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"member {member.name} lies outside of it", path=path, remedy=_BACK)
    if not member.isfile() and not member.isdir():
        raise DataError(f"member {member.name} is a link or a device", path=path, remedy=_BACK)
