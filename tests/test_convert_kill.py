"""Conversions that are killed or stopped: real processes, on every engine, and the same bytes in the end."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import psutil
import pytest

from jeoparda_tf.conversion.run import convert
from tests.conftest import faults, need_engine, need_module
from tests.conversions import hashes, read_back, v1_config
from tests.processes import (
    FOLDERS,
    GZIP,
    PATCHES,
    SHARDS,
    TAR,
    ZSTANDARD,
    children_of,
    left_alone,
    run,
    shards_in,
    start,
    wait_for,
    wait_until,
    write_long,
)

Whole = Callable[..., dict[str, str]]


class Point(NamedTuple):
    """When a conversion is killed: so many seconds after so many shards, or MB of spill files, have been written."""

    archive: str
    finished: int
    delay: float
    spilled: Optional[float] = None


_chance = random.Random(0)
# With the four over MPI, in test_convert_engines, these are twenty; the passes over streams come to that.
POINTS = [Point(FOLDERS if i % 2 else TAR, i * SHARDS // 16, _chance.uniform(0, 0.2)) for i in range(16)]
PASSES = [Point((GZIP, ZSTANDARD)[i % 2], 0, _chance.uniform(0, 0.02), 1.5 * i) for i in range(6)]
AFTER = [Point((GZIP, ZSTANDARD)[i % 2], 3 * i, _chance.uniform(0, 0.2)) for i in range(4)]
_LITTLE = ("--memory", "1MB")  # so that spill files grow from the start


def _finished(out: Path) -> int:
    return len(list(out.glob("*.tfrecord")))


def _spilled(out: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # the conversion has ended meanwhile
        return sum(path.stat().st_size for path in out.glob(".conversion/*.spill")) / 1e6
    return math.inf


@pytest.mark.faults
@pytest.mark.parametrize("point", [*faults(POINTS, 4), *faults(PASSES, 1), *faults(AFTER, 1)], ids=str)
def test_killed_at_a_random_point_ends_with_the_same_bytes(
    long: Path, whole: Whole, tmp_path: Path, point: Point
) -> None:
    out, expected = tmp_path / "out", whole(point.archive)
    process = start(long, out, *_LITTLE, archive=point.archive)
    if point.spilled is None:
        wait_until(lambda: _finished(out) >= point.finished and list(out.glob("*.tmp")), process)
    else:
        wait_until(lambda: _spilled(out) >= point.spilled and list(out.glob(".conversion/*.lock")), process)
    time.sleep(point.delay)
    children = children_of(process)
    process.kill()
    printed, _ = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), printed
    assert not left_alone(children)  # workers that live on would write beside those of the next run
    left = hashes(out)
    # What has its name is whole, and the manifest is there only when all else is.
    assert shards_in(out).items() <= expected.items()
    assert expected.items() <= left.items() or "manifest.json" not in left
    status, printed = run(long, out, *_LITTLE, archive=point.archive)
    assert status == 0, printed
    assert hashes(out) == expected


_GO_ON = "stopped; the same command continues with the shards that are missing"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "flags"), [(_SIGNALS[0], ()), (_SIGNALS[1], ()), (_SIGNALS[1], ("--task", "0/2"))]
)
def test_stopped_cleanly(
    long: Path, whole: Whole, tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    process = start(long, out, *flags)
    wait_for(out, "*.tmp", process)
    children = children_of(process)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.strip() == _GO_ON
    assert not left_alone(children)
    _nothing_half_done(out)
    for more in (flags, ("--task", "1/2"), ("--finish",)) if flags else ((),):
        assert run(long, out, *more)[0] == 0
    assert hashes(out) == whole()


def _nothing_half_done(out: Path) -> None:
    assert not list(out.glob("*.tmp"))
    assert not list(out.glob(".conversion/*.lock"))
    assert not (out / "manifest.json").exists()


@pytest.mark.faults
@pytest.mark.parametrize("number", faults(_SIGNALS, 1))
def test_mpi_stopped_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    need_module("mpi4py")
    need_engine("mpirun")
    # Long: mpirun sends all ranks SIGTERM after a second, and SIGKILL after another.
    root, out = write_long(tmp_path, 16 * PATCHES), tmp_path / "out"
    process = start(root, out, mpi=True)
    wait_for(out, "*.tmp", process)
    process.send_signal(number)
    children = children_of(process)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert _GO_ON in printed
    assert "Traceback" not in printed
    assert not left_alone(children)
    _nothing_half_done(out)
    for directory in (out, tmp_path / "whole"):
        convert(v1_config(root, directory, shards=SHARDS))
    assert hashes(out) == hashes(tmp_path / "whole")


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_pass_stopped_cleanly(long: Path, whole: Whole, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = start(long, out, *_LITTLE, archive="-", stdin=subprocess.PIPE)
    assert process.stdin
    data = (long / GZIP).read_bytes()
    process.stdin.buffer.write(data[: len(data) // 2])
    process.stdin.flush()
    wait_for(out, ".conversion/*.spill", process)
    process.send_signal(number)
    process.wait(timeout=60)  # with its input open
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.strip() == "stopped; the same command reads standard input again, from its beginning"
    _nothing_half_done(out)
    assert not list(out.glob(".conversion/*.spill"))
    assert run(long, out, archive=GZIP)[0] == 0
    assert shards_in(out) == {name: whole()[name] for name in shards_in(out)}
    assert len(shards_in(out)) == SHARDS


def test_a_killed_worker_is_told_of(long: Path, whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(long, out)
    wait_for(out, "*.tmp", process)
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
    assert run(long, out)[0] == 0
    assert hashes(out) == whole()


def test_one_worker_is_this_process(long: Path, whole: Whole, tmp_path: Path) -> None:
    before = psutil.Process().children()
    convert(v1_config(long, tmp_path / "out", shards=SHARDS, workers=1))
    assert psutil.Process().children() == before
    assert hashes(tmp_path / "out") == whole()
    assert len(read_back(tmp_path / "out")["train"]) == PATCHES
