"""An archive as published, extracted: which layout it has, which patches are in it, and where their files lie."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from tfrecords_tools.errors import DataError, UsageError

from . import tar, tuberlin
from .packed import Index, PatchFiles
from .stream import kind as kind_of

# The time has five or six digits and may be impossible (T94161): no part of the names is read as a date.
_V1_PATCH = re.compile(r"S2[A-Z]_MSIL2A_[^_]+_\d+_\d+")
_TILE = re.compile(r"S2[A-Z]_MSIL2A_[^_]+_N\d+_R\d+_T\d\d[A-Z]{3}")
S2_FOLDER, MAP_FOLDER = "BigEarthNet-S2", "Reference_Maps"
TABLE, SNOW_AND_CLOUD_TABLE = "metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
ORIGIN_FILE = "ORIGIN.txt"
_V2_UNDERSCORES = 7


@dataclass(frozen=True)
class Archive:
    """An extracted archive and the folders beside it.

    Attributes:
        layout: "v1" (BigEarthNet-S2-v1.0: a folder a patch), "v2" (reBEN: tiles, and a table in metadata.parquet) or
            "tfrecord" (what TU Berlin's scripts made of version 1).
        root: v1: the folder of patches; v2: the folder with BigEarthNet-S2 and metadata.parquet; tfrecord: that of the
            files.
        s1: folder of Sentinel-1 patches (v1) or scenes (v2), or a .tar of it; None if not wanted.
        s2_tar: the patches of a .tar by name where the archive is one; root is then the .tar (v1), or the folder
            that it lies in, with metadata.parquet (v2).
        s1_tar: the same of Sentinel-1.
        maps: folder of reference maps, or a .tar of it; None if there is none.
        maps_tar: the same of them.
        table: path of metadata.parquet where it is not in `root` (v2 only).
        records: the patches by name (tfrecord only); s1 is then `root` if they hold Sentinel-1.
    """

    layout: str
    root: str
    s1: Optional[str] = None
    s2_tar: Optional[Index] = None
    s1_tar: Optional[Index] = None
    maps: Optional[str] = None
    maps_tar: Optional[Index] = None
    table: Optional[str] = None
    records: Optional[tuberlin.Patches] = None

    def without_index(self) -> Archive:
        """Returns it as workers need it: a job carries the places of its own patches."""
        return replace(self, s2_tar=None, s1_tar=None, maps_tar=None, records=None)

    def s2_files(self, name: str) -> Optional[PatchFiles]:
        """Returns where a Sentinel-2 patch lies in a .tar; None if it is in a folder."""
        return None if self.s2_tar is None else self.s2_tar[name]

    def s1_files(self, name: Optional[str]) -> Optional[PatchFiles]:
        """Returns the same of Sentinel-1; a patch that is not there has no files."""
        if name is None or self.s1_tar is None:
            return None
        return self.s1_tar.get(name) or PatchFiles(str(self.s1), name)

    def map_files(self, name: str) -> Optional[PatchFiles]:
        """Returns the same of a patch's reference map."""
        return None if self.maps_tar is None else self.maps_tar.get(name) or PatchFiles(str(self.maps), name)

    def record(self, name: str) -> Optional[tuberlin.Record]:
        """Returns where a patch is in TFRecords; None if it is in files of its own."""
        return None if self.records is None else self.records[name]

    def table_file(self) -> str:
        """Returns the path of metadata.parquet (v2 only)."""
        return self.table or f"{self.root}/{TABLE}"

    def s2_folder(self, name: str) -> str:
        """Returns the folder with a Sentinel-2 patch's bands."""
        return (
            f"{self.root}/{name}"
            if self.layout == "v1"
            else f"{self.root}/{S2_FOLDER}/{tile_of(name)}/{name}"
        )

    def s1_folder(self, name: str) -> str:
        """Returns the folder of a Sentinel-1 patch; in v2 a scene is its patches' name less tile and indices."""
        return f"{self.s1}/{name}" if self.layout == "v1" else f"{self.s1}/{name.rsplit('_', 3)[0]}/{name}"

    def map_folder(self, name: str) -> str:
        """Returns the folder with a patch's reference map (v2 only)."""
        return f"{self.maps or f'{self.root}/{MAP_FOLDER}'}/{tile_of(name)}/{name}"

    def labels_file(self, name: str) -> str:
        """Returns the JSON file with a patch's labels (v1 only)."""
        return f"{self.root}/{name}/{name}_labels_metadata.json"


@dataclass(frozen=True)
class Found:
    """What an archive's folders hold.

    Attributes:
        names: of the patches.
        strange: number of folders that are no patches.
        misplaced: v2 patches in the folder of another tile, or faulty TFRecords, with the error each is worth.
    """

    names: list[str]
    strange: int = 0
    misplaced: tuple[tuple[str, DataError], ...] = ()


def tile_of(name: str) -> str:
    """Returns a v2 patch's tile folder: its name less the two indices."""
    return name.rsplit("_", 2)[0]


def block_of(name: str, size: int = 8) -> str:
    """Returns a key that neighbouring patches share: `size` x `size` of them, 9.6 km on a side for 8.

    A v2 name tells the tile, so all dates of one place share a key. A v1 name tells only the datatake: other
    dates of the place have keys of their own, and more cannot be known from names; equal indices in two tiles
    of one datatake share a key, which does no harm.
    """
    base, row, column = name.rsplit("_", 2)
    place = base.rsplit("_", 1)[1] if _TILE.fullmatch(base) else base
    return f"{place}_{int(row) // size}_{int(column) // size}"


def find_maps(archive: Path) -> Optional[Path]:
    """Returns the reference maps in an archive's folder, or beside a tar of it: a folder or a tar."""
    root = archive if archive.is_dir() else archive.parent
    names = (MAP_FOLDER, *(f"{MAP_FOLDER}.tar{suffix}" for suffix in ("", ".zst", ".gz")))
    return next((root / name for name in names if (root / name).exists()), None)


def open_archive(
    path: Path,
    s1: Optional[Path] = None,
    *,
    maps: Optional[Path] = None,
    table: Optional[Path] = None,
    packed: Mapping[str, Index] = MappingProxyType({}),
) -> Archive:
    """Finds out which layout an archive has.

    Args:
        path: its folder, or a tar of its Sentinel-2 part.
        s1: the same of Sentinel-1.
        maps: the same of reference maps.
        table: metadata.parquet where it is not in the folder, or beside the tar.
        packed: what was taken of tars that cannot be read in place, by "s2", "s1" and "maps".

    Raises:
        UsageError: it is no archive; if it lies a level or two too high or too low, names the right path.
    """
    named = {"s2": ("the archive", path), "s1": ("--s1", s1), "maps": ("--maps", maps)}
    for key, (what, folder) in named.items():
        if folder is not None and not folder.is_dir() and key not in packed and kind_of(folder) != "tar":
            problem = "not a folder" if folder.exists() else "no such folder"
            remedy = "name the folder that the published archive was extracted into, or the archive itself"
            raise UsageError(f"{problem} for {what}", path=folder, remedy=remedy)
        if folder is not None and folder.is_dir() and not _readable(folder):
            raise UsageError(f"no permission to read {what}", path=folder)
    if path.is_dir() and _layout(path) is None and (files := tuberlin.find(path)):
        return _open_records(path, files, s1, table)
    if table is not None and not table.is_file():
        raise UsageError("no such file for --metadata", path=table)
    tars = {key: packed[key] if key in packed else _tar(folder) for key, (_, folder) in named.items()}
    s2_tar, s1_tar = tars["s2"], tars["s1"]
    layout = _layout(path) if s2_tar is None else _layout_of(s2_tar)
    if layout is None and s2_tar is not None:
        raise UsageError("no Sentinel-2 patches in this tar", path=path)
    if layout is None:
        raise UsageError("not a BigEarthNet archive", path=path, remedy=_right_path(path.absolute()))
    if layout == "v1" and table is not None:
        raise UsageError("--metadata is for version 2; version 1 has its labels beside the pixels", path=path)
    names = s1_tar if s1_tar is not None else () if s1 is None else _folders(os.fspath(s1))
    if s1 is not None and not any(name.startswith("S1") for name in names):
        kind = "patches like S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48" if layout == "v1" else "scenes"
        remedy = f"--s1 takes the folder that holds the folders of Sentinel-1 {kind}"
        raise UsageError("no Sentinel-1 data in it", path=s1, remedy=remedy)
    root = path.parent if s2_tar is not None and layout == "v2" else path
    texts = [None if given is None else os.fspath(given) for given in (s1, maps, table)]
    return Archive(layout, os.fspath(root), texts[0], s2_tar, s1_tar, texts[1], tars["maps"], texts[2])


def _open_records(
    path: Path, files: Sequence[tuple[str, Path]], s1: Optional[Path], table: Optional[Path]
) -> Archive:
    if s1 is not None:
        remedy = "leave --s1 out: VV and VH are stored where the records hold them"
        raise UsageError("--s1 does not go with TFRecords", path=path, remedy=remedy)
    if table is not None:
        raise UsageError("--metadata is for version 2; TFRecords hold their labels", path=path)
    records = tuberlin.index(files)
    return Archive("tfrecord", os.fspath(path), os.fspath(path) if records.s1 else None, records=records)


def _tar(path: Optional[Path]) -> Optional[Index]:
    return tar.index(path) if path is not None and kind_of(path) == "tar" else None


def _layout_of(patches: Index) -> Optional[str]:
    if any(_TILE.fullmatch(tile_of(name)) for name in patches if name.count("_") == _V2_UNDERSCORES):
        return "v2"
    return "v1" if any(_V1_PATCH.fullmatch(name) for name in patches) else None


def _readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _layout(path: Path) -> Optional[str]:
    if (path / S2_FOLDER).is_dir():
        return "v2"
    with os.scandir(path) as entries:
        return "v1" if any(_V1_PATCH.fullmatch(entry.name) and entry.is_dir() for entry in entries) else None


def _right_path(path: Path) -> str:
    """Looks two levels up and one down for the archive that was meant."""
    below = sorted(entry for entry in path.iterdir() if entry.is_dir())[:100]
    near = (folder for folder in (path.parent, path.parent.parent, *below) if _readable(folder))
    found = next((folder for folder in near if _layout(folder)), None)
    if found:
        return f"did you mean {found} ?"
    if not any(path.iterdir()):
        return "it is empty: extract the published archive into it"
    return (
        "version 1 is a folder of folders like S2A_MSIL2A_20170613T101031_87_48; version 2 one that holds "
        f"{S2_FOLDER} and {TABLE}; TFRecords of version 1 are train.tfrecord, or train_00.tfrecord and so on"
    )


def find_patches(archive: Archive) -> Found:
    """Lists the patches by their folders' names alone: no file is opened.

    Raises:
        DataError: there is none, or a folder cannot be listed.
    """
    if archive.records is not None:
        return Found(list(archive.records), misplaced=tuple(archive.records.faults))
    if archive.s2_tar is not None:
        return _find_in_tar(archive.layout, archive.s2_tar)
    found = _find_v1(archive.root) if archive.layout == "v1" else _find_v2(f"{archive.root}/{S2_FOLDER}")
    if not found.names:
        raise DataError(
            "no patch in it", path=archive.root, remedy="extract the published archive here again"
        )
    return found


def _find_in_tar(layout: str, patches: Index) -> Found:
    def is_patch(name: str) -> bool:
        if layout == "v1":
            return _V1_PATCH.fullmatch(name) is not None
        return name.count("_") == _V2_UNDERSCORES and _TILE.fullmatch(tile_of(name)) is not None

    names = [name for name in patches if is_patch(name)]
    return Found(names, len(patches) - len(names))


def _find_v1(root: str) -> Found:
    names = list(_folders(root))
    patches = [name for name in names if _V1_PATCH.fullmatch(name)]
    return Found(patches, len(names) - len(patches))


def _find_v2(root: str) -> Found:
    tiles = list(_folders(root))
    known = [tile for tile in tiles if _TILE.fullmatch(tile)]
    places = [(tile, name) for tile in known for name in _folders(f"{root}/{tile}")]
    names = [name for tile, name in places if tile_of(name) == tile]
    # A name tells its tile, so a name that is there twice is in another tile's folder once.
    misplaced = tuple((name, _misplaced(root, tile, name)) for tile, name in places if tile_of(name) != tile)
    return Found(names, len(tiles) - len(known), misplaced)


def _misplaced(root: str, tile: str, name: str) -> DataError:
    path, own = f"{root}/{tile}/{name}", tile_of(name)
    if Path(root, own, name).is_dir():
        return DataError(f"duplicate patch: it is in {own} too", path=path, remedy="remove this one")
    return DataError("a patch in the folder of another tile", path=path, remedy=f"move it to {own}")


def _folders(root: str) -> Iterator[str]:
    try:
        with os.scandir(root) as entries:
            yield from (entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise DataError(f"cannot be listed: {error.strerror}", path=root) from error


def read_json(path: str, files: Optional[PatchFiles] = None) -> dict[str, Any]:
    """Reads a patch's JSON file, from a folder or, with `files`, from a .tar.

    Raises:
        DataError: it is missing, unreadable, or not one JSON object.
    """
    try:
        if files is not None:
            content = json.loads(bytes(files.read(path.rpartition("/")[2])))
        else:
            with open(path, "rb") as file:  # noqa: PTH123 - called once a patch
                content = json.loads(file.read())
    except FileNotFoundError:
        raise DataError("missing", path=path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"not readable as JSON: {error}", path=path) from error
    if not isinstance(content, dict):
        raise DataError("not a JSON object", path=path)
    return content


def read_labels(path: str, files: Optional[PatchFiles] = None) -> list[str]:
    """Reads the label names of a v1 patch.

    Raises:
        DataError: the file is missing, no JSON, or holds no list of names.
    """
    labels = read_json(path, files).get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError('has no list of names under "labels"', path=path)
    return labels


def origin(archive: Archive) -> str:
    """Returns what the pixels are: "BigEarthNet", or the line of ORIGIN.txt in the archive or beside it."""
    root = Path(archive.root).absolute()
    for folder in (root, root.parent):
        if (folder / ORIGIN_FILE).is_file():
            return (folder / ORIGIN_FILE).read_text().strip()
    return "BigEarthNet"
