"""The files of jobs/, submitted to a real Slurm of two nodes: wrong values, conversion, training and scoring.

Not marked `tensorflow`: what is tested here is no different on the other set of versions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"VENV": "/no/such/place"}, "VENV=/no/such/place in .*: no bin/python there"),
        ({"LAUNCHER": "mpiexec"}, "LAUNCHER=mpiexec in .*: srun, horovodrun and mpirun are known"),
        ({"CONVERT_TASKS": "none"}, "CONVERT_TASKS=none in .*: must be a number"),
        ({}, "--data .*nowhere: no manifest.json there; convert the archive first"),
    ],
)
def test_wrong_values_are_told_on_the_login_node(cluster, changes, message):
    cluster.write_site(**changes)
    done = cluster.call(str(REPOSITORY / "jobs" / "submit"), "fit", "--data", "nowhere", check=False)
    assert done.returncode == 2
    assert re.fullmatch(f"error: {message}.*\n", done.stderr), done.stderr
    assert not cluster.call("squeue", "-h").stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"VENV": "/no/such/place"}, "VENV=/no/such/place in .*: no bin/python there"),
        ({"VENV": "", "ENVIRONMENT": "(PATH=/usr/bin:/bin)"}, "no python on|has no package tensorflow"),
        ({"MODULES": "(Horovod)"}, "MODULES in .*, but there is no command `module`"),
        ({"INTERFACE": "ib77"}, "INTERFACE=ib77 in .*: .* has .*lo"),
        ({"ENVIRONMENT": "(NCCL_DEBUG)"}, 'ENVIRONMENT in .*: "NCCL_DEBUG" is not NAME=value'),
        ({"LAUNCHER": "horovodrun"}, "LAUNCHER=horovodrun in .* is for one node, this job has 2"),
    ],
)
def test_wrong_values_end_a_job_before_anything_is_launched(cluster, data, changes, message):
    cluster.write_site(**changes)
    script = str(REPOSITORY / "jobs" / "fit.sbatch")
    cluster.environment["JEOPARDA_TF_JOBS"] = str(REPOSITORY / "jobs")
    job = int(
        cluster.call(
            "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", script, "--data", str(data)
        ).stdout
    )
    ended = cluster.wait(job)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert re.fullmatch(f"error: ({message}).*\n", cluster.log(job)), cluster.log(job)


def test_an_array_converts_to_the_bytes_of_one_process(cluster, tmp_path):
    cluster.write_site(CONVERT_TASKS="2")
    archive = tmp_path / "archive"
    python("jeoparda_tf.sample", str(archive), "--patches", "24", "--layout", "v1")
    flags = ["--split-fractions", "0.5", "0.25", "0.25", "--split-by", "patch", "--shards", "2"]
    source = str(archive / "BigEarthNet-v1.0")
    array, last = cluster.submit("convert", source, str(tmp_path / "by-array"), *flags)
    python("jeoparda_tf.convert", source, str(tmp_path / "by-one"), *flags)
    assert cluster.wait(last)["JobState"] == "COMPLETED", cluster.log(array) + cluster.log(last)
    made, expected = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.tfrecord")}
        for name in ("by-array", "by-one")
    )
    assert made == expected
    assert len(made) == 6
    splits = [
        json.loads((tmp_path / name / "manifest.json").read_text())["splits"]
        for name in ("by-array", "by-one")
    ]
    assert splits[0] == splits[1]


def test_scores_of_two_nodes_are_those_of_one_process(cluster, trained):
    [job] = cluster.submit("evaluate", "--nodes=2", "--", "--workdir", str(trained), "--split", "test")
    assert cluster.wait(job)["JobState"] == "COMPLETED", cluster.log(job)
    scored = trained / "evaluation" / "test.json"
    of_two = json.loads(scored.read_text())
    scored.unlink()
    python("jeoparda_tf.evaluate", "--workdir", str(trained), "--split", "test")
    assert of_two == json.loads(scored.read_text())
