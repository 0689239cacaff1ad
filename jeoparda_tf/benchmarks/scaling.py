"""Weak scaling: 1 and 2 ranks, each pinned to a core, seconds in allreduce, and a projection to more ranks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError

from . import input as shards
from .report import Findings, Row, show


@dataclass(frozen=True)
class Config:
    """What to train on how many ranks, and which machine to project to."""

    model: Literal["resnet18", "resnet50", "tiny"] = option("architecture", "resnet50")
    batch: int = option("patches of one rank in a step", 16)
    steps: int = option("of an epoch; the second epoch is timed", 6)
    ranks: tuple[int, ...] = option("numbers of ranks to run", (1, 2), nargs="+")
    project_ranks: int = option("ranks to project to", 128)
    bandwidth: float = option("of the projected network, bytes a second between two ranks", 1e10)
    latency: float = option("of the projected network, seconds a message", 5e-6)
    gradient_bytes: float = option("a step; ResNet50 in float32 has 94 MB", 9.4e7)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Writes the data, trains on each number of ranks, prints."""
    if min(config.ranks) < 1 or config.ranks[0] != 1:
        raise UsageError(f"--ranks must begin with 1, the reference, not {config.ranks}")
    launcher = shutil.which(
        "horovodrun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if launcher is None:
        raise UsageError("horovodrun is not installed", remedy="install the extra jeoparda_tf[horovod]")
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        shards.write(data, config.batch * config.steps * max(config.ranks))
        found = [_train(config, launcher, ranks, data, Path(folder)) for ranks in config.ranks]
    show(findings([rate for rate, _ in found], [seconds for _, seconds in found], config), config.json)


def findings(rates: Sequence[float], reduced: Sequence[float], config: Config) -> Findings:
    """Returns the table: `rates` in patches/s over all ranks, `reduced` the seconds in allreduce a step."""
    rows, cores = [], os.cpu_count() or 1
    for ranks, rate, seconds in zip(config.ranks, rates, reduced):
        marked = ", oversubscribed" if ranks > cores else ""
        target = 0.9 if ranks == 2 and not marked else None
        ratio = rate / (ranks * rates[0]) if ranks > 1 else None
        rows.append(Row(f"{ranks} ranks{marked}", rate, "patches/s", ratio, "ideal" if ratio else "", target))
        if ranks > 1:
            rows.append(Row(f"{ranks} ranks: allreduce, waiting included", seconds, "s a step"))
    step = config.batch / rates[0]
    future = projection(step, config.gradient_bytes, config.project_ranks, config.bandwidth, config.latency)
    formula = "t / (t + 2 (R - 1) / R * bytes / bandwidth + 2 (R - 1) * latency), nothing overlapped"
    told = f"Projection, not measured: {config.project_ranks} ranks at {future:.1%} = {formula}, t = {step:.3g} s."
    return Findings(f"scaling: {config.model}, batch {config.batch} a rank", rows, [told])


def projection(step: float, size: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Returns the projected efficiency with a ring allreduce that nothing hides (Patarasuk & Yuan 2009).

    Args:
        step: seconds of a step on one rank.
        size: bytes of the gradients.
        ranks: R.
        bandwidth: bytes a second.
        latency: seconds a message.
    """
    reduce = 2 * (ranks - 1) / ranks * size / bandwidth + 2 * (ranks - 1) * latency
    return step / (step + reduce)


def allreduce_seconds(events: Sequence[Any]) -> float:
    """Returns the seconds in which any allreduce ran, of a Horovod timeline's events (times in microseconds)."""
    open_at: dict[Any, list[tuple[str, float]]] = {}
    spans: list[tuple[float, float]] = []
    for event in events:
        if event.get("ph") == "B":
            open_at.setdefault(event.get("pid"), []).append((event.get("name", ""), event["ts"]))
        elif event.get("ph") == "E" and open_at.get(event.get("pid")):
            name, start = open_at[event.get("pid")].pop()
            if name == "ALLREDUCE":
                spans.append((start, event["ts"]))
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def _train(config: Config, launcher: str, ranks: int, data: Path, folder: Path) -> tuple[float, float]:
    workdir, timeline = folder / f"run{ranks}", folder / f"timeline{ranks}.json"
    fit = [sys.executable, "-m", "jeoparda_tf.fit", "--data", str(data), "--workdir", str(workdir)]
    fit += ["--model", config.model, "--batch", str(config.batch), "--epochs", "2", "--shuffle-buffer", "64"]
    command = [launcher, "--gloo", "-np", str(ranks), *fit]
    core = min(os.sched_getaffinity(0))
    if ranks == 1:  # fit pins several ranks by itself
        command = ["taskset", "-c", str(core), *fit]
    environment = {**os.environ, "HOROVOD_TIMELINE": str(timeline)} if ranks > 1 else dict(os.environ)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"training on {ranks} ranks failed: {done.stderr[-500:]}")
    with (workdir / "history.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    if ranks == 1:
        return float(last["images_per_second"]), 0.0
    text = timeline.read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else text + "]")
    return float(last["images_per_second"]), allreduce_seconds(events) / int(last["step"])
