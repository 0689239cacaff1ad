"""From launching a process to the end of its first step of training, and what that time is spent on.

Needs no data set: it writes random patches into a temporary folder. One process, started as `fit` is.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError

from . import input as shards
from . import step as steps
from .report import Findings, Row, show

# The phases in their order, each named by what it ends with.
PHASES = (
    "Python and its first imports",
    "TensorFlow imported",
    "the model built",
    "the first batch there",
    "the first step traced and done",
    "the second step, for comparison",
)


@dataclass(frozen=True)
class Config:
    """What to start."""

    model: Literal["resnet18", "resnet50", "tiny"] = option("architecture", "resnet50")
    batch: int = option("patches of a step", 16)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Writes the data, starts a process, prints."""
    if config.batch < 1:
        raise UsageError(f"--batch must be at least 1, not {config.batch}")
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        shards.write(Path(folder), 2 * config.batch)
        code = "import sys; from jeoparda_tf.benchmarks import startup; startup.child(*sys.argv[1:])"
        command = [sys.executable, "-c", code, folder, config.model, str(config.batch)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        start = time.time()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the process that was started has failed: {done.stderr[-500:]}")
    times = json.loads(done.stdout.splitlines()[-1])
    show(findings(start, dict(zip(PHASES, times)), config), config.json)


def findings(start: float, ends: Mapping[str, float], config: Config) -> Findings:
    """Returns the table of seconds a phase.

    Args:
        start: when the process was launched, seconds since the epoch.
        ends: when each of `PHASES` was over.
        config: for the title.
    """
    begins = [start, *list(ends.values())[:-1]]
    seconds = {name: end - begin for begin, (name, end) in zip(begins, ends.items())}
    total = ends[PHASES[-2]] - start
    rows = [Row(name, seconds[name], "s", seconds[name] / total, "the whole") for name in PHASES[:-1]]
    rows += [Row("launch to first step", total, "s"), Row(PHASES[-1], seconds[PHASES[-1]], "s")]
    longest = max(PHASES[:-1], key=lambda name: seconds[name])
    told = f"Most of it, {seconds[longest]:.1f} of {total:.1f} s, goes by until: {longest}."
    return Findings(f"startup: {config.model}, batch {config.batch}, one process", rows, [told])


def child(folder: str, model: str, batch: str) -> None:
    """Trains two steps as `fit` does, and prints when each phase was over, as JSON."""
    times = [time.time()]
    importlib.import_module("jeoparda_tf.stack")  # TensorFlow; the modules below may import it late
    times.append(time.time())
    from tfrecords_tools import manifest as manifests

    from .. import models
    from ..bigearthnet import bands
    from ..models.spec import spec_for

    manifest = manifests.read(Path(folder))
    train = steps.train_step(models.build(spec_for(manifest, bands.S2_BANDS, name=model)))
    times.append(time.time())
    fed = steps.batches(Path(folder), manifest, int(batch))
    first = next(fed)
    times.append(time.time())
    for inputs in (first, next(fed)):
        train(*inputs)
        times.append(time.time())
    print(json.dumps(times))
