"""Plain .tar archives: the same bytes as from folders, and clear words about members and damage."""

from __future__ import annotations

import io
import os
import re
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


def _packed(path: Path, *names: str, kinds: bytes = b"", form: int = tarfile.GNU_FORMAT) -> Path:
    """A tar of files that hold their own names, of kinds other than 0 where told."""
    with tarfile.open(path, "w", format=form) as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.type = len(name), kinds[number : number + 1] or tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(name.encode()))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("top", ["", "./", "x/", f"{'y' * 60}/{'z' * 40}/"])
def test_files_are_found_however_their_patches_alternate(tmp_path: Path, top: str, form: int) -> None:
    patches = [f"S2A_{number}_{'p' * 20}" for number in (1, 11, 2)]
    files = [f"{patch}/{patch}_{band}.tif" for band in ("B01", "B02") for patch in patches]
    files += [f"{patches[0]}/{patches[1]}_B01.tif", f"{patches[0]}/B01.tif", f"{patches[1]}/{patches[1]}"]
    index = tar.index(_packed(tmp_path / "x.tar", *(top + name for name in files), form=form))
    found = {f"{patch}/{file}" for patch in index for file in index[patch].places}
    assert found == set(files)
    for name in files:
        patch, file = name.split("/")
        for held in (index[patch], index[patch].loaded()):
            assert bytes(held.read(file)).decode() == top + name


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "name", ["/{0}/{0}_B01.tif", "/x/{0}/{0}_B01.tif", "x/{0}/../{0}_B01.tif", "../{0}_B01.tif"]
)
def test_members_outside_are_refused_among_others(tmp_path: Path, name: str, form: int) -> None:
    patch = "S2A_" + "p" * 60
    others = [f"x/{patch}/{patch}_{band}.tif" for band in ("B01", "B02")]
    wrong = name.format(patch)
    path = _packed(tmp_path / "x.tar", *others, wrong, *others, form=form)
    with pytest.raises(DataError, match=f"member {re.escape(wrong)} lies outside of it"):
        tar.index(path)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6"])
def test_links_and_devices_are_refused_among_others(tmp_path: Path, kind: bytes) -> None:
    names = [f"x/a/a_{band}.tif" for band in ("B01", "B02", "B01")]
    path = _packed(tmp_path / "x.tar", *names, kinds=b"00" + kind)
    with pytest.raises(DataError, match=r"member x/a/a_B01\.tif is a link or a device"):
        tar.index(path)


@pytest.mark.parametrize(
    "bit", [0, 99 * 8, 124 * 8 + 1, 135 * 8 - 7, 148 * 8, 156 * 8, 257 * 8, 345 * 8, 511 * 8]
)
def test_a_flipped_bit_in_any_header_is_found(tmp_path: Path, bit: int) -> None:
    path = _packed(tmp_path / "x.tar", *(f"x/a/a_{band}.tif" for band in range(40)))
    assert len(tar.index(path)["a"].places) == 40
    data = bytearray(path.read_bytes())
    for place in (0, 20 * 1024, 39 * 1024):
        data[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"no header at byte {place:,}($|\D)"):
            tar.index(path)
        data[place + bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("size", [b"-0000010000", b"-00000000001"])
def test_a_negative_size_does_not_lead_back(tmp_path: Path, size: bytes) -> None:
    path = _packed(tmp_path / "x.tar", *(f"x/a/a_{band}.tif" for band in range(40)))
    data = bytearray(path.read_bytes())
    header = data[20 * 1024 : 20 * 1024 + 512]
    header[124:136], header[148:156] = size.ljust(12, b"\0"), b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[20 * 1024 : 20 * 1024 + 512] = header
    path.write_bytes(data)
    with pytest.raises(DataError, match="no header at byte 20,480"):
        tar.index(path)


def test_files_of_a_patch_far_apart_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, far = tmp_path / "x.tar", 5 << 20
    with tarfile.open(path, "w") as archive:
        for name, size in (("x/a/a_1.tif", 3), ("x/b/b_1.tif", far), ("x/a/a_2.tif", 4), ("x/a/a_3.tif", 5)):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(name[-5:-4].encode() * size))
    sizes = []
    read = os.pread
    monkeypatch.setattr(
        os, "pread", lambda file, size, offset: sizes.append(size) or read(file, size, offset)
    )
    index = tar.index(path)
    sizes.clear()
    contents = index["a"].loaded().contents
    assert {file: bytes(data) for file, data in contents.items()} == {
        "a_1.tif": b"111",
        "a_2.tif": b"2222",
        "a_3.tif": b"33333",
    }
    assert sum(sizes) == 12


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
