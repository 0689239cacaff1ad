"""What breaks on clusters, broken on real ranks: one message, and --resume ends as if nothing had been."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.stack import tf
from tests import shards
from tests.conftest import REPOSITORY, faults, need_engine

pytestmark = [pytest.mark.tensorflow, pytest.mark.faults]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
LAUNCHERS = {
    "horovodrun": ["--gloo", "-np"],
    "mpirun": ["--allow-run-as-root", "--oversubscribe", "-np"],
}
# The limit is long enough for busy machines: whoever is merely slow must not be taken for silent.
EPOCHS, LIMIT = 25, 20
FEATURES = (*bands.S2_FEATURES, bands.S1_FEATURE)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "shards"
    shards.write(
        directory, {"train": 67, "val": 5}, shards=2, features=(*bands.S2_FEATURES, bands.S1_FEATURE)
    )
    return directory


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> np.ndarray:
    """History of two ranks that nothing happened to."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(data, workdir)
    return rows(workdir)


def command(
    data: Path, workdir: Path, *flags: str, launcher: str = "horovodrun", ranks: int = 2
) -> list[str]:
    start = [need_engine(launcher), *LAUNCHERS[launcher], str(ranks)] if ranks > 1 else []
    return [
        *start, sys.executable, "-m", "jeoparda_tf.fit", "--data", str(data), "--workdir", str(workdir),
        "--model", "tiny", "--bands", "VV", "VH", "--batch", "4", "--epochs", str(EPOCHS), "--checkpoint-every", "3",
        "--resume", *flags,
    ]  # fmt: skip


