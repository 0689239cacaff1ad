"""A signal to any rank ends all at the same step with a checkpoint; resumed, the run is one that was never stopped."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from jeoparda_tf.training import preemption
from tests import shards
from tests.conftest import REPOSITORY, need_engine

pytestmark = pytest.mark.tensorflow

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
# Long enough to be still running when the signal comes, on a fast machine too.
EPOCHS = "25"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "shards"
    shards.write(directory, {"train": 67, "val": 5}, shards=2)
    return directory


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> np.ndarray:
    """History of two ranks that no signal came to."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    run(data, workdir, 2)
    return rows(workdir)


def command(data: Path, workdir: Path, ranks: int, *flags: str) -> list[str]:
    launcher = [need_engine("horovodrun"), "--gloo", "-np", str(ranks)] if ranks else []
    return [
        *launcher, sys.executable, "-m", "jeoparda_tf.fit", "--data", str(data), "--workdir", str(workdir),
        "--model", "tiny", "--bands", "rgb", "--batch", "4", "--epochs", EPOCHS, "--mixup", "0.2", "--resume", *flags,
    ]  # fmt: skip


def run(*args, **kwargs) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*args), env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def rows(workdir: Path) -> np.ndarray:
    with (workdir / "history.csv").open() as file:
        read = list(csv.DictReader(file))
    names = [name for name in read[0] if name not in ("seconds", "images_per_second")]
    return np.array([[float(row[name]) for name in names] for row in read])


def rank_processes(launcher: int) -> list[psutil.Process]:
    """Returns the processes that train, in the order of their ranks."""
    family = [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    python = [p for p in family if p.cmdline()[1:3] == ["-m", "jeoparda_tf.fit"]]
    return sorted(python, key=lambda p: int(p.environ().get("HOROVOD_RANK", "0")))


def checkpoints(workdir: Path) -> str:
    """Returns the name of the last checkpoint; empty before the first."""
    return max((path.name for path in (workdir / "checkpoints").glob("step-*")), default="")


def stop(arguments: list[str], workdir: Path, number: int, rank: int) -> tuple[int, str]:
    """Starts a run, sends one rank a signal after the first epochs, returns exit code and what was said."""
    with subprocess.Popen(
        arguments,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts what runs in its background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        limit, before = time.monotonic() + 200, checkpoints(workdir)
        while checkpoints(workdir) <= before:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.05)
        rank_processes(process.pid)[rank].send_signal(number)
        said, _ = process.communicate(timeout=120)
    return process.returncode, said


def stopped_at(said: str, name: str) -> int:
    """Returns the step; one rank alone must have told it."""
    found = re.findall(rf"stopped: {name} came; saved at step (\d+) of \d+", said)
    assert len(found) == 1, said
    assert "error:" not in re.sub(r"(?m)^.*horovodrun.*$", "", said), said
    return int(found[0])


def test_one_process_stops_saved_and_goes_on_exactly(data, tmp_path):
    run(data, tmp_path / "whole", 0)
    workdir = tmp_path / "stopped"
    code, said = stop(command(data, workdir, 0), workdir, signal.SIGUSR1, 0)
    assert code == 75, said
    step = stopped_at(said, "SIGUSR1")
    assert checkpoints(workdir) == f"step-{step:08d}"
    code, said = stop(command(data, workdir, 0), workdir, signal.SIGINT, 0)
    assert code == 130, said
    assert stopped_at(said, "SIGINT") > step
    run(data, workdir, 0)
    np.testing.assert_allclose(rows(workdir), rows(tmp_path / "whole"), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step(data, undisturbed, tmp_path, rank):
    workdir = tmp_path / "stopped"
    code, said = stop(command(data, workdir, 2), workdir, signal.SIGTERM, rank)
    assert code != 0, said
    step = stopped_at(said, "SIGTERM")
    staged = tmp_path / "node"
    again = run(data, workdir, 2, "--stage", str(staged))
    assert f"resuming at step {step}" in again.stdout
    np.testing.assert_allclose(rows(workdir), undisturbed, rtol=1e-3, atol=1e-5)
    # What was read the second time is the copy on the node: the shards of train and val, byte for byte.
    copies = {file.name: file.read_bytes() for file in staged.glob("*/*")}
    assert copies == {file.name: file.read_bytes() for file in data.glob("*.tfrecord")}


def test_signals_are_noted_and_their_handlers_put_back():
    before = signal.getsignal(signal.SIGUSR1)
    with preemption.requests() as request:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert request.signal == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before
    assert (preemption.exit_code(signal.SIGINT), preemption.exit_code(signal.SIGTERM)) == (130, 75)
    request = preemption.Request()
    request.note(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        request.note(signal.SIGINT)
