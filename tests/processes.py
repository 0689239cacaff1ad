"""Conversions in processes of their own, on every engine, of an archive that takes them a few seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

from jeoparda_tf.conversion.run import convert
from tests import archives
from tests.archives import LABELS
from tests.conversions import compress, hashes, v1_config

REPOSITORY = Path(__file__).resolve().parent.parent
PATCHES, SHARDS = 60, 10
FOLDERS, TAR = "BigEarthNet-v1.0", "BigEarthNet-S2-v1.0.tar"
GZIP, ZSTANDARD = f"{TAR}.gz", f"{TAR}.zst"
# Root may start MPI's ranks in tests, more of them than there are cores.
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3")


def write_long(root: Path, patches: int) -> Path:
    """Writes an archive of links to a few patches: long enough to be killed in its middle, quick to write."""
    archives.write_v1(root, [[label] for label in LABELS])
    folder = root / FOLDERS
    first = archives.v1_name(0)
    for index in range(len(LABELS), patches):
        name = archives.v1_name(index)
        (folder / name).mkdir()
        for path in (folder / first).iterdir():
            os.link(path, folder / name / path.name.replace(first, name))
    return archives.write_lists(root, {"train": [archives.v1_name(index) for index in range(patches)]})


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long archive, as folders and as tars."""
    root = write_long(tmp_path_factory.mktemp("archive"), PATCHES)
    with tarfile.open(root / TAR, "w", dereference=True) as archive:  # files, though they are links
        archive.add(root / FOLDERS, FOLDERS)
    for suffix in (".gz", ".zst"):
        compress(root / TAR, suffix)
    return root


@pytest.fixture(scope="session")
def whole(long: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """What an undisturbed conversion writes of the long archive, by the source that is read."""
    known: dict[str, dict[str, str]] = {}

    def of(archive: str = FOLDERS) -> dict[str, str]:
        if archive not in known:
            out = tmp_path_factory.mktemp("whole") / "out"
            convert(v1_config(long, out, archive=long / archive, shards=SHARDS))
            known[archive] = hashes(out)
        data = [{name: found[name] for name in found if name != "manifest.json"} for found in known.values()]
        assert all(own == data[0] for own in data)
        return known[archive]

    return of


def start(
    root: Path, out: Path, *flags: object, archive: str = FOLDERS, mpi: bool = False, stdin: Any = None
) -> subprocess.Popen[str]:
    """Starts a conversion in two worker processes, or on MPI's ranks; "-" for the archive is standard input."""
    # rasterio, the slower one: more moments to be killed at.
    options = ("--splits", root, "--shards", SHARDS, "--reader", "rasterio", *flags)
    engine = (*MPIRUN, sys.executable, "-m", "mpi4py.futures") if mpi else (sys.executable,)
    workers = ("--executor", "mpi") if mpi else () if "--workers" in flags else ("--workers", 2)
    source = archive if archive == "-" else root / archive
    command = (*engine, "-m", "jeoparda_tf.convert", source, out, *options, *workers)
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=REPOSITORY,
        text=True,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell starts what runs in its background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(root: Path, out: Path, *flags: object, archive: str = FOLDERS, mpi: bool = False) -> tuple[int, str]:
    """Runs a conversion; returns its exit code and what it printed."""
    process = start(root, out, *flags, archive=archive, mpi=mpi)
    printed, _ = process.communicate(timeout=240)
    return process.returncode, printed


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits for something to be so, or for the end of the process."""
    deadline = time.monotonic() + 120
    while not true() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def wait_for(out: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Waits for a file."""
    wait_until(lambda: list(out.glob(pattern)), process)


def left_alone(children: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Returns those that are still alive a while after their parent's end."""
    return psutil.wait_procs(children, timeout=20)[1]


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Returns all processes that a process has started, and those that they have."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def shards_in(out: Path) -> dict[str, str]:
    """Returns the hashes of the shards that have their names."""
    return {name: digest for name, digest in hashes(out).items() if name.endswith(".tfrecord")}
