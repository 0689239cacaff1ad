"""A Slurm of two nodes on this machine: real munged, slurmctld and slurmd, on loopback, in a folder of their own."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import psutil

from tests.conftest import REPOSITORY, need_engine

# Nodes claim eight cores each, whatever this machine has; a job in `low` gives way to one in `high`.
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


class Cluster:
    """What a user of the cluster does: submit, look, wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site.env"
        # As on a login node: nothing of the environment of the tests, which the jobs must bring themselves.
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": os.environ.get("HOME", "/"),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "JEOPARDA_TF_SITE": str(self.site),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def write_site(self, **changes: str) -> None:
        """Writes the values of the site: the example of a plain cluster, and the changes to it."""
        lines = [(REPOSITORY / "jobs" / "sites" / "plain.env").read_text()]
        values = {"VENV": str(Path(sys.prefix)), "ALL": "(--time=10)", **changes}
        self.site.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in values.items()), ""]))

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of the user's."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done

    def submit(self, kind: str, *arguments: str) -> list[int]:
        """Runs jobs/submit and returns the numbers of the jobs."""
        said = self.call(str(REPOSITORY / "jobs" / "submit"), kind, *arguments).stdout
        return [int(number) for number in re.findall(r"(?:jobs?|it,) (\d+)", said)]

    def job(self, number: int) -> dict[str, str]:
        """Returns what Slurm knows of a job."""
        said = self.call("scontrol", "show", "job", "-o", str(number)).stdout
        return {name: value for name, _, value in (field.partition("=") for field in said.split())}

    def wait(self, number: int, states: Optional[set[str]] = None, seconds: float = 240) -> dict[str, str]:
        """Waits until a job is in one of the states (default: has ended) and returns what Slurm knows of it."""
        limit = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in (states or ENDED):
            assert time.monotonic() < limit, f"{job}\n{self.log(number)}"
            time.sleep(0.3)
        return job

    def wait_for(self, number: int, words: str, seconds: float = 120) -> None:
        """Waits until a job has written what a regular expression describes."""
        limit = time.monotonic() + seconds
        while not re.search(words, self.log(number)):
            assert time.monotonic() < limit, f"{self.job(number)}\n{self.log(number)}"
            time.sleep(0.3)

    def wait_until_left(self, number: int, seconds: float = 120) -> None:
        """Waits until the nodes have told the end of a requeued job's last start; later it would end the next."""
        limit = time.monotonic() + seconds
        logs = {str(path) for path in self.folder.glob(f"*-{number}.out")}
        while any(logs & _open_files(process) for process in psutil.process_iter(["name"])):
            assert time.monotonic() < limit, self.log(number)
            time.sleep(0.3)

    def log(self, number: int) -> str:
        """Returns what a job has written so far."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"*-{number}*.out")))


def _open_files(process: psutil.Process) -> set[str]:
    """Returns what one of Slurm's step daemons writes to; nothing of other processes."""
    try:
        mine = process.info["name"] == "slurmstepd"
        return {file.path for file in process.open_files()} if mine else set()
    except psutil.Error:
        return set()


@contextmanager
def running() -> Iterator[Cluster]:
    """Starts the cluster, and at the end stops its jobs and all that it started."""
    programs = {name: need_engine(name) for name in ("munged", "slurmctld", "slurmd", "srun", "sbatch")}
    # Not pytest's folder: munged's socket must be open to all, and its path short.
    folder = Path(tempfile.mkdtemp(prefix="jeoparda_tf-slurm-"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    cluster = Cluster(folder)
    try:
        _configure(folder)
        for name, command in _commands(programs, folder).items():
            with (folder / f"{name}.log").open("wb") as log:
                daemons.append(
                    subprocess.Popen(
                        command, env=cluster.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )
            if name == "munged":
                _until(folder, lambda: (folder / "munge.socket").exists())
        cluster.write_site()
        nodes = ("sinfo", "-h", "-N", "-p", "low", "-o", "%T")
        _until(folder, lambda: cluster.call(*nodes, check=False).stdout == "idle\n" * 2)
        yield cluster
    finally:
        if len(daemons) == 4:
            cluster.call("scancel", "--user", getpass.getuser(), check=False)
            cluster.call("scancel", "--signal=KILL", "--full", "--user", getpass.getuser(), check=False)
            limit = time.monotonic() + 30
            while cluster.call("squeue", "-h", check=False).stdout and time.monotonic() < limit:
                time.sleep(0.3)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", "spool-n1", "spool-n2", "tmp-n1", "tmp-n2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o400)
    key.chmod(0o600)
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    (folder / "slurm.conf").write_text(
        _CONF.format(folder=folder, host=host, user=user, ports=_free_ports(3))
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _commands(programs: dict[str, str], folder: Path) -> dict[str, Sequence[str]]:
    own = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munge.log",
           "seed-file": "munge.seed"}  # fmt: skip
    munged = [
        programs["munged"],
        "--foreground",
        *(f"--{flag}={folder / file}" for flag, file in own.items()),
    ]
    return {
        "munged": munged,
        "slurmctld": [programs["slurmctld"], "-D"],
        **{f"slurmd-{node}": [programs["slurmd"], "-D", "-N", node] for node in ("n1", "n2")},
    }


def _until(folder: Path, ready) -> None:
    limit = time.monotonic() + 60
    while not ready():
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
        assert time.monotonic() < limit, f"the cluster does not start:\n{logs}"
        time.sleep(0.2)
