"""TFRecord framing and `tf.train.Example` messages without TensorFlow.

A record is its length (uint64), the length's masked CRC, the data, the data's masked CRC: CRC-32C, all
little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). An Example is a
protobuf map from feature names to lists of bytes, floats or integers (tensorflow/core/example/feature.proto).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Union

import crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from .errors import DataError
from .manifest import Feature, Manifest, Shard

Value = Union[bytes, np.ndarray]
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
RESTORE = "copy the shard or convert the archive again; `python -m tfrecords_tools.verify` checks all shards"
OVERHEAD = _HEADER.size + _FOOTER.size


def masked_crc(data: bytes) -> int:
    """Returns the CRC-32C of `data` as TFRecords store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(masked_crc(length)), record, _FOOTER.pack(masked_crc(record))))


class Framed(NamedTuple):
    """One record as read from a file.

    Attributes:
        header: its length and the length's CRC, as they stand in the file.
        data: the record.
        footer: the data's CRC.
        fault: what is wrong, empty if nothing is.
    """

    header: bytes
    data: bytes
    footer: bytes
    fault: str


def scan(file: BinaryIO) -> Iterator[Framed]:
    """Yields every record of an open file with its fault, if it has one, reading on behind damaged data.

    A damaged length is the last thing yielded: where the next record begins is not known then.
    """
    while header := file.read(_HEADER.size):
        fault = _fault_of_header(header)
        if fault:
            yield Framed(header, b"", b"", fault)
            return
        length = _HEADER.unpack(header)[0]
        data, footer = file.read(length), file.read(_FOOTER.size)
        if len(footer) < _FOOTER.size:
            fault = "is cut off"
        elif masked_crc(data) != _FOOTER.unpack(footer)[0]:
            fault = "its data is damaged (CRC)"
        yield Framed(header, data, footer, fault)


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, checking both CRCs of each.

    Raises:
        DataError: a CRC is wrong or the file ends within a record (names the record), or it cannot be read.
    """
    with _opened(path) as file:
        for index, framed in enumerate(scan(file)):
            yield _whole(framed, index, path).data


def read_shard(directory: Path, shard: Shard) -> Iterator[bytes]:
    """Yields the records of a shard and, at its end, checks that it is the manifest's: number of records and SHA-256.

    Raises:
        DataError: as `read_records`, or the shard is whole, but another one.
    """
    path, digest, count = directory / shard.file, hashlib.sha256(), 0
    with _opened(path) as file:
        for framed in scan(file):
            for part in _whole(framed, count, path)[:3]:
                digest.update(part)
            count += 1
            yield framed.data
    if count != shard.records:
        problem = f"has {count} records, the manifest says {shard.records}"
        raise DataError(problem, path=path, remedy=RESTORE)
    if digest.hexdigest() != shard.sha256:
        problem = f"its SHA-256 is not the manifest's, though its {count} records are whole"
        raise DataError(problem, path=path, remedy=RESTORE)


def pick_records(path: Path, positions: Collection[int]) -> Iterator[bytes]:
    """Yields the records at some positions of a TFRecord file, in the file's order, seeking over the others.

    Raises:
        DataError: as `read_records`, or the file has too few records.
    """
    wanted = set(positions)
    with _opened(path) as file:
        for index in range(max(wanted, default=-1) + 1):
            if index in wanted:
                yield _whole(next(scan(file), _MISSING), index, path).data
            else:
                header = file.read(_HEADER.size)
                _whole(Framed(header, b"", b"", _fault_of_header(header)), index, path)
                file.seek(_HEADER.unpack(header)[0] + _FOOTER.size, os.SEEK_CUR)


def offsets(path: Path) -> np.ndarray:
    """Returns at which byte each record of a TFRecord file begins (int64), reading the headers alone.

    Raises:
        DataError: a length is damaged or the file ends within a record (names the record), or it cannot be read.
    """
    places: list[int] = []
    place = 0
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        while place < size:
            file.seek(place)
            header = file.read(_HEADER.size)
            _whole(Framed(header, b"", b"", _fault_of_header(header)), len(places), path)
            places.append(place)
            place += _HEADER.unpack(header)[0] + OVERHEAD
    if place > size:
        _whole(_CUT_OFF, len(places) - 1, path)
    return np.array(places, np.int64)


def read_at(path: Path, offset: int, index: int) -> bytes:
    """Returns the record that begins at a byte of a TFRecord file; `index` names it in errors, as `read_records`'."""
    with _opened(path) as file:
        file.seek(offset)
        return _whole(next(scan(file), _MISSING), index, path).data


_MISSING = Framed(b"", b"", b"", "is missing")
_CUT_OFF = Framed(b"", b"", b"", "is cut off")


