"""The files of jobs/, submitted to a real Slurm of two nodes: wrong values, conversion, training, ends, scoring.

Not marked `tensorflow`: what is tested here is no different on the other set of versions.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.slurm.cluster import ENDED, Cluster
from tests.slurm.conftest import EPOCHS, fit_flags

SITES = ("plain", "juwels-booster", "jureca-dc")
VALUES = [
    "ALL", "CONVERT", "CONVERT_TASKS", "CONVERT_MPI", "FIT", "EVALUATE", "PREDICT", "MODULES", "VENV", "LAUNCHER",
    "LAUNCH_OPTIONS", "INTERFACE", "ENVIRONMENT",
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", ["site.env.example", *(f"sites/{site}.env" for site in SITES)])
def test_files_of_sites_have_every_value(file):
    text = (REPOSITORY / "jobs" / file).read_text()
    assert re.findall(r"^([A-Z_]+)=", text, re.MULTILINE) == VALUES
    assert file == "site.env.example" or "UNTESTED" in text
    sourced = ["bash", "-c", f"set -eu; JOBS=jobs; source jobs/{file}; declare -p {' '.join(VALUES)}"]
    subprocess.run(sourced, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"VENV": "missing"}, "VENV=missing in .*: no bin/python there"),
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
        ({"VENV": "missing"}, "VENV=missing in .*: no bin/python there"),
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


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    python("jeoparda_tf.sample", str(folder), "--patches", "24", "--layout", "v1")
    return folder / "BigEarthNet-v1.0"


SPLIT = ("--split-fractions", "0.5", "0.25", "0.25", "--split-by", "patch", "--shards", "2")


@pytest.fixture(scope="module")
def converted(archive, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "shards"
    python("jeoparda_tf.convert", str(archive), str(folder), *SPLIT)
    return folder


# The nodes are one machine: OpenMPI would mistake its shared memory for each one's own.
ROOT = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
MPI = {"ENVIRONMENT": f"(OMPI_MCA_btl=self,tcp {ROOT})", "INTERFACE": "lo"}


@pytest.mark.parametrize(
    ("kind", "tasks"),
    [
        ("convert", {"CONVERT_TASKS": "2"}),
        ("convert-mpi", {"CONVERT_MPI": "(--nodes=2 --ntasks-per-node=2)", **MPI}),
    ],
)
def test_nodes_convert_to_the_bytes_of_one_process(cluster, archive, converted, tmp_path, kind, tasks):
    cluster.write_site(**tasks)
    jobs = cluster.submit(kind, str(archive), str(tmp_path / "shards"), *SPLIT)
    assert len(jobs) == {"convert": 2, "convert-mpi": 1}[kind]
    assert cluster.wait(jobs[-1])["JobState"] == "COMPLETED", "".join(cluster.log(job) for job in jobs)
    made, expected = (
        {file.name: file.read_bytes() for file in folder.glob("*.tfrecord")}
        for folder in (tmp_path / "shards", converted)
    )
    assert made == expected
    assert len(made) == 6
    splits = [
        json.loads((folder / "manifest.json").read_text())["splits"]
        for folder in (tmp_path / "shards", converted)
    ]
    assert splits[0] == splits[1]


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_scores_of_two_nodes_are_those_of_one_process(cluster, trained, launcher):
    if launcher == "mpirun":
        cluster.write_site(LAUNCHER=launcher, LAUNCH_OPTIONS="(--bind-to none)", **MPI)
    [job] = cluster.submit("evaluate", "--nodes=2", "--", "--workdir", str(trained), "--split", "test")
    assert cluster.wait(job)["JobState"] == "COMPLETED", cluster.log(job)
    scored = trained / "evaluation" / "test.json"
    of_two = json.loads(scored.read_text())
    scored.unlink()
    python("jeoparda_tf.evaluate", "--workdir", str(trained), "--split", "test")
    assert of_two == json.loads(scored.read_text())


def test_a_job_names_patches_as_one_process_does(cluster, trained, archive):
    patches = [str(folder) for folder in sorted(archive.iterdir())[:3]]
    [job] = cluster.submit("predict", "--workdir", str(trained), *patches)
    assert cluster.wait(job)["JobState"] == "COMPLETED", cluster.log(job)
    told = (cluster.folder / f"predictions-{job}.txt").read_text()
    assert told == python("jeoparda_tf.predict", "--workdir", str(trained), *patches)
    assert told.count("S2A_MSIL2A") + told.count("S2B_MSIL2A") >= 3, told
    assert not list(cluster.folder.glob(".predictions-*"))


@contextmanager
def held_in_training(cluster: Cluster, job: int, workdir: Path) -> Iterator[int]:
    """Stops the ranks in the middle of their epochs while the block runs, so that they do not end before it does.

    They go on as on a machine that was busy. Yields the step of the last checkpoint.
    """
    limit = time.monotonic() + 200
    while not (saved := sorted((workdir / "checkpoints").glob("step-*")))[1:]:
        assert cluster.job(job)["JobState"] in ("PENDING", "RUNNING"), cluster.log(job)
        assert time.monotonic() < limit, cluster.log(job)
        time.sleep(0.05)
    ranks = [process for process in psutil.process_iter(["cmdline"]) if trains(process, workdir)]
    assert len(ranks) == 2
    try:
        for rank in ranks:
            rank.suspend()
        yield int(saved[-1].name[len("step-") :])
    finally:
        for rank in ranks:
            with suppress(psutil.NoSuchProcess):
                rank.resume()


def trains(process: psutil.Process, workdir: Path) -> bool:
    words = process.info["cmdline"] or []
    return words[1:4] == ["-u", "-m", "jeoparda_tf.fit"] and str(workdir) in words


WALLTIME, PREEMPTION, USER = "walltime", "a job of a higher partition", "a user"


@pytest.mark.parametrize(
    ("by", "launcher"),
    [(WALLTIME, "srun"), (PREEMPTION, "srun"), (USER, "horovodrun")],
)
def test_a_job_that_must_end_is_requeued_and_ends_as_if_nothing_had_been(
    cluster, data, trained, tmp_path, by, launcher
):
    workdir = tmp_path / "run"
    if launcher != "srun":
        cluster.write_site(
            LAUNCHER=launcher, LAUNCH_OPTIONS="(--gloo)", FIT="(--nodes=1 --ntasks-per-node=2)"
        )
    [job] = cluster.submit("fit", "--signal=B:USR1@180", "--", *fit_flags(data, workdir))
    with held_in_training(cluster, job, workdir) as before:
        if by == WALLTIME:
            # Its end is two to three minutes away now, and the signal due three before; Slurm looks twice a minute.
            hours, minutes, _ = map(int, cluster.job(job)["RunTime"].split(":"))
            cluster.call("scontrol", "update", f"JobId={job}", f"TimeLimit={60 * hours + minutes + 3}")
        elif by == PREEMPTION:
            wanted = ("--partition=high", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=8")
            other = int(cluster.call("sbatch", "--parsable", *wanted, "--wrap=true").stdout)
        else:
            cluster.call("scancel", "--batch", "--signal=USR1", str(job))
        cluster.wait_for(job, "jobs: asked to stop|SIGTERM came")
    waiting = cluster.wait(job, {"PENDING", *ENDED})
    assert (waiting["JobState"], waiting["Restarts"]) == ("PENDING", "1"), cluster.log(job)
    if by == PREEMPTION:
        assert cluster.wait(other)["JobState"] == "COMPLETED"
    # Else it waits two minutes, long after all of its first start has gone.
    cluster.wait_until_left(job)
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=10")
    ended = cluster.wait(job)
    said = cluster.log(job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), said
    # No finished step is lost: the last one is in the checkpoint, and the next one is the first of the second start.
    steps = 67 // 8 * EPOCHS
    [stopped] = re.findall(rf"stopped: SIG(?:USR1|TERM) came; saved at step (\d+) of {steps}\n", said)
    assert re.findall(r"resuming at step (\d+)\n", said) == [stopped], said
    assert before <= int(stopped) < steps
    code = 1 if launcher == "horovodrun" else 75
    assert said.count(f"ended with {code} when asked to stop; job {job} goes back into the queue") == 1, said
    assert (workdir / "checkpoints" / f"step-{int(stopped):08d}").is_dir()
    undisturbed = rows(trained)
    assert undisturbed[:, :2].tolist() == [[epoch + 1, 67 // 8 * (epoch + 1)] for epoch in range(EPOCHS)]
    if launcher == "srun":
        np.testing.assert_allclose(rows(workdir), undisturbed, rtol=1e-4, atol=1e-6)
    else:  # Two ranks on one node share its cores, which changes the rounding: steps, learning rate and losses.
        np.testing.assert_allclose(rows(workdir)[:, :5], undisturbed[:, :5], rtol=1e-2)


def test_a_job_that_is_cancelled_is_saved_and_does_not_come_back(cluster, data, tmp_path):
    workdir = tmp_path / "run"
    [job] = cluster.submit("fit", *fit_flags(data, workdir))
    with held_in_training(cluster, job, workdir):
        cluster.call("scancel", str(job))
        cluster.wait_for(job, "jobs: asked to stop")
    ended = cluster.wait(job)
    said = cluster.log(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0"), said
    assert f"jobs: ended with 75; job {job} was cancelled, and does not go back into the queue\n" in said
    [stopped] = re.findall(r"stopped: SIG(?:USR1|TERM) came; saved at step (\d+) of", said)
    assert (workdir / "checkpoints" / f"step-{int(stopped):08d}").is_dir()


def rows(workdir: Path) -> np.ndarray:
    with (workdir / "history.csv").open() as file:
        read = list(csv.DictReader(file))
    names = [name for name in read[0] if name not in ("seconds", "images_per_second")]
    return np.array([[float(row[name]) for name in names] for row in read])
