"""TFRecord framing and `tf.train.Example` messages without TensorFlow.

A record is its length (uint64), the length's masked CRC, the data, the data's masked CRC; CRC-32C, little-endian
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). An Example is a protobuf map from
feature names to lists of bytes, floats or integers (tensorflow/core/example/feature.proto).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Iterator, Mapping, Union

import crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from .errors import DataError
from .manifest import Feature

Value = Union[bytes, np.ndarray]
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
OVERHEAD = _HEADER.size + _FOOTER.size


def masked_crc(data: bytes) -> int:
    """Returns the CRC-32C of `data` as TFRecords store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(masked_crc(length)), record, _FOOTER.pack(masked_crc(record))))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, checking both CRCs of each.

    Raises:
        DataError: a CRC is wrong or the file ends within a record; names the record.
    """
    index = 0
    with path.open("rb", buffering=1 << 20) as file:
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise DataError(f"record {index} is cut off", path=path)
            length, crc = _HEADER.unpack(header)
            if masked_crc(header[:8]) != crc:
                raise DataError(f"record {index}: its length is damaged (CRC)", path=path)
            record, footer = file.read(length), file.read(_FOOTER.size)
            if len(record) < length or len(footer) < _FOOTER.size:
                raise DataError(f"record {index} is cut off", path=path)
            if masked_crc(record) != _FOOTER.unpack(footer)[0]:
                raise DataError(f"record {index}: its data is damaged (CRC)", path=path)
            yield record
            index += 1


def _example_class() -> Any:
    """Builds the message class in a pool of its own: TensorFlow registers the same names in the common one."""
    message, repeated = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def add(parent: Any, name: str, *fields: tuple[str, int, str], many: bool = False) -> Any:
        kind = parent.add(name=name)
        for number, (field, type_, type_name) in enumerate(fields, start=1):
            new = kind.field.add(name=field, number=number, type=type_, type_name=type_name or None)
            new.label = repeated if many else message.LABEL_OPTIONAL
        return kind

    for name, type_ in (("BytesList", message.TYPE_BYTES), ("FloatList", message.TYPE_FLOAT), ("Int64List", message.TYPE_INT64)):
        add(file.message_type, name, ("value", type_, ""), many=True)
    lists = [(f"{key}_list", message.TYPE_MESSAGE, f".tensorflow.{name}") for key, name in
             (("bytes", "BytesList"), ("float", "FloatList"), ("int64", "Int64List"))]
    feature = add(file.message_type, "Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = add(file.message_type, "Features", ("feature", message.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry"), many=True)
    entry = add(features.nested_type, "FeatureEntry", ("key", message.TYPE_STRING, ""),
                ("value", message.TYPE_MESSAGE, ".tensorflow.Feature"))
    entry.options.map_entry = True
    add(file.message_type, "Example", ("features", message.TYPE_MESSAGE, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()


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


def decode_example(record: bytes, features: tuple[Feature, ...]) -> dict[str, Any]:
    """Decodes one record with numpy, as the manifest describes it.

    Returns:
        the arrays by feature name (their shape and dtype from the manifest, read-only), `labels` (int64, multi-hot)
        and `name` (str).

    Raises:
        DataError: it is no Example, or lacks a feature, or one has the wrong size.
    """
    from google.protobuf.message import DecodeError

    try:
        stored = Example.FromString(record).features.feature
    except DecodeError as error:
        raise DataError(f"not a tf.train.Example: {error}") from error
    missing = [name for name in ("labels", "name", *(feature.name for feature in features)) if name not in stored]
    if missing:
        raise DataError(f"lacks {', '.join(missing)}")
    values: dict[str, Any] = {"labels": np.array(stored["labels"].int64_list.value, np.int64)}
    values["name"] = b"".join(stored["name"].bytes_list.value).decode()
    for feature in features:
        raw = b"".join(stored[feature.name].bytes_list.value)
        dtype = np.dtype(feature.dtype).newbyteorder("<")
        if len(raw) != dtype.itemsize * int(np.prod(feature.shape)):
            raise DataError(f"{feature.name} has {len(raw)} bytes, not those of {feature.dtype} {feature.shape}")
        values[feature.name] = np.frombuffer(raw, dtype).reshape(feature.shape)
    return values
