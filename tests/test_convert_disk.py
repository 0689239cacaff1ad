"""Conversions that run out of disk, or whose source vanishes, on every engine: a clear error, nothing looks whole."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from jeoparda_tf.conversion.run import convert
from tests.conftest import faults, need_engine, need_module
from tests.conversions import hashes, v1_config
from tests.processes import FOLDERS, GZIP, SHARDS, run, shards_in, start, wait_for
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest

Whole = Callable[..., dict[str, str]]


class Way(NamedTuple):
    """How to convert: `room` is of a disk that is too small for it, in MB; `next` flags of what has to follow."""

    name: str
    flags: tuple[str, ...] = ()
    archive: str = FOLDERS
    mpi: bool = False
    room: int = 5
    next: tuple[tuple[str, ...], ...] = ()


FOLLOWING = (("--task", "1/2"), ("--finish",))
ONE_PROCESS = [Way("one worker", ("--workers", "1")), Way("two workers", ("--workers", "2"))]
ENGINES = [
    Way("MPI", mpi=True),
    Way("task", ("--task", "0/2"), room=3, next=FOLLOWING),
    Way("pass over a stream", ("--memory", "1MB"), GZIP),
    Way("after the pass, MPI", archive=GZIP, mpi=True, room=14),
]
WAYS = [*ONE_PROCESS, *faults(ENGINES, 4)]


def _need(way: Way) -> None:
    if way.mpi:
        need_module("mpi4py")
        need_engine("mpirun")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def _room(disk: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", disk], check=True)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_full_disk(long: Path, whole: Whole, small_disk: Path, way: Way) -> None:
    _need(way)
    _room(small_disk, way.room)
    out, expected = small_disk / "out", whole(way.archive)
    status, printed = run(long, out, *way.flags, archive=way.archive, mpi=way.mpi)
    assert status == 1, printed
    assert "cannot be written: No space left on device" in printed
    assert "free some space" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("*.tmp"))
    assert not (out / "manifest.json").exists()
    finished = shards_in(out)
    assert finished.items() <= expected.items()  # what has its name is whole
    assert bool(finished) == (way.name != "pass over a stream")
    _room(small_disk, 50)
    for flags in (way.flags, *way.next):
        status, printed = run(long, out, *flags, archive=way.archive, mpi=way.mpi)
        assert status == 0, printed
    assert hashes(out) == expected


def test_full_disk_at_the_end(
    long: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the manifest: the shards wait for the next run."""

    def full(manifest: Manifest, directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = v1_config(long, tmp_path / "out", shards=SHARDS)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", full)
        with pytest.raises(DataError, match=r"manifest\.json: cannot be written: No space left on device"):
            convert(config)
    before = (tmp_path / "out" / "train-00000-of-00010.tfrecord").stat().st_mtime_ns
    convert(config)
    assert (tmp_path / "out" / "train-00000-of-00010.tfrecord").stat().st_mtime_ns == before
    assert hashes(tmp_path / "out") == whole()


@pytest.mark.parametrize("way", [*ONE_PROCESS[1:], *ENGINES[:2]], ids=lambda way: way.name)
def test_the_archive_vanishes(long: Path, whole: Whole, tmp_path: Path, way: Way) -> None:
    _need(way)
    copy, out = tmp_path / "copy", tmp_path / "out"
    subprocess.run(["cp", "-al", long, copy], check=True)
    process = start(copy, out, *way.flags, mpi=way.mpi)
    wait_for(out, "*.tmp", process)
    (copy / FOLDERS).rename(copy / "gone")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "missing" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("*.tmp"))
    assert not (out / "manifest.json").exists()
    assert shards_in(out).items() <= whole().items()


def test_what_streams_by_breaks_off(long: Path, tmp_path: Path) -> None:
    """As when the connection of a download into standard input is lost."""
    out, data = tmp_path / "out", (long / GZIP).read_bytes()
    process = start(long, out, "--memory", "1MB", archive="-", stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.buffer.write(data[: len(data) // 2])
    process.stdin.flush()
    wait_for(out, ".conversion/*.spill", process)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cut off or damaged" in printed
    assert f"read up to byte {len(data) // 2:,}" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("*.tfrecord"))
    assert not list(out.glob(".conversion/*.spill"))
