"""TFRecords that TU Berlin's scripts for BigEarthNet wrote, as a source: int64 lists of pixels, names and labels.

A patch is an Example: each band of Sentinel-2 an int64 list, VV and VH float lists (BigEarthNet-MM only), its labels as
names and as a multi-hot list, its name. A file is `<split>.tfrecord`, or `<split>_00.tfrecord` and so on.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature
from tfrecords_tools.tfrecord import OVERHEAD, Framed, PackedExample, read_at, scan

from .nomenclature import BEN19, CLC43, multi_hot

_FILE = re.compile(r"(train|val|test)(?:_(\d+))?\.tfrecord")
_PATCH = re.compile(r"S2[A-Z]_MSIL2A_[^_]+_\d+_\d+")
# Where the 43 classes are, those that a record may have of the 19 say nothing more.
LABELS = {"original_labels": CLC43, "BigEarthNet-19_labels": BEN19}
_NAMES = ("patch_name", "patch_name_s2")  # of BigEarthNet-S2, of BigEarthNet-MM
_S1_NAME = "patch_name_s1"
_REMEDY = "copy the file or write it again, or leave such records out with --on-error skip"
_FOOTER_BYTES = 4  # fewer where a record is cut off, none where its length is damaged
_UINT16_BYTES = 3  # of a varint: seven bits each


class Record(NamedTuple):
    """Where a patch is: file, number of the record in it, the byte that it begins at."""

    path: str
    number: int
    offset: int


class Patches:
    """The patches in a folder of such files, by name: columns of numbers, as there are many.

    Args:
        files: their paths by split.

    Attributes:
        s1: names of the Sentinel-1 patches by those of Sentinel-2; empty where the records hold none.
        nomenclature: that all labels can be given in: "clc43", or "ben19" if any record has the 19 classes only.
        faults: what is wrong with records that are not among the patches.
    """

    def __init__(self, files: Sequence[tuple[str, Path]]) -> None:
        self._splits = [split for split, _ in files]
        self._paths = [str(path) for _, path in files]
        self._rows: dict[str, int] = {}
        self._file, self._number, self._offset = array("H"), array("I"), array("Q")
        self._counts = [0] * len(files)
        self._twice: set[str] = set()
        self.s1: dict[str, str] = {}
        self.nomenclature = CLC43.name
        self.faults: list[tuple[str, DataError]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __getitem__(self, name: str) -> Record:
        row = self._rows[name]
        return Record(self._paths[self._file[row]], self._number[row], self._offset[row])

    def split_of(self, name: str) -> str:
        """Returns the split whose file a patch is in."""
        return self._splits[self._file[self._rows[name]]]

    def add(self, framed: Framed, file: int, offset: int) -> None:
        """Adds the next record of a file, or what is wrong with it.

        Raises:
            DataError: the file is cut off or the record's length is damaged.
        """
        path, number = self._paths[file], self._counts[file]
        self._counts[file] += 1
        if framed.fault and len(framed.footer) < _FOOTER_BYTES:
            remedy = "copy the file or write it again: records behind this one cannot be found"
            raise DataError(f"record {number}: {framed.fault}", path=path, remedy=remedy)
        try:
            if framed.fault:
                raise DataError(framed.fault)
            stored = _parse(framed.data)
            name = _name(stored)
            if name in self._rows:
                self._twice.add(name)
                first, remedy = self[name], "write the files again with each patch once"
                problem = f"duplicate patch {name}: it is record {first.number} of {first.path} too"
                raise DataError(problem, remedy=remedy)
        except DataError as error:
            self.faults.append((Path(path).name, _told(error, path, number)))
            return
        self._rows[name] = len(self._rows)
        self._file.append(file)
        self._number.append(number)
        self._offset.append(offset)
        if "VV" in stored and "VH" in stored:
            self.s1[name] = _text(stored, _S1_NAME) if _S1_NAME in stored else name
        if "original_labels" not in stored:
            self.nomenclature = BEN19.name

    def drop_duplicates(self) -> None:
        """Drops patches that are there twice, of which none is more likely the right one, after the last was added."""
        for name in self._twice:
            del self._rows[name]


def find(folder: Path) -> list[tuple[str, Path]]:
    """Returns the files of a folder with their splits; none if it holds no such files.

    Raises:
        UsageError: one in between is missing, or others lie beside them that would be left out.
    """
    paths = sorted(folder.glob("*.tfrecord"))
    found = {path: match for path in paths if (match := _FILE.fullmatch(path.name))}
    if not found:
        return []
    for path in paths:
        if path not in found:
            remedy = "name it <split>.tfrecord or <split>_00.tfrecord, or move it elsewhere"
            raise UsageError("its name tells no split (train, val or test)", path=path, remedy=remedy)
    for split in {match[1] for match in found.values()}:
        numbers = {int(match[2]) for match in found.values() if match[1] == split and match[2]}
        missing = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
        if missing:
            raise UsageError(f"{split}_{missing[0]:02d}.tfrecord is missing", path=folder)
    return [(match[1], path) for path, match in found.items()]


def index(files: Sequence[tuple[str, Path]]) -> Patches:
    """Reads the files once, checking every CRC, for the names and places of their patches.

    Raises:
        DataError: a file cannot be read, is cut off, or a record's length is damaged: none behind it can be found.
    """
    from tqdm import tqdm

    patches = Patches(files)
    try:
        total = sum(path.stat().st_size for _, path in files)
        with tqdm(total=total, unit="B", unit_scale=True, desc="reading names", disable=None) as bar:
            for number, (_, path) in enumerate(files):
                offset = 0
                with path.open("rb") as file:
                    for framed in scan(file):
                        patches.add(framed, number, offset)
                        offset += OVERHEAD + len(framed.data)
                        bar.update(OVERHEAD + len(framed.data))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=error.filename or path) from error
    patches.drop_duplicates()
    return patches


def read(
    record: Record, name: str, features: Sequence[Feature], nomenclature: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads and checks one patch.

    Returns:
        labels (int64, multi-hot; all zero if the nomenclature has none of them), and arrays by feature name, of the
        feature's dtype and shape, bands last.

    Raises:
        DataError: the record is damaged, lacks something, or a band or label is not what it should be; names the file
            and the record.
    """
    try:
        stored = _parse(read_at(Path(record.path), record.offset, record.number))
    except DataError as error:
        # read_at names both already, but its way out is another one.
        problem = error.problem.removeprefix(f"record {record.number}: ")
        raise _told(DataError(problem), record.path, record.number) from None
    try:
        if _name(stored) != name:
            raise DataError(f"is {_name(stored)}, no longer {name}: the file has changed since it was listed")
        labels = _labels(stored, nomenclature)
        return labels, {feature.name: _array(stored, feature) for feature in features}
    except DataError as error:
        raise _told(error, record.path, record.number) from None