def _fault_of_header(header: bytes) -> str:
    if len(header) < _HEADER.size:
        return "is cut off" if header else _MISSING.fault
    return "" if masked_crc(header[:8]) == _HEADER.unpack(header)[1] else "its length is damaged (CRC)"


def _whole(framed: Framed, index: int, path: Path) -> Framed:
    if framed.fault:
        raise DataError(f"record {index}: {framed.fault}", path=path, remedy=RESTORE)
    return framed


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path, remedy=RESTORE) from error


_Field = descriptor_pb2.FieldDescriptorProto
_LISTS = {"bytes": _Field.TYPE_BYTES, "float": _Field.TYPE_FLOAT, "int64": _Field.TYPE_INT64}


def _example_class(packed: bool = False) -> Any:
    """Builds the message class, in its own pool: TensorFlow registers the same names in the common one.

    `packed` takes each list of numbers as the bytes that stand in the record, which protobuf then does not decode.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for key, kind in _LISTS.items():
        _add(
            file.message_type,
            f"{key.capitalize()}List",
            ("value", _Field.TYPE_BYTES if packed else kind, ""),
            many=True,
        )
    lists = [(f"{key}_list", _Field.TYPE_MESSAGE, f"{key.capitalize()}List") for key in _LISTS]
    feature = _add(file.message_type, "Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    entries = ("feature", _Field.TYPE_MESSAGE, "Features.FeatureEntry")
    features = _add(file.message_type, "Features", entries, many=True)
    key_and_value = ("key", _Field.TYPE_STRING, ""), ("value", _Field.TYPE_MESSAGE, "Feature")
    _add(features.nested_type, "FeatureEntry", *key_and_value).options.map_entry = True
    _add(file.message_type, "Example", ("features", _Field.TYPE_MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _add(parent: Any, name: str, *fields: tuple[str, Any, str], many: bool = False) -> Any:
    """Adds a message type with its fields, numbered from 1; `many` makes them repeated."""
    kind = parent.add(name=name)
    label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
    for number, (field, type_, type_name) in enumerate(fields, start=1):
        reference = f".tensorflow.{type_name}" if type_name else None
        kind.field.add(name=field, number=number, type=type_, type_name=reference, label=label)
    return kind


Example = _example_class()
# Lists of int64 are varints, of float little-endian float32; each `value` is to be joined.
PackedExample = _example_class(packed=True)


def encode_example(values: Mapping[str, Value]) -> bytes:
    """Serialises an Example; the same values give the same bytes.

    Args:
        values: bytes become a bytes list of one, one-dimensional int64 arrays an int64 list.
    """
    example = Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value.tolist())
    return bytes(example.SerializeToString(deterministic=True))


def decode_example(record: bytes, features: Sequence[Feature]) -> dict[str, Any]:
    """Decodes one record with numpy, as the manifest describes it.

    Returns:
        the arrays by feature name (their shape and dtype from the manifest, read-only), `labels` (int64,
        multi-hot) and `name` (str).

    Raises:
        DataError: it is no Example, or lacks a feature, or one has the wrong size.
    """
    try:
        stored = Example.FromString(record).features.feature
    except DecodeError as error:
        raise DataError(f"not a tf.train.Example: {error}") from error
    wanted = ("labels", "name", *(feature.name for feature in features))
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise DataError(f"lacks {', '.join(missing)}")
    values: dict[str, Any] = {"labels": np.array(stored["labels"].int64_list.value, np.int64)}
    try:
        values["name"] = b"".join(stored["name"].bytes_list.value).decode()
    except UnicodeDecodeError:
        raise DataError("its name is no UTF-8") from None
    for feature in features:
        values[feature.name] = _array(b"".join(stored[feature.name].bytes_list.value), feature)
    return values


def decode_at(record: bytes, known: Manifest, path: Path, position: int) -> dict[str, Any]:
    """Decodes a record as `decode_example` does; its errors name the file and the position, too few labels too."""
    try:
        values = decode_example(record, known.features)
        if values["labels"].shape != (len(known.nomenclature.classes),):
            raise DataError(f"has {values['labels'].size} labels, not {len(known.nomenclature.classes)}")
    except DataError as error:
        raise DataError(f"record {position}: {error.problem}", path=path, remedy=RESTORE) from error
    return values


def _array(raw: bytes, feature: Feature) -> np.ndarray:
    dtype = np.dtype(feature.dtype).newbyteorder("<")
    if len(raw) != dtype.itemsize * math.prod(feature.shape):
        raise DataError(f"{feature.name} has {len(raw)} bytes, not those of {feature.dtype} {feature.shape}")
    return np.frombuffer(raw, dtype).reshape(feature.shape)
