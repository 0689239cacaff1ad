"""Weak scaling: 1 and 2 ranks, each pinned to a core, seconds in allreduce, and a projection to more ranks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError

from ..models.spec import Name
from . import input as shards
from .report import Findings, Row, show


@dataclass(frozen=True)
class Config:
    """What to train on how many ranks, and which machine to project to."""

    model: Name = option("architecture", "resnet50")
    batch: int = option("patches of one rank in a step", 32)
    steps: int = option("of an epoch", 6)
    epochs: int = option("timed, after one that traces and is not; the median counts", 2)
    ranks: tuple[int, ...] = option(
        "numbers of ranks to run; more than cores are marked oversubscribed", (1, 2), nargs="+"
    )
    project_ranks: int = option("ranks to project to", 128)
    bandwidth: float = option("of the projected network, bytes a second between two ranks", 1e10)
    latency: float = option("of the projected network, seconds a message", 5e-6)
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
        found = [_train(config, launcher, ranks, Path(folder)) for ranks in config.ranks]
    rates, reduced = zip(*found)
    show(findings(rates, reduced, _gradient_bytes(config.model), config), config.json)


def findings(rates: Sequence[float], reduced: Sequence[float], size: float, config: Config) -> Findings:
    """Returns the table.

    Args:
        rates: patches/s over all ranks, for each number of ranks.
        reduced: seconds in allreduce a step.
        size: bytes of a step's gradients.
        config: which numbers of ranks, and what to project to.
    """
    rows, told, cores = [], [], len(os.sched_getaffinity(0))
    for ranks, rate, seconds in zip(config.ranks, rates, reduced):
        marked = f", oversubscribed on {cores} cores" if ranks > cores else ", each pinned to its core"
        if ranks == 1:
            rows.append(Row("1 rank, pinned to a core", rate, "patches/s"))
            continue
        ratio, target = rate / (ranks * rates[0]), 0.9 if ranks == 2 <= cores else None
        rows.append(Row(f"{ranks} ranks{marked}", rate, "patches/s", ratio, f"{ranks} times 1 rank", target))
        step = ranks * config.batch / rate
        rows.append(Row(f"{ranks} ranks: step", step, "s"))
        rows.append(Row(f"{ranks} ranks: in allreduce", seconds, "s a step", seconds / step, "the step"))
        told.append(_verdict(ranks, ratio, seconds / step))
    rows.append(Row("gradients of a step", size / 1e6, "MB"))
    step = config.batch / rates[0]
    future = projection(step, size, config.project_ranks, config.bandwidth, config.latency)
    told.append(
        f"Projection, not measured: {future:.1%} efficiency on {config.project_ranks} ranks"
        " = t / (t + 2 (R - 1) / R * bytes / bandwidth + 2 (R - 1) * latency), nothing overlapped,"
        f" with t = {step:.3g} s, {size:.3g} bytes, {config.bandwidth:g} bytes/s, {config.latency:g} s."
    )
    return Findings(f"scaling: {config.model}, float32, batch {config.batch} a rank", rows, told)


def _verdict(ranks: int, efficiency: float, share: float) -> str:
    if efficiency >= 0.9:
        return f"{ranks} ranks are compute-bound: {efficiency:.0%} of ideal."
    if share > (1 - efficiency) / 2:  # the larger part of what is lost
        return (
            f"{ranks} ranks are communication-bound, allreduce is {share:.0%} of a step: larger --batch or"
            " --accumulate, --fp16-allreduce, a faster network."
        )
    return (
        f"{ranks} ranks at {efficiency:.0%} of ideal share cores, caches or memory:"
        f" allreduce, {share:.0%} of a step, does not explain it."
    )


def _gradient_bytes(model: Name) -> float:
    from .. import models
    from ..bigearthnet import bands
    from ..bigearthnet.nomenclature import BEN19
    from ..models.spec import ModelSpec

    standard = dict.fromkeys(bands.S2_BANDS, (0.0, 1.0))
    spec = ModelSpec(model, bands.S2_BANDS, bands.S2_FEATURES, BEN19, standard)
    return float(sum(4 * v.shape.num_elements() for v in models.build(spec).trainable_variables))


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


def allreduce_seconds(events: Sequence[Any], skip: int = 0) -> float:
    """Returns the seconds in which any allreduce ran, of a Horovod timeline's events (times in microseconds).

    Args:
        events: as the timeline has them; the waiting of one rank for the other is in its NEGOTIATE phases, not here.
        skip: allreduces of each tensor to leave out, from the first on.
    """
    open_at: dict[Any, list[tuple[str, float]]] = {}
    done: Counter[Any] = Counter()
    spans: list[tuple[float, float]] = []
    for event in events:
        if event.get("ph") == "B":
            open_at.setdefault(event.get("pid"), []).append((event.get("name", ""), event["ts"]))
        elif event.get("ph") == "E" and open_at.get(event.get("pid")):
            name, start = open_at[event.get("pid")].pop()
            if name == "ALLREDUCE":
                done[event.get("pid")] += 1
                if done[event.get("pid")] > skip:
                    spans.append((start, event["ts"]))
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def _train(config: Config, launcher: str, ranks: int, folder: Path) -> tuple[float, float]:
    """Returns patches/s over all ranks and seconds in allreduce a step, both without the first epoch."""
    data, workdir, timeline = (folder / f"{name}{ranks}" for name in ("data", "run", "timeline"))
    data.mkdir()
    shards.write(data, config.batch * config.steps * ranks)
    fit = [sys.executable, "-m", "jeoparda_tf.fit", "--data", str(data), "--workdir", str(workdir)]
    fit += ["--model", config.model, "--batch", str(config.batch), "--epochs", str(1 + config.epochs)]
    fit += ["--shuffle-buffer", "64"]
    command = [launcher, "--gloo", "-np", str(ranks), *fit]
    if ranks == 1:  # fit pins several ranks by itself
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *fit]
    environment = {**os.environ, "HOROVOD_TIMELINE": str(timeline)} if ranks > 1 else dict(os.environ)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"training on {ranks} ranks failed: {done.stderr[-500:]}")
    with (workdir / "history.csv").open() as file:
        rate = statistics.median(float(row["images_per_second"]) for row in list(csv.DictReader(file))[1:])
    if ranks == 1:
        return rate, 0.0
    text = timeline.read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else text + "]")
    return rate, allreduce_seconds(events, config.steps) / (config.steps * config.epochs)
