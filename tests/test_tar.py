"""Plain .tar archives: the same bytes as from folders, and clear words about members and damage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from jeoparda_tf.bigearthnet import tar
from jeoparda_tf.bigearthnet.packed import Index
from jeoparda_tf.conversion.run import convert
from tests.archives import v1_name
from tests.conversions import hashes, v1_config, v2_config
from tfrecords_tools.errors import DataError


def pack(folder: Path, target: Path) -> Path:
    """Packs the files of a folder so that those of a patch do not lie together."""
    with tarfile.open(target, "w") as archive:
        for path in sorted(folder.rglob("*.*"), key=lambda path: path.name[::-1]):
            archive.add(path, path.relative_to(folder.parent))
    return target


def _data(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in hashes(out).items() if name != "manifest.json"}


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_v1_same_bytes_as_folders(v1: Path, tmp_path: Path, workers: int, fractions: bool) -> None:
    s2 = pack(v1 / "BigEarthNet-v1.0", v1 / "BigEarthNet-S2-v1.0.tar")
    s1 = pack(v1 / "BigEarthNet-S1-v1.0", v1 / "BigEarthNet-S1-v1.0.tar")
    split = {"splits": None, "split_fractions": (0.5, 0.25, 0.25)} if fractions else {}
    first = convert(v1_config(v1, tmp_path / "a", s1=v1 / "BigEarthNet-S1-v1.0", **split)).manifest
    second = convert(v1_config(v1, tmp_path / "b", archive=s2, s1=s1, workers=workers, **split)).manifest
    assert _data(tmp_path / "a") == _data(tmp_path / "b")
    assert len(_data(tmp_path / "a")) > 2
    assert (first.statistics, first.splits, first.excluded) == (
        second.statistics,
        second.splits,
        second.excluded,
    )


def test_v2_same_bytes_as_folders(v2: Path, tmp_path: Path) -> None:
    s2 = pack(v2 / "BigEarthNet-S2", v2 / "BigEarthNet-S2.tar")
    s1 = pack(v2 / "BigEarthNet-S1", v2 / "BigEarthNet-S1.tar")
    convert(v2_config(v2, tmp_path / "a", s1=v2 / "BigEarthNet-S1", reference_maps=True))
    convert(v2_config(v2, tmp_path / "b", archive=s2, s1=s1, reference_maps=True, reader="rasterio"))
    assert _data(tmp_path / "a") == _data(tmp_path / "b")


def test_a_missing_band_is_named(v1: Path, tmp_path: Path) -> None:
    name = v1_name(5)
    (v1 / "BigEarthNet-v1.0" / name / f"{name}_B03.tif").unlink()
    s2 = pack(v1 / "BigEarthNet-v1.0", v1 / "s2.tar")
    with pytest.raises(DataError, match=rf"s2\.tar/{name}/{name}_B03\.tif: missing"):
        convert(v1_config(v1, tmp_path / "out", archive=s2))


@pytest.mark.parametrize("name", ["/etc/x/y.tif", "a/../../y.tif"])
def test_members_outside_are_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match=f"member {name} lies outside of it"):
        tar.index(tmp_path / "x.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("a/b.tif")
    member.type = kind
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(DataError, match=r"member a/b\.tif is a link or a device"):
        tar.index(tmp_path / "x.tar")


@pytest.mark.parametrize("size", [10, 512, 700, 1024, 1100, 1536, 2048])
def test_cut_off_anywhere(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a/1.tif", "a/2.tif"):
            member = tarfile.TarInfo(name)
            member.size = 300
            archive.addfile(member, io.BytesIO(b"x" * 300))
    assert list(tar.index(path)["a"].places) == ["1.tif", "2.tif"]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"x\.tar: (cut off|damaged or cut off|not a readable tar)"):
        tar.index(path)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_members_are_those_that_tarfile_finds(tmp_path: Path, form: int) -> None:
    path = tmp_path / "x.tar"
    names = ["a/b.tif", "./c/d.tif", f"{'e' * 90}/{'f' * 90}", "g/h.json"]
    names += [] if form == tarfile.USTAR_FORMAT else [f"{'i' * 200}/{'j' * 150}", "k/ü.tif"]
    with tarfile.open(path, "w", format=form) as archive:
        for number, name in enumerate(names):
            folder = tarfile.TarInfo(name.rpartition("/")[0])
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 511 * number, 1.5  # a fraction makes a pax header of its own
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
    with tarfile.open(path) as archive:
        wanted = [
            (*member.name.split("/")[-2:], member.offset_data, member.size)
            for member in archive
            if member.isfile()
        ]
    with path.open("rb") as file:
        streamed = list(tar.members(file, path))
    assert [member[:4] for member in streamed] == wanted
    assert [member.data for member in streamed] == [bytes([i]) * 511 * i for i in range(len(names))]
    index = tar.index(path)
    found = [(patch, file, *place) for patch in index for file, place in index[patch].places.items()]
    assert found == wanted
    index.write(tmp_path / "index.npz")
    assert dict(Index.load(tmp_path / "index.npz")) == dict(index)


def test_a_member_that_comes_again_counts_as_if_extracted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("a/1.tif", b"old"), ("b/1.tif", b"b"), ("a/1.tif", b"newer")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    index = tar.index(tmp_path / "x.tar")
    assert [index[name].read("1.tif") for name in index] == [b"newer", b"b"]


@pytest.mark.parametrize("hole", range(512, 2048, 512))
def test_a_hole_is_not_taken_for_the_end(tmp_path: Path, hole: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(5):
            archive.addfile(tarfile.TarInfo(f"a/{number}.tif"), io.BytesIO())
    data = bytearray(path.read_bytes())
    data[hole : hole + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"damaged: data after an end at byte {hole + 512:,}"):
        tar.index(path)


def test_a_damaged_header_loses_nothing_silently(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a/1.tif", "a/2.tif", "a/3.tif"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    data = bytearray(path.read_bytes())
    data[512 + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged: no header at byte 512"):
        tar.index(path)