def _told(error: DataError, path: str, number: int) -> DataError:
    return DataError(f"record {number}: {error.problem}", path=path, remedy=error.remedy or _REMEDY)


def _parse(data: bytes) -> Any:
    try:
        return PackedExample.FromString(data).features.feature
    except DecodeError as error:
        raise DataError(f"not a tf.train.Example: {error}") from error


def _name(stored: Any) -> str:
    key = next((key for key in _NAMES if key in stored), None)
    if key is None:
        raise DataError(f"lacks {_NAMES[0]}")
    name = _text(stored, key)
    if not _PATCH.fullmatch(name):
        raise DataError(f"{key} {name!r} is not the name of a patch of version 1")
    return name


def _text(stored: Any, key: str) -> str:
    try:
        return b"".join(stored[key].bytes_list.value).decode()
    except UnicodeDecodeError:
        raise DataError(f"{key} is no UTF-8") from None


def _labels(stored: Any, nomenclature: str) -> np.ndarray:
    key = next((key for key in LABELS if key in stored), None)
    if key is None:
        raise DataError(f"lacks {' or '.join(LABELS)}")
    own = LABELS[key]
    try:
        names = [name.decode() for name in stored[key].bytes_list.value]
    except UnicodeDecodeError:
        raise DataError(f"{key} is no UTF-8") from None
    if not names and own is CLC43:
        raise DataError("has no labels")
    labels = multi_hot(names, own)
    # The two are written side by side: where they differ, one was changed or classes are in another order.
    if f"{key}_multi_hot" in stored:
        told = _integers(stored, f"{key}_multi_hot")
        if told.tolist() != labels.tolist():
            raise DataError(f"{key}_multi_hot does not say what {key} does: {', '.join(names)}")
    return labels if own.name == nomenclature else multi_hot(names, BEN19)


def _array(stored: Any, feature: Feature) -> np.ndarray:
    array = np.empty(feature.shape, feature.dtype)
    for number, band in enumerate(feature.band_names):
        if band not in stored:
            raise DataError(f"lacks {band}")
        values = _floats(stored, band) if array.dtype.kind == "f" else _integers(stored, band)
        if values.size != array[..., number].size:
            size = " x ".join(map(str, feature.shape[:2]))
            raise DataError(f"{band} has {values.size:,} values, not {size}")
        array[..., number] = values.reshape(feature.shape[:2])
    return array


def _floats(stored: Any, key: str) -> np.ndarray:
    raw = b"".join(stored[key].float_list.value)
    if len(raw) % 4:
        raise DataError(f"{key} is no list of floats")
    values = np.frombuffer(raw, "<f4")
    if not np.isfinite(values).all():
        raise DataError(f"{key} holds values that are not finite")
    return values


def _integers(stored: Any, key: str) -> np.ndarray:
    """Decodes protobuf's varints, seven bits a byte and the lowest first, all of a list at once."""
    octets = np.frombuffer(b"".join(stored[key].int64_list.value), np.uint8)
    ends = np.flatnonzero(octets < 128)
    if octets.size and (not ends.size or ends[-1] + 1 < octets.size):
        raise DataError(f"{key} is no list of int64")
    starts = np.concatenate(([0], ends[:-1] + 1)) if ends.size else ends
    lengths = ends - starts + 1
    values = np.zeros(len(ends), np.int32)
    if lengths.max(initial=0) <= _UINT16_BYTES:  # negative ones have ten bytes
        padded = np.concatenate((octets, np.zeros(_UINT16_BYTES, np.uint8))).astype(np.int32) & 127
        for place in range(_UINT16_BYTES):
            values += np.where(lengths > place, padded[starts + place] << 7 * place, 0)
    if lengths.max(initial=0) > _UINT16_BYTES or values.max(initial=0) > np.iinfo(np.uint16).max:
        raise DataError(f"{key} holds values outside 0 to 65,535")
    return values
