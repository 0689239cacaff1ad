"""TFRecord framing and Examples: TensorFlow reads what we write, and we what it writes, byte for byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import shards
from tfrecords_tools import tfrecord
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Band, Feature, Manifest, Nomenclature

FEATURE = Feature("ten", "uint16", (2, 3, 2), 10, (Band("A"), Band("B")))
RECORDS = [b"first", b"", b"x" * 70_000, b"last"]


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "a.tfrecord"
    target.write_bytes(b"".join(map(tfrecord.frame, RECORDS)))
    return target


def _example(**changes):
    values = {
        "ten": np.arange(12, dtype="<u2").tobytes(),
        "labels": np.array([0, 1], np.int64),
        "name": b"patch",
    }
    return tfrecord.encode_example({**values, **changes})


def test_known_checksum():
    # CRC-32C of nine digits is E3069283 (RFC 3720's polynomial); rotated right by 15 and offset as TFRecords want
    rotated = ((0xE3069283 >> 15) | (0xE3069283 << 17)) & 0xFFFFFFFF
    assert tfrecord.masked_crc(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


def test_read(path):
    assert list(tfrecord.read_records(path)) == RECORDS


@given(st.sets(st.integers(0, 3)))
def test_pick(tmp_path_factory, positions):
    target = tmp_path_factory.mktemp("pick") / "a.tfrecord"
    target.write_bytes(b"".join(map(tfrecord.frame, RECORDS)))
    assert list(tfrecord.pick_records(target, positions)) == [RECORDS[index] for index in sorted(positions)]


@pytest.mark.parametrize("positions", [[4], [0, 9]])
def test_pick_too_far(path, positions):
    with pytest.raises(DataError, match="record 4: is missing"):
        list(tfrecord.pick_records(path, positions))


def test_pick_behind_a_damaged_length(path):
    content = bytearray(path.read_bytes())
    content[2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="record 0: its length is damaged"):
        list(tfrecord.pick_records(path, [3]))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda c: c[:-1], "record 3: is cut off"),
        (lambda c: c[:-18], "record 3: is cut off"),
        (lambda c: c[:13], "record 0: is cut off"),
        (lambda c: c[:5], "record 0: is cut off"),
        (lambda c: c[:12] + b"F" + c[13:], "record 0: its data is damaged"),
        (lambda c: b"\xff" + c[1:], "record 0: its length is damaged"),
    ],
)
def test_damage_is_named(path, damage, problem):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=problem) as caught:
        list(tfrecord.read_records(path))
    assert caught.value.path == str(path)
    assert "tfrecords_tools.verify" in caught.value.remedy


def test_missing_file(tmp_path):
    for read in (tfrecord.read_records, lambda path: tfrecord.pick_records(path, [0])):
        with pytest.raises(DataError, match="cannot be read: No such file"):
            list(read(tmp_path / "gone"))


def test_scan_goes_on_behind_damaged_data(path):
    content = bytearray(path.read_bytes())
    content[13] ^= 1
    path.write_bytes(content)
    with path.open("rb") as file:
        faults = [framed.fault for framed in tfrecord.scan(file)]
    assert faults == ["its data is damaged (CRC)", "", "", ""]


def test_example_round_trip():
    values = tfrecord.decode_example(_example(), (FEATURE,))
    np.testing.assert_array_equal(values["ten"], np.arange(12).reshape(2, 3, 2))
    assert values["ten"].dtype == np.uint16
    assert values["labels"].tolist() == [0, 1]
    assert values["name"] == "patch"


def test_arrays_are_little_endian():
    assert tfrecord.decode_example(_example(ten=b"\x01\x00" * 12), (FEATURE,))["ten"].max() == 1


def test_same_values_same_bytes_in_any_order():
    labels = np.array([1, 0], np.int64)
    values = {"z": b"1", "a": b"2", "labels": labels, "m": b"3"}
    assert tfrecord.encode_example(values) == tfrecord.encode_example(dict(reversed(list(values.items()))))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (b"\xff\xff", "not a tf.train.Example"),
        (tfrecord.encode_example({"name": b"x"}), "lacks labels, ten"),
        (_example(ten=bytes(23)), "ten has 23 bytes"),
        (_example(name=b"\xff"), "its name is no UTF-8"),
    ],
)
def test_undecodable(record, problem):
    with pytest.raises(DataError, match=problem):
        tfrecord.decode_example(record, (FEATURE,))


def test_decode_at_names_the_place(tmp_path):
    known = Manifest((FEATURE,), Nomenclature("three", ("a", "b", "c")), {}, {})
    with pytest.raises(DataError, match="record 8: has 2 labels, not 3") as caught:
        tfrecord.decode_at(_example(), known, tmp_path / "s.tfrecord", 8)
    assert caught.value.path == str(tmp_path / "s.tfrecord")


@pytest.mark.tensorflow
def test_tensorflow_writes_the_same_bytes(path, tmp_path):
    from jeoparda_tf.stack import tf

    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()


@pytest.mark.tensorflow
def test_tensorflow_reads_the_same_records(path):
    from jeoparda_tf.stack import tf

    assert [r.numpy() for r in tf.data.TFRecordDataset(str(path))] == RECORDS


@pytest.mark.tensorflow
def test_tensorflow_parses_the_same_values(tmp_path):
    from jeoparda_tf.bigearthnet import bands
    from jeoparda_tf.stack import tf

    features = bands.features(s1=True, reference_map=True)
    known = shards.write(tmp_path, {"train": 3}, features=features)
    spec = {feature.name: tf.io.FixedLenFeature([], tf.string) for feature in features}
    spec.update(
        {"labels": tf.io.FixedLenFeature([19], tf.int64), "name": tf.io.FixedLenFeature([], tf.string)}
    )
    files = [str(tmp_path / shard.file) for shard in known.splits["train"].shards]
    patches = shards.patches(3, features, 19)
    for patch, record in zip(patches, tf.data.TFRecordDataset(files)):
        theirs = tf.io.parse_single_example(record, spec)
        ours = tfrecord.decode_example(record.numpy(), features)
        assert theirs["name"].numpy().decode() == ours["name"] == patch.name
        assert theirs["labels"].numpy().tolist() == ours["labels"].tolist() == patch.labels.tolist()
        for feature in features:
            array = tf.io.decode_raw(theirs[feature.name], tf.as_dtype(feature.dtype))
            np.testing.assert_array_equal(tf.reshape(array, feature.shape).numpy(), ours[feature.name])
            np.testing.assert_array_equal(ours[feature.name], patch.arrays[feature.name])


@pytest.mark.tensorflow
def test_we_read_an_example_of_tensorflow():
    from jeoparda_tf.stack import tf

    def one(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    labels = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, -5]))
    raw = struct.pack("<12H", *range(12))
    example = tf.train.Example(
        features=tf.train.Features(feature={"name": one(b"n"), "ten": one(raw), "labels": labels})
    )
    values = tfrecord.decode_example(example.SerializeToString(), (FEATURE,))
    assert values["labels"].tolist() == [1, -5]
    assert values["ten"][1, 2].tolist() == [10, 11]
