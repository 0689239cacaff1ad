"""Conversions that are killed, stopped or run out of disk: real processes, and the same bytes in the end."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from jeoparda_tf.conversion.run import convert
from tests import archives
from tests.archives import LABELS
from tests.conftest import REPOSITORY, faults
from tests.conversions import hashes, read_back, v1_config
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest

PATCHES, SHARDS = 60, 10
FOLDERS, TAR = "BigEarthNet-v1.0", "BigEarthNet-S2-v1.0.tar"


class Point(NamedTuple):
    """When a conversion is killed: so many seconds after so many shards have been finished."""

    archive: str
    finished: int
    delay: float


_chance = random.Random(0)
# With the four over MPI, in test_convert_engines, these are twenty.
POINTS = [Point(FOLDERS if i % 2 else TAR, i * SHARDS // 16, _chance.uniform(0, 0.2)) for i in range(16)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of links to a few patches: long enough to be killed in its middle, quick to write."""
    root = tmp_path_factory.mktemp("archive")
    archives.write_v1(root, [[label] for label in LABELS])
    folder = root / "BigEarthNet-v1.0"
    first = archives.v1_name(0)
    for index in range(len(LABELS), PATCHES):
        name = archives.v1_name(index)
        (folder / name).mkdir()
        for path in (folder / first).iterdir():
            os.link(path, folder / name / path.name.replace(first, name))
    return archives.write_lists(root, {"train": [archives.v1_name(index) for index in range(PATCHES)]})


@pytest.fixture(scope="module")
def whole(root: Path) -> dict[str, str]:
    convert(v1_config(root, root / "whole", shards=SHARDS))
    return hashes(root / "whole")


@pytest.fixture(scope="module")
def whole_of_tar(root: Path) -> dict[str, str]:
    with tarfile.open(root / TAR, "w", dereference=True) as archive:  # files, though they are links
        archive.add(root / FOLDERS, FOLDERS)
    convert(v1_config(root, root / "whole_of_tar", archive=root / TAR, shards=SHARDS))
    return hashes(root / "whole_of_tar")


def _start(root: Path, out: Path, *flags: str, archive: str = FOLDERS) -> subprocess.Popen[str]:
    # rasterio, the slower one: more moments to be killed at.
    command = [sys.executable, "-m", "jeoparda_tf.convert", root / archive, out, "--splits", root]
    options = ["--shards", SHARDS, "--reader", "rasterio", "--workers", 2, *flags]
    return subprocess.Popen(
        [str(part) for part in [*command, *options]],
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell starts what runs in its background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _run(root: Path, out: Path, *flags: str, archive: str = FOLDERS) -> tuple[int, str]:
    process = _start(root, out, *flags, archive=archive)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def _wait_for(out: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(out.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _left_alone(children: list[psutil.Process]) -> list[psutil.Process]:
    """Returns those that are still alive a while after their parent's end."""
    return psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.faults
@pytest.mark.parametrize("point", faults(POINTS, 4), ids=str)
def test_killed_at_a_random_point_ends_with_the_same_bytes(
    root: Path, whole: dict[str, str], whole_of_tar: dict[str, str], tmp_path: Path, point: Point
) -> None:
    out, expected = tmp_path / "out", whole_of_tar if point.archive.endswith(".tar") else whole
    process = _start(root, out, archive=point.archive)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.tfrecord"))) < point.finished or not list(out.glob("*.tmp")):
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.001)
    time.sleep(point.delay)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    printed, _ = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), printed
    assert not _left_alone(children)  # workers that live on would write beside those of the next run
    left = hashes(out)
    # What has its name is whole, and the manifest is there only when all else is.
    named = {name: digest for name, digest in left.items() if name.endswith(".tfrecord")}
    assert named.items() <= expected.items()
    assert expected.items() <= left.items() or "manifest.json" not in left
    status, printed = _run(root, out, archive=point.archive)
    assert status == 0, printed
    assert hashes(out) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_cleanly(root: Path, whole: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = _start(root, out)
    _wait_for(out, "*.tmp", process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.strip() == "stopped; the same command continues with the shards that are missing"
    assert not _left_alone(children)
    assert not list(out.glob("*.tmp"))
    assert not (out / "manifest.json").exists()
    assert _run(root, out)[0] == 0
    assert hashes(out) == whole


def test_a_killed_worker_is_told_of(root: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _start(root, out)
    _wait_for(out, "*.tmp", process)
    workers = [
        child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
    ]
    workers[0].kill()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process was killed" in printed
    assert "fewer --workers" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("*.tmp"))
    assert _run(root, out)[0] == 0
    assert hashes(out) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk(root: Path, whole: dict[str, str], small_disk: Path, workers: int) -> None:
    out = small_disk / "out"
    status, printed = _run(root, out, "--workers", str(workers))
    assert status == 1
    assert "cannot be written: No space left on device" in printed
    assert "free some space" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("*.tmp"))
    assert not (out / "manifest.json").exists()
    kept = hashes(out)
    finished = {name: digest for name, digest in kept.items() if name.endswith(".tfrecord")}
    assert finished
    assert {name: whole[name] for name in finished} == finished  # what has its name is whole
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert _run(root, out)[0] == 0
    assert hashes(out) == whole


def test_full_disk_at_the_end(
    root: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the manifest: the shards wait for the next run."""

    def full(manifest: Manifest, directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = v1_config(root, tmp_path / "out", shards=SHARDS)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", full)
        with pytest.raises(DataError, match=r"manifest\.json: cannot be written: No space left on device"):
            convert(config)
    before = (tmp_path / "out" / "train-00000-of-00010.tfrecord").stat().st_mtime_ns
    convert(config)
    assert (tmp_path / "out" / "train-00000-of-00010.tfrecord").stat().st_mtime_ns == before
    assert hashes(tmp_path / "out") == whole


def test_the_archive_vanishes(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-al", root, copy], check=True)
    process = _start(copy, tmp_path / "out")
    _wait_for(tmp_path / "out", "*.tmp", process)
    (copy / "BigEarthNet-v1.0").rename(copy / "gone")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "missing" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_one_worker_is_this_process(root: Path, whole: dict[str, str], tmp_path: Path) -> None:
    before = psutil.Process().children()
    convert(v1_config(root, tmp_path / "out", shards=SHARDS, workers=1))
    assert psutil.Process().children() == before
    assert hashes(tmp_path / "out") == whole
    assert len(read_back(tmp_path / "out")["train"]) == PATCHES
