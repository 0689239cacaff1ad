"""What jobs/submit asks of sbatch, which a script stands for; tests/slurm has the jobs themselves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SBATCH = """#!/bin/sh
echo "$*" >> "$CALLS"
echo "7$(wc -l < "$CALLS");cluster"
"""


def submitted(folder: Path, *arguments: str) -> tuple[list[str], str]:
    """Returns the words of each call of sbatch, and what submit says."""
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text(SBATCH)
    (folder / "bin" / "sbatch").chmod(0o755)
    (folder / "site.env").write_text("ALL=(--account=mine)\nCONVERT=(--partition=cpu)\nCONVERT_TASKS=3\n")
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "JEOPARDA_TF_SITE": str(folder / "site.env"),
    }
    command = [str(REPOSITORY / "jobs" / "submit"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "calls").read_text().splitlines(), done.stdout


@pytest.mark.parametrize(
    "alone", [("--array=1", "--output=x", "--dependency=afterok:3"), ("-a", "1", "-o", "x", "-dafterok:3")]
)
def test_what_overrides_the_site_is_for_the_job_that_finishes_too(tmp_path, alone):
    script = str(REPOSITORY / "jobs" / "convert.sbatch")
    both = ("--account=other", "-p", "fat", "--time=9")
    first, last = submitted(tmp_path, "convert", *both, *alone, "--", str(tmp_path), "SHARDS", "--shards=4")[
        0
    ]
    site = "--parsable --account=mine --partition=cpu"
    asked = f"{script} {tmp_path} SHARDS --shards=4"
    assert first == f"{site} --array=0-2 --output=%x-%A-%a.out {' '.join((*both, *alone))} {asked}"
    waits = "--dependency=afterok:71 --kill-on-invalid-dep=yes"
    assert last == f"{site} {' '.join(both)} {waits} {asked} --finish"


def test_the_jobs_are_named(tmp_path):
    calls, said = submitted(tmp_path, "convert", str(tmp_path), "SHARDS")
    assert len(calls) == 2
    assert said == "jobs 71 (array of 3) and, after it, 72, which writes the manifest\n"
