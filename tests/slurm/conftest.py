"""One cluster for all tests of this folder, and a run on it that nothing disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shards
from tests.slurm.cluster import Cluster, running

EPOCHS = 6


@pytest.fixture(scope="session")
def started() -> Iterator[Cluster]:
    with running() as started:
        yield started


@pytest.fixture
def cluster(started) -> Cluster:
    started.write_site()
    return started


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "shards"
    shards.write(directory, {"train": 67, "val": 5, "test": 9}, shards=2)
    return directory


def fit_flags(data: Path, workdir: Path) -> list[str]:
    return [
        "--data", str(data), "--workdir", str(workdir), "--model", "tiny", "--bands", "rgb", "--batch", "4",
        "--epochs", str(EPOCHS), "--mixup", "0.2", "--keep", "1000",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def trained(started, data, tmp_path_factory) -> Path:
    """Workdir of a run on both nodes that nothing disturbed."""
    started.write_site()
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    [job] = started.submit("fit", *fit_flags(data, workdir))
    ended = started.wait(job, seconds=600)
    assert (ended["JobState"], ended["NodeList"]) == ("COMPLETED", "n[1-2]"), started.log(job)
    return workdir
