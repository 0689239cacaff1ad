"""--dry-run: what it tells is what the conversion then does, and it leaves nothing behind."""

from __future__ import annotations

import shutil
import tarfile
from functools import partial
from pathlib import Path

import pytest

from jeoparda_tf import convert as command
from jeoparda_tf.bigearthnet import stream
from jeoparda_tf.conversion import lookahead
from jeoparda_tf.conversion.config import ConvertConfig
from jeoparda_tf.conversion.preview import Preview, preview
from jeoparda_tf.conversion.run import convert
from tests import archives
from tests.archives import v1_name, v2_name
from tests.conversions import V1_SPLITS, v1_config, v2_config
from tests.test_gather import packed
from tfrecords_tools import manifest as manifests
from tfrecords_tools.errors import DataError, UsageError


def _holds_afterwards(config: ConvertConfig, tmp_path: Path) -> Preview:
    before = sorted(tmp_path.rglob("*"))
    told = preview(config)
    assert sorted(tmp_path.rglob("*")) == before
    convert(config)
    found = manifests.read(config.out)
    assert told.nomenclature == found.nomenclature
    assert list(told.splits) == list(found.splits)
    for name, split in found.splits.items():
        expected = (split.records, len(split.shards), sum(shard.bytes for shard in split.shards))
        assert told.splits[name][:3] == expected
        counts = told.splits[name].label_counts
        assert counts is None if told.archive.layout == "v1" else counts == split.label_counts
    # What is in no list, only the archive knows.
    listed = any(reading.listed for reading in told.readings)
    unknown = {"in no split list"} if listed and told.archive.layout == "v1" else set()
    assert told.excluded == {key: count for key, count in found.excluded.items() if key not in unknown}
    assert told.files == len(list(config.out.iterdir()))
    assert told.seconds is not None
    assert told.seconds > 0
    assert not told.faults
    return told


def test_version_1_with_sentinel_1(v1: Path, tmp_path: Path) -> None:
    config = v1_config(v1, tmp_path / "out", s1=v1 / "BigEarthNet-S1-v1.0", workers=2)
    _holds_afterwards(config, tmp_path)
    assert preview(config).workers == 2


def test_version_2_with_maps_and_without_validation(v2: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, names in {"train": [0, 1, 2, 3], "val": [], "test": [7]}.items():
        (lists / f"{split}.csv").write_text("".join(f"{v2_name(i)}\n" for i in names))
    told = _holds_afterwards(v2_config(v2, tmp_path / "out", splits=lists, reference_maps=True), tmp_path)
    assert {name: split[0] for name, split in told.splits.items() if split[0]} == {"train": 4, "test": 1}


def test_a_faulty_list_counts_as_the_conversion_counts(v1: Path, tmp_path: Path) -> None:
    listed = (v1 / "test.csv").read_text()
    (v1 / "test.csv").unlink()  # a link to the shared one
    (v1 / "test.csv").write_text(f"{listed}{v1_name(0)}\nS2A_MSIL2A_20170613T101031_1_1\n")
    told = _holds_afterwards(v1_config(v1, tmp_path / "out", on_error="skip"), tmp_path)
    # The patch of two lists, of train's eight, and the one that is not there.
    assert (told.splits["train"][0], told.excluded["faulty"]) == (7, 2)


def test_faults_of_the_sample_are_told(v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(v1 / "BigEarthNet-v1.0"), str(tmp_path / "out"), "--splits", str(v1), "--dry-run"]
    (v1 / "BigEarthNet-v1.0" / v1_name(0) / f"{v1_name(0)}_B05.tif").unlink()
    assert command.main(flags) == 0
    printed = capsys.readouterr().out
    assert f"{v1_name(0)}_B05.tif: missing" in printed
    assert "as for a sample of 8 patches" in printed
    for name in V1_SPLITS["train"]:
        shutil.rmtree(v1 / "BigEarthNet-v1.0" / name)
        (v1 / "BigEarthNet-v1.0" / name).mkdir()
    assert command.main(flags) == 0
    assert "none of 8 patches could be read" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_what_conversion_refuses_is_refused(v1: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one is needed"):
        preview(v1_config(v1, tmp_path / "out", workers=0))
    with pytest.raises(UsageError, match="version 1 holds no split"):
        preview(v1_config(v1, tmp_path / "out", splits=None))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.*"))


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_names_of_what_streams_by(v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without lists it is read to its end: the partners of Sentinel-1 are in it too."""
    size = _bytes(v1 / "BigEarthNet-v1.0") + _bytes(v1 / "BigEarthNet-S1-v1.0")
    first = f"{archives.SCENE}_33UUP_0_0"
    (v1 / "BigEarthNet-S1-v1.0" / first / f"{first}_labels_metadata.json").unlink()
    s2, s1 = packed(v1, "BigEarthNet-v1.0", ".gz"), packed(v1, "BigEarthNet-S1-v1.0", ".zst")
    config = v1_config(
        v1,
        tmp_path / "out",
        archive=s2,
        s1=s1,
        splits=None,
        split_fractions=(0.5, 0.25, 0.25),
        on_error="skip",
    )
    told = _holds_afterwards(config, tmp_path)
    assert told.excluded == {"faulty": 2}  # the file, and the patch without a partner
    assert sum(reading.bytes for reading in told.readings) == pytest.approx(size, rel=1e-3)
    assert all(reading.seconds > 0 and not reading.listed for reading in told.readings)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(lookahead, "_HEAD", 100_000)
    assert preview(config).splits == told.splits
    _halved(s2)
    with pytest.raises(DataError, match="cut off"):
        preview(config)


def _by_patch(root: Path, name: str, backwards: bool = False) -> Path:
    """Packs a folder patch by patch."""
    with tarfile.open(root / f"{name}.tar.gz", "w:gz") as archive:
        for path in sorted((root / name).rglob("*.*"), reverse=backwards):
            archive.add(path, path.relative_to(root))
    return root / f"{name}.tar.gz"


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_lists_and_tables_spare_reading_what_streams_by(
    request: pytest.FixtureRequest, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root: Path = request.getfixturevalue(layout)
    if layout == "v1":
        names = ["BigEarthNet-v1.0", "BigEarthNet-S1-v1.0"]
        for path in root.glob("*.csv"):
            listed = path.read_text().split()
            path.unlink()
            partners = (f"{archives.SCENE}_33UUP_{name.split('_', 3)[3]}" for name in listed)
            path.write_text("".join(f"{name},{partner}\n" for name, partner in zip(listed, partners)))
        make = partial(v1_config, root, tmp_path / "out")
    else:
        names = ["BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"]
        make = partial(v2_config, root, tmp_path / "out")
    # The sample's own Sentinel-1 and maps are at the ends: it is measured with those of other patches.
    packed = {
        key: _by_patch(root, name, backwards=key != "archive")
        for key, name in zip(("archive", "s1", "maps"), names)
    }
    monkeypatch.setattr(lookahead, "_HEAD", 400_000)  # two patches and a half, or 13 maps
    monkeypatch.setattr(stream, "_CHUNK", 1 << 16)
    config = make(**packed)
    told = _holds_afterwards(config, tmp_path)
    assert told.sampled == 2
    assert all(reading.listed and reading.unpacked < 600_000 for reading in told.readings)
    size = sum(_bytes(root / name) for name in names)
    assert sum(reading.bytes for reading in told.readings) == pytest.approx(size, rel=0.2)
    _halved(config.archive)
    assert preview(config).splits == told.splits


def test_standard_input_is_not_used_up(v1: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dry-run would use standard input up"):
        preview(v1_config(v1, tmp_path / "out", archive=Path("-")))
