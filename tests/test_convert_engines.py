"""Conversions over MPI's ranks, by tasks side by side, and by two converters at once: real processes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jeoparda_tf.conversion import lock, tasks
from jeoparda_tf.conversion.run import convert
from jeoparda_tf.conversion.tasks import Task
from tests.archives import v1_name
from tests.conftest import REPOSITORY, faults, need_engine, need_module
from tests.conversions import hashes, v1_config
from tfrecords_tools import locks
from tfrecords_tools.errors import DataError, UsageError

SHARDS = 4
_AS_ROOT = ("--allow-run-as-root", "--oversubscribe")


def _arguments(root: Path, out: Path) -> list[str]:
    flags = ["--splits", root, "--shards", SHARDS, "--workers", 1]
    return [str(part) for part in (root / "BigEarthNet-v1.0", out, *flags)]


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture
def whole(v1: Path, tmp_path: Path) -> dict[str, str]:
    convert(v1_config(v1, tmp_path / "whole", shards=SHARDS))
    return hashes(tmp_path / "whole")


def _mpi(root: Path, out: Path) -> subprocess.Popen[str]:
    need_module("mpi4py")
    futures = ("-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "jeoparda_tf.convert")
    return _start(need_engine("mpirun"), *_AS_ROOT, *futures, *_arguments(root, out), "--executor", "mpi")


def test_mpi_writes_the_same_bytes(v1: Path, whole: dict[str, str], tmp_path: Path) -> None:
    process = _mpi(v1, tmp_path / "out")
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    assert hashes(tmp_path / "out") == whole


def test_mpi_tells_of_a_fault_and_of_a_wrong_start(v1: Path, tmp_path: Path) -> None:
    (v1 / "BigEarthNet-v1.0" / v1_name(0) / f"{v1_name(0)}_B05.tif").unlink()
    process = _mpi(v1, tmp_path / "out")
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 1, printed
    assert "_B05.tif: missing" in printed
    # In a process of its own: MPI leaves variables behind that the next mpirun stumbles over.
    process = _start(
        sys.executable, "-m", "jeoparda_tf.convert", *_arguments(v1, tmp_path / "other"), "--executor", "mpi"
    )
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 2, printed
    assert "not started by mpi4py.futures\n  start it so: mpirun -n 64 python -m mpi4py.futures" in printed
    assert not (tmp_path / "other").exists()


@pytest.mark.faults
@pytest.mark.parametrize("delay", faults([0.0, 0.02, 0.05, 0.1], 1))
def test_mpi_killed_ends_with_the_same_bytes(
    v1: Path, whole: dict[str, str], tmp_path: Path, delay: float
) -> None:
    out = tmp_path / "out"
    process = _mpi(v1, out)
    deadline = time.monotonic() + 120
    while not list(out.glob(".conversion/*.lock")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()[0]
    time.sleep(delay)
    children = psutil.Process(process.pid).children(recursive=True)
    for victim in [process, *children]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs(children, timeout=20)[1]
    process = _mpi(v1, out)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    assert hashes(out) == whole


def test_tasks_side_by_side(v1: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(v1_config(v1, out, shards=SHARDS, task="0/3"))
    with pytest.raises(DataError, match=r"6 of 9 shards are not finished: .*\n.*task s mod N"):
        convert(v1_config(v1, out, shards=SHARDS, finish=True))
    base = (sys.executable, "-m", "jeoparda_tf.convert", *_arguments(v1, out))
    both = [_start(*base, "--task", f"{index}/3") for index in (1, 2)]
    for process in both:
        printed, _ = process.communicate(timeout=240)
        assert process.returncode == 0, printed
        assert "with --finish in place of --task" in printed
    assert not (out / "manifest.json").exists()
    before = (out / "train-00000-of-00004.tfrecord").stat().st_mtime_ns
    convert(v1_config(v1, out, shards=SHARDS, finish=True))
    assert (out / "train-00000-of-00004.tfrecord").stat().st_mtime_ns == before
    assert hashes(out) == whole


def test_a_task_leaves_the_half_written_shards_of_others(v1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(v1_config(v1, out, shards=SHARDS, task="0/9"))
    other, own = (out / f"train-0000{index}-of-00004.tfrecord.tmp" for index in (1, 0))
    other.write_bytes(b"half")
    own.write_bytes(b"half")
    convert(v1_config(v1, out, shards=SHARDS, task="0/9"))
    assert (other.exists(), own.exists()) == (True, False)


def test_second_converter_is_refused(v1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(v1_config(v1, out, shards=SHARDS, task="1/2"))
    told = f"process {os.getpid()} on {socket.gethostname()}"
    with lock.held(out / ".conversion", Task(0, 2)):
        for changes in ({}, {"task": "0/2"}, {"task": "1/3"}, {"finish": True}, {"force": True}):
            with pytest.raises(UsageError, match=f"another conversion is at task 0/2 of it: {told}"):
                convert(v1_config(v1, out, shards=SHARDS, **changes))
        convert(v1_config(v1, out, shards=SHARDS, task="1/2"))
    with lock.held(out / ".conversion"), pytest.raises(UsageError, match=f"is at it: {told}"):
        convert(v1_config(v1, out, shards=SHARDS, task="0/2"))
    convert(v1_config(v1, out, shards=SHARDS))  # all locks are gone


def test_stale_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "whole.lock"

    def left(**changes: object) -> None:
        path.write_text(json.dumps({**locks.identity(), "since": "?", "task": None, **changes}))

    left(pid=2**22 + 1)  # above what Linux gives out: gone
    with lock.held(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    left(started="another process had this number")
    with lock.held(tmp_path):
        pass
    left(host="elsewhere")
    with pytest.raises(UsageError, match=rf"on elsewhere(.|\n)*if that process is no more, remove {path}"):
        lock.held(tmp_path).__enter__()
    left(host="elsewhere", job=["7", 0])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # Slurm has started this job anew: the first start is over
    with lock.held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_task_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks.parse(None) is None
    assert tasks.parse("3/16") == (3, 16)
    for wrong in ("16/16", "3", "-1/4", "0/0"):
        with pytest.raises(UsageError, match="count from 0"):
            tasks.parse(wrong)
    with pytest.raises(UsageError, match="no task of a Slurm array"):
        tasks.parse("auto")
    for name, value in {"ID": "5", "MIN": "1", "COUNT": "16"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert tasks.parse("auto") == (4, 16)
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    with pytest.raises(UsageError, match="outside an array of 2 from 1"):
        tasks.parse("auto")
