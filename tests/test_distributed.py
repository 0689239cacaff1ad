"""What ranks do together, on two real ones, over Gloo and over MPI; and alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jeoparda_tf.stack import tf
from jeoparda_tf.training import distributed
from tests import shards
from tests.conftest import REPOSITORY, need_engine
from tfrecords_tools.errors import DataError, UsageError

pytestmark = pytest.mark.tensorflow

SCRIPT = Path(__file__).parent / "ranks" / "in_step.py"
LAUNCHERS = {
    "horovodrun": ["--gloo", "-np", "2"],
    "mpirun": ["--allow-run-as-root", "--oversubscribe", "-np", "2"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_weights_and_moving_statistics_are_equal_after_every_epoch(tmp_path, launcher):
    shards.write(tmp_path / "data", {"train": 30, "val": 5})
    command = [
        need_engine(launcher),
        *LAUNCHERS[launcher],
        sys.executable,
        str(SCRIPT),
        str(tmp_path / "data"),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if launcher == "mpirun":
        environment["HOROVOD_CYCLE_TIME"] = "2"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cores = [json.loads((tmp_path / f"rank{rank}.json").read_text())["cores"] for rank in range(2)]
    if len(os.sched_getaffinity(0)) > 1:
        assert cores[0]
        assert not set(cores[0]) & set(cores[1])
    for rank in range(2):
        seen = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert (seen["rank"], seen["size"]) == (rank, 2)
        assert seen["gathered"] == [[1, 1]]
        assert seen["cycle"] == ("20" if launcher == "horovodrun" else "2")  # ours, or that of the user
        assert seen["trained"]
        # Each rank saw other patches, so the statistics were apart; then they are the mean, to the last bit alike.
        assert min(seen["apart"]) > 1e-4
        assert seen["joined"] == [0, 0]
        assert max(seen["error of the mean"]) < 1e-5
        assert seen["weights"] == [0, 0]
        assert "the ranks' weights differ: conv1_conv/kernel" in seen["drift"]


def test_alone_everything_is_local():
    assert (distributed.rank(), distributed.size(), distributed.local_rank(), distributed.local_size()) == (
        0,
        1,
        0,
        1,
    )
    array = np.arange(6).reshape(2, 3)
    assert distributed.gather(array) is array
    variable = tf.Variable([1.0, 2.0])
    distributed.average([variable])
    distributed.broadcast([variable])
    np.testing.assert_array_equal(variable, [1, 2])
    distributed.agree(None)
    with pytest.raises(UsageError, match="mine"):
        distributed.agree(UsageError("mine"))
    assert distributed.threads() == len(os.sched_getaffinity(0))


def test_many_processes_without_horovod_are_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", None)
    with pytest.raises(DataError, match="4 processes were launched, but Horovod cannot be imported"):
        distributed.start()
