"""TFRecords as TU Berlin's scripts write them: the same shards as from the archive, and clear words about faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from jeoparda_tf.bigearthnet import tuberlin
from jeoparda_tf.bigearthnet.nomenclature import BEN19, CLC43, multi_hot, names_of
from jeoparda_tf.conversion import run
from jeoparda_tf.conversion.config import ConvertConfig
from jeoparda_tf.conversion.preview import preview
from jeoparda_tf.conversion.run import convert
from jeoparda_tf.conversion.shard import convert_shard
from tests import archives
from tests.archives import SIZES, v1_name
from tests.conversions import COUNT, V1_LABELS, V1_SPLITS, hashes, v1_config
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.tfrecord import Example, frame, read_records

LABELS = dict(zip((v1_name(index) for index in range(COUNT)), V1_LABELS))
PARTNERS = {v1_name(i): f"{archives.SCENE}_33UUP_{i // 10}_{i % 10}" for i in range(COUNT)}
Change = Callable[[Any], None]


def _example(name: str, classes: int, s1: bool) -> Any:
    example = Example()
    feature = example.features.feature
    for band, size in SIZES.items():
        pixels = archives.pixels(name, band, size, "uint16")
        feature[band].int64_list.value.extend(pixels.ravel().tolist())
    if s1:
        for band in ("VV", "VH"):
            pixels = archives.pixels(PARTNERS[name], band, 120, "float32")
            feature[band].float_list.value.extend(pixels.ravel().tolist())
        feature["patch_name_s1"].bytes_list.value.append(PARTNERS[name].encode())
    feature["patch_name_s2" if s1 else "patch_name"].bytes_list.value.append(name.encode())
    key, own = ("original_labels", CLC43) if classes == 43 else ("BigEarthNet-19_labels", BEN19)
    vector = multi_hot(LABELS[name], own)
    feature[key].bytes_list.value.extend(label.encode() for label in names_of(vector, own.classes))
    feature[f"{key}_multi_hot"].int64_list.value.extend(vector.tolist())
    return example


def _write(
    folder: Path,
    classes: int = 43,
    s1: bool = False,
    writers: int = 2,
    splits: Mapping[str, Iterable[str]] = V1_SPLITS,
    changes: Mapping[str, Change] | None = None,
) -> Path:
    """Writes them; record i goes to writer i % writers. `changes` spoil the Examples of some patches."""
    folder.mkdir()
    for split, names in splits.items():
        paths = [
            folder / (f"{split}.tfrecord" if writers == 1 else f"{split}_{number:02d}.tfrecord")
            for number in range(writers)
        ]
        for index, name in enumerate(names):
            example = _example(name, classes, s1)
            (changes or {}).get(name, lambda example: None)(example)
            with paths[index % writers].open("ab") as file:
                file.write(frame(example.SerializeToString()))
    return folder


def _config(folder: Path, out: Path, **changes: Any) -> ConvertConfig:
    return ConvertConfig(**{"archive": folder, "out": out, "shards": 2, "workers": 1, **changes})


def _data(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in hashes(out).items() if name != "manifest.json"}


@pytest.mark.parametrize(
    ("classes", "nomenclature", "s1", "writers", "workers"),
    [
        (43, "clc43", False, 1, 1),
        (43, "ben19", False, 2, 1),
        (19, "ben19", False, 2, 2),
        (43, "clc43", True, 2, 1),
    ],
)
def test_same_bytes_as_folders(
    v1: Path, tmp_path: Path, classes: int, nomenclature: str, s1: bool, writers: int, workers: int
) -> None:
    more = {"s1": v1 / "BigEarthNet-S1-v1.0"} if s1 else {}
    first = convert(v1_config(v1, tmp_path / "a", nomenclature=nomenclature, **more)).manifest
    folder = _write(tmp_path / "tfrecords", classes, s1, writers)
    chosen = "auto" if (classes == 43) == (nomenclature == "clc43") else nomenclature
    config = _config(folder, tmp_path / "b", nomenclature=chosen, workers=workers)
    outcome = convert(config)
    second = outcome.manifest
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    assert len(_data(tmp_path / "a")) > 6
    assert first is not None
    assert second is not None
    assert (first.statistics, first.splits) == (second.statistics, second.splits)
    # The folders hold a patch more than the lists.
    assert first.excluded == {"in no split list": 1, **second.excluded}
    assert sum(second.excluded.values()) == (nomenclature == "ben19")
    assert second.sources["layout"] == "tfrecord"
    assert second.sources["citation"] == first.sources["citation"]
    assert convert(config).already


def test_fractions_and_lists_divide_them_anew(v1: Path, tmp_path: Path) -> None:
    folder = _write(tmp_path / "tfrecords")
    changes: dict[str, Any] = {"split_fractions": (0.5, 0.25, 0.25), "split_by": "patch"}
    listed = {name for names in V1_SPLITS.values() for name in names}
    (tmp_path / "rest.csv").write_text("".join(f"{name}\n" for name in LABELS if name not in listed))
    exclude = (tmp_path / "rest.csv",)
    convert(v1_config(v1, tmp_path / "a", splits=None, exclude=exclude, **changes))
    convert(_config(folder, tmp_path / "b", **changes))
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    archives.write_lists(tmp_path, {"train": V1_SPLITS["test"], "val": V1_SPLITS["train"][:2]})
    convert(v1_config(v1, tmp_path / "c", splits=tmp_path))
    convert(_config(folder, tmp_path / "d", splits=tmp_path))
    assert _data(tmp_path / "c") == _data(tmp_path / "d")


def test_tasks_and_a_restart(v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _write(tmp_path / "tfrecords")
    convert(v1_config(v1, tmp_path / "a"))
    for task in ("0/2", "1/2"):
        convert(_config(folder, tmp_path / "b", task=task))
    convert(_config(folder, tmp_path / "b", finish=True))
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    done: list[str] = []
    again: list[str] = []

    def stops_at_the_third(job: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.file)
        return convert_shard(job)

    monkeypatch.setattr(run, "convert_shard", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        convert(_config(folder, tmp_path / "c"))

    def goes_on(job: Any) -> Any:
        again.append(job.file)
        return convert_shard(job)

    monkeypatch.setattr(run, "convert_shard", goes_on)
    convert(_config(folder, tmp_path / "c"))
    assert len(again) == 4
    assert not set(again) & set(done)
    assert _data(tmp_path / "a") == _data(tmp_path / "c")


def test_a_dry_run_counts_them(tmp_path: Path) -> None:
    told = preview(_config(_write(tmp_path / "tfrecords"), tmp_path / "out"))
    assert {name: split.patches for name, split in told.splits.items()} == {"train": 8, "val": 2, "test": 3}
    assert told.seconds is not None


def _set(key: str, values: list[int]) -> Change:
    return lambda example: example.features.feature[key].int64_list.value.__setitem__(
        slice(0, len(values)), values
    )


def _label(text: bytes) -> Change:
    return lambda example: example.features.feature["original_labels"].bytes_list.value.__setitem__(0, text)


FAULTS: dict[str, tuple[Change, str]] = {
    "negative": (_set("B03", [-1]), "B03 holds values outside 0 to 65,535"),
    "just too large": (_set("B8A", [5, 65_536]), "B8A holds values outside 0 to 65,535"),
    "four bytes": (_set("B01", [1 << 21]), "B01 holds values outside 0 to 65,535"),
    "short": (
        lambda example: example.features.feature["B05"].int64_list.value.pop(),
        "B05 has 3,599 values, not 60 x 60",
    ),
    "no band": (lambda example: example.features.feature.pop("B11"), "lacks B11"),
    "unknown label": (_label(b"Meadows"), "unknown label 'Meadows' for clc43"),
    "label not UTF-8": (_label(b"\xff"), "original_labels is no UTF-8"),
    "other label": (_label(b"Airports"), "original_labels_multi_hot does not say what original_labels does"),
    "no label": (
        lambda example: example.features.feature["original_labels"].bytes_list.ClearField("value"),
        "has no labels",
    ),
    "no name": (lambda example: example.features.feature.pop("patch_name"), "lacks patch_name"),
    "strange name": (
        lambda example: example.features.feature["patch_name"].bytes_list.value.__setitem__(0, b"a/b"),
        "patch_name 'a/b' is not the name of a patch of version 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_record_is_named(tmp_path: Path, fault: str) -> None:
    change, problem = FAULTS[fault]
    splits = {"train": V1_SPLITS["train"][:2]}
    folder = _write(tmp_path / "t", splits=splits, writers=1, changes={splits["train"][1]: change})
    with pytest.raises(DataError) as caught:
        convert(_config(folder, tmp_path / "out"))
    assert f"record 1: {problem}" in str(caught.value)
    assert str(folder / "train.tfrecord") in str(caught.value)
    assert "--on-error skip" in str(caught.value)
    found = convert(_config(folder, tmp_path / "out", on_error="skip", force=True)).manifest
    assert found is not None
    assert (found.splits["train"].records, found.excluded) == (1, {"faulty": 1})


def test_values_of_sentinel1_must_be_finite(tmp_path: Path) -> None:
    name = V1_SPLITS["train"][0]

    def spoil(example: Any) -> None:
        example.features.feature["VH"].float_list.value[7] = float("nan")

    folder = _write(tmp_path / "t", s1=True, splits={"train": [name]}, writers=1, changes={name: spoil})
    with pytest.raises(DataError, match="record 0: VH holds values that are not finite"):
        convert(_config(folder, tmp_path / "out"))
    (folder / "val.tfrecord").write_bytes(frame(_example(v1_name(9), 43, False).SerializeToString()))
    with pytest.raises(DataError, match="has no Sentinel-1 partner"):
        convert(_config(folder, tmp_path / "out"))


def test_duplicates_are_refused_or_both_left_out(tmp_path: Path) -> None:
    names = V1_SPLITS["train"][:3]
    folder = _write(tmp_path / "t", splits={"train": names, "test": names[1:2]}, writers=1)
    with pytest.raises(
        DataError, match=rf"record 1: duplicate patch {names[1]}: it is record 0 of .*test\.tfrecord"
    ):
        convert(_config(folder, tmp_path / "out"))
    found = convert(_config(folder, tmp_path / "out", on_error="skip")).manifest
    assert found is not None
    assert {name: split.records for name, split in found.splits.items() if split.records} == {"train": 2}


@pytest.mark.parametrize("fault", ["data", "length", "cut off"])
def test_damage_is_found(tmp_path: Path, fault: str) -> None:
    folder = _write(tmp_path / "t", splits={"train": V1_SPLITS["train"][:3]}, writers=1)
    path = folder / "train.tfrecord"
    data = bytearray(path.read_bytes())
    second = 16 + len(next(iter(read_records(path))))
    if fault == "cut off":
        del data[-5:]
    else:
        data[second + (100 if fault == "data" else 1)] ^= 4
    path.write_bytes(data)
    skip = _config(folder, tmp_path / "out", on_error="skip")
    if fault == "data":
        with pytest.raises(DataError, match=r"record 1: its data is damaged \(CRC\)"):
            convert(_config(folder, tmp_path / "out"))
        found = convert(skip).manifest
        assert found is not None
        assert (found.splits["train"].records, found.excluded) == (2, {"faulty": 1})
        return
    problem = {"length": r"record 1: its length is damaged \(CRC\)", "cut off": "record 2: is cut off"}[fault]
    with pytest.raises(DataError, match=problem):  # what is lost is not known
        convert(skip)


def test_a_file_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    names = V1_SPLITS["train"][:2]
    folder = _write(tmp_path / "t", splits={"train": names}, writers=1)
    places = tuberlin.index(tuberlin.find(folder))
    path = folder / "train.tfrecord"
    path.write_bytes(b"".join(map(frame, reversed(list(read_records(path))))))
    with pytest.raises(DataError, match=rf"train\.tfrecord: record 0: is {names[1]}, no longer {names[0]}"):
        tuberlin.read(places[names[0]], names[0], (), "clc43")


def test_flags_that_do_not_go_with_them(v1: Path, tmp_path: Path) -> None:
    folder = _write(tmp_path / "t", classes=19, splits={"train": V1_SPLITS["train"][:2]})
    cases: dict[str, dict[str, Any]] = {
        "--nomenclature clc43, but these TFRecords have labels of the 19 classes only": {
            "nomenclature": "clc43"
        },
        "--reference-maps, but these TFRecords hold none": {"reference_maps": True},
        "--s1 does not go with TFRecords": {"s1": v1 / "BigEarthNet-S1-v1.0"},
        "--include-snow-and-cloud is for version 2": {"include_snow_and_cloud": True},
    }
    for message, flags in cases.items():
        with pytest.raises(UsageError, match=message):
            convert(_config(folder, tmp_path / "out", **flags))
    (folder / "train_00.tfrecord").rename(folder / "train_02.tfrecord")
    with pytest.raises(UsageError, match=r"train_00\.tfrecord is missing"):
        convert(_config(folder, tmp_path / "out"))
    (folder / "train_02.tfrecord").rename(folder / "more.tfrecord")
    with pytest.raises(UsageError, match=re.escape("its name tells no split (train, val or test)")):
        convert(_config(folder, tmp_path / "out"))
    assert not (tmp_path / "out" / manifests.FILE_NAME).exists()


def test_every_value_of_uint16_is_decoded(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(1 << 16)
    example = Example()
    example.features.feature["x"].int64_list.value.extend(values.tolist())
    stored = tuberlin._parse(example.SerializeToString())
    np.testing.assert_array_equal(tuberlin._integers(stored, "x"), values)