def finish(data: Path, workdir: Path, **how) -> str:
    """Runs to the end and returns what was said."""
    done = subprocess.run(
        command(data, workdir, **how),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(workdir.glob("*.lock"))
    assert not (workdir / ".ranks").exists()
    return done.stdout + done.stderr


def rows(workdir: Path) -> np.ndarray:
    with (workdir / "history.csv").open() as file:
        read = list(csv.DictReader(file))
    names = [name for name in read[0] if name not in ("seconds", "images_per_second")]
    return np.array([[float(row[name]) for name in names] for row in read])


def same(workdir: Path, undisturbed: np.ndarray) -> None:
    assert len(undisturbed) == EPOCHS
    np.testing.assert_allclose(rows(workdir), undisturbed, rtol=1e-3, atol=1e-5)


class Running:
    """A run on its way, past its first checkpoints."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        trains = [p for p in family if p.cmdline()[1:3] == ["-m", "jeoparda_tf.fit"]]
        self.ranks = sorted(trains, key=self._rank)

    @staticmethod
    def _rank(process: psutil.Process) -> int:
        variables = process.environ()
        return int(variables.get("HOROVOD_RANK") or variables.get("OMPI_COMM_WORLD_RANK") or 0)

    def message(self) -> str:
        """Waits for the end, which must come, and returns the one error that was told."""
        said, _ = self.process.communicate(timeout=LIMIT + 60)
        assert self.process.returncode != 0, said
        _, alive = psutil.wait_procs(self.ranks, timeout=30)
        assert not alive
        return only_error(said)


def only_error(said: str) -> str:
    errors = re.findall(r"^(?:\[\d+\]<stderr>:)?error: (.*)", said, re.MULTILINE)
    assert len(errors) == 1, said
    # horovodrun shows one of its own.
    assert not re.search(r">:Traceback", said), said
    return errors[0]


@contextmanager
def running(data: Path, workdir: Path, **how) -> Iterator[Running]:
    with subprocess.Popen(
        command(data, workdir, "--stall-limit", str(LIMIT), **how),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            limit = time.monotonic() + 200
            while len(list((workdir / "checkpoints").glob("step-*"))) < 2:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < limit
                time.sleep(0.02)
            yield Running(process)
        finally:
            if process.poll() is None:
                for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                    one.kill()


@pytest.mark.parametrize(
    ("launcher", "sent", "rank"),
    # In CI one killed and one stopped rank; the others by `make faults`.
    faults(
        [("horovodrun", signal.SIGKILL, 0), ("mpirun", signal.SIGKILL, 0), ("mpirun", signal.SIGKILL, 1)], 1
    )
    + faults(
        [("horovodrun", signal.SIGSTOP, 1), ("mpirun", signal.SIGSTOP, 0), ("mpirun", signal.SIGSTOP, 1)], 1
    )
    + faults([("horovodrun", signal.SIGKILL, 1), ("horovodrun", signal.SIGSTOP, 0)], 0),
)
def test_a_rank_killed_or_stopped_is_named(data, undisturbed, tmp_path, launcher, sent, rank):
    workdir = tmp_path / "run"
    with running(data, workdir, launcher=launcher) as run:
        run.ranks[rank].send_signal(sent)
        message = run.message()
    assert (
        f"rank {rank} {'ended without a word' if sent == signal.SIGKILL else 'is silent for 20 s'}" in message
    )
    finish(data, workdir, launcher=launcher)
    same(workdir, undisturbed)


def spoilt(data: Path, workdir: Path, fault: str, tmp_path: Path) -> None:
    """Has all that a run reads or writes next go wrong."""
    victim, checkpoints = data / "train-00000-of-00002.tfrecord", workdir / "checkpoints"
    if fault == "shard removed":
        victim.unlink()
    elif fault == "shard corrupted":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "corrupted").write_bytes(content)
        (tmp_path / "corrupted").replace(victim)
    elif fault == "no number in a pixel":
        assert (tmp_path / "nan" / victim.name).stat().st_size == victim.stat().st_size
        (tmp_path / "nan" / victim.name).replace(victim)
    elif fault == "disk full":
        with (checkpoints / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
    elif fault == "folder unwritable":  # for root too
        checkpoints.rename(workdir / "kept")
        checkpoints.write_text("in the way")


def mend(data: Path, workdir: Path, fault: str, copy: Path) -> None:
    checkpoints = workdir / "checkpoints"
    if fault == "disk full":
        (checkpoints / "filler").unlink()
    elif fault == "folder unwritable":
        checkpoints.unlink()
        (workdir / "kept").rename(checkpoints)
    else:
        shutil.copyfile(data / "train-00000-of-00002.tfrecord", copy / "train-00000-of-00002.tfrecord")


SPOILT = {
    "shard removed": "train-00000-of-00002.tfrecord; No such file",
    "shard corrupted": "corrupted record",
    "no number in a pixel": "is nan by step",
    "disk full": "the checkpoint cannot be written",
    "folder unwritable": "the checkpoint cannot be written",
}


@pytest.mark.parametrize("fault", faults(list(SPOILT), 2))
def test_what_is_read_or_written_is_spoilt_in_mid_training(data, undisturbed, tmp_path, fault):
    workdir, copy = tmp_path / "run", tmp_path / "data"
    shutil.copytree(data, copy)
    with ExitStack() as stack:
        if fault == "no number in a pixel":  # ready before the run, which is short
            patches = shards.patches(67, FEATURES, 19)
            patches[3].arrays["s1"][7, 7, 0] = np.nan
            shards.write_patches(tmp_path / "nan", {"train": patches}, shards=2, features=FEATURES)
        if fault == "disk full":
            stack.enter_context(small_disk(workdir / "checkpoints"))
        with running(copy, workdir) as run:
            spoilt(copy, workdir, fault, tmp_path)
            assert SPOILT[fault] in run.message()
        mend(data, workdir, fault, copy)
        for checkpoint in (workdir / "checkpoints").glob("step-*"):
            reader = tf.train.load_checkpoint(str(checkpoint / "variables"))
            for name in reader.get_variable_to_dtype_map():
                value = reader.get_tensor(name)
                assert not np.issubdtype(np.asarray(value).dtype, np.floating) or np.isfinite(value).all(), (
                    name
                )
        finish(copy, workdir)
        same(workdir, undisturbed)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # whoever looks into it last lets it go


def test_a_second_run_is_refused_and_a_truncated_checkpoint_passed_over(data, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    with running(data, workdir) as run:
        for process in run.ranks:  # else it might be at its end before the second one looks
            process.suspend()
        second = subprocess.run(
            command(data, workdir, ranks=1),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert second.returncode == 2, second.stderr
        told = f"another run is at it: process {run.ranks[0].pid} on {socket.gethostname()}"
        assert told in only_error(second.stderr)
        for process in [psutil.Process(run.process.pid), *run.ranks]:
            process.kill()
    newest = max((workdir / "checkpoints").glob("step-*"))
    variables = newest / "variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:-1])
    said = finish(data, workdir)
    assert len(re.findall(rf"passed over: .*{newest.name}", said)) == 1, said
    same(workdir, undisturbed)


@pytest.mark.parametrize(("before", "after"), faults([(1, 2), (2, 1)], 2))
def test_resuming_on_another_number_of_ranks(data, tmp_path, before, after):
    workdir, steps = tmp_path / "run", {1: 16, 2: 8}
    with running(data, workdir, ranks=before) as run:
        run.ranks[0].send_signal(signal.SIGTERM)
        said, _ = run.process.communicate(timeout=100)
    step = int(re.findall(r"SIGTERM came; saved at step (\d+) of", said)[0])
    epoch, done = divmod(step, steps[before])
    told = f"resuming at step {step}, epoch {epoch + 1}, on {after} ranks instead of {before}: {steps[after]} steps"
    assert told in finish(data, workdir, ranks=after)
    kept = done * steps[after] // steps[before]
    ends = [steps[before] * (number + 1) for number in range(epoch)]
    ends += [step - kept + steps[after] * (number + 1) for number in range(EPOCHS - epoch)]
    assert rows(workdir)[:, :2].tolist() == [[number + 1, end] for number, end in enumerate(ends)]
    # 0.02 a rank, after two steps down at 60 and 85 % of the epochs.
    assert rows(workdir)[-1, 2] == pytest.approx(0.02 * after / 100)
    assert rows(workdir)[:, 3].min() > 0.3 * rows(workdir)[:, 3].max()  # a mean over a whole epoch each
    last = max((workdir / "checkpoints").glob("step-*")).name
    assert last == f"step-{ends[-1]:08d}"
