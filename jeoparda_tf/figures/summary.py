"""A run in a few words: what was trained on what, and the commands that do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfrecords_tools.errors import DataError

from ..models.spec import ModelSpec
from ..scoring.thresholds import DEFAULT
from ..training import workdir as run
from .curves import best_epoch
from .evaluation import Evaluation


def read_environment(workdir: Path) -> dict[str, Any]:
    """Returns what the run was made on; empty where `environment.json` is missing; DataError where it is damaged."""
    path = workdir / run.ENVIRONMENT
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error
    return values


def facts(
    evaluation: Evaluation,
    spec: ModelSpec,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    history: Mapping[str, np.ndarray],
) -> list[tuple[str, str]]:
    """Returns (what, value) rows for the head of the page; what is not known is left out."""
    ranks = environment.get("ranks")
    best = best_epoch(history)
    epochs = f"{len(history['epoch'])} of {config.get('epochs', '?')}"
    if best is not None:
        epochs += f"; best by validation macro F1: epoch {history['epoch'][best]:.0f}"
    rows = {
        "Model": f"{spec.name}, {spec.precision}",
        "Weights at first": _init(config),
        "Bands": f"{len(spec.bands)}: {' '.join(spec.bands)}",
        "Trained on": spec.origin,
        "Evaluated on": f"{evaluation.split} split, {len(evaluation.labels):,} patches of {evaluation.data}",
        "Nomenclature": f"{evaluation.nomenclature}, {len(evaluation.classes)} classes",
        "Epochs": epochs,
        "Checkpoint": f"step {evaluation.step:,}",
        "Ranks and batch": _ranks(ranks, config.get("batch")),
        "Optimizer": _optimizer(config),
        "Decision": evaluation.threshold_note,
        "Training time": _time(history),
        "Versions": ", ".join(
            f"{name} {version}" for name, version in environment.get("versions", {}).items()
        ),
    }
    return [(what, value) for what, value in rows.items() if value]


def _init(config: Mapping[str, Any]) -> str | None:
    if not config.get("init"):
        return None
    frozen = ", all layers but the last left as they were" if config.get("freeze_backbone") else ""
    return f"{config['init']}{frozen}"


def _ranks(ranks: int | None, batch: int | None) -> str | None:
    if not ranks or not batch:
        return None
    return f"{ranks} rank{'s' if ranks > 1 else ''} x {batch} patches = {ranks * batch} a step"


def _optimizer(config: Mapping[str, Any]) -> str | None:
    if "optimizer" not in config:
        return None
    rate = f"learning rate {config['learning_rate']:g}" + (" a rank" if config["scale_learning_rate"] else "")
    return f"{config['optimizer']}, {config['schedule']} schedule, {rate}"


def _time(history: Mapping[str, np.ndarray]) -> str | None:
    if "seconds" not in history or np.isnan(history["seconds"]).all():
        return None
    minutes = np.nansum(history["seconds"]) / 60
    rate = np.nanmedian(history["images_per_second"])
    return f"{minutes:,.1f} min in epochs, validation not counted; {rate:,.0f} patches/s (median over epochs)"


def commands(workdir: Path, evaluation: Evaluation, ranks: int | None) -> list[str]:
    """Returns the command lines that train, evaluate and report again, in another workdir."""
    launcher = f"horovodrun -np {ranks} " if ranks and ranks > 1 else ""
    config, again = shlex.quote(str(workdir / run.CONFIG)), "RUN-AGAIN"
    first = evaluation.thresholds[0]
    cuts = (
        " --tune-thresholds"
        if evaluation.decision.startswith("tuned")
        else ""
        if first == DEFAULT
        else f" --threshold {first:g}"
    )
    return [
        f"{launcher}python -m jeoparda_tf.fit --config {config} --workdir {again}",
        f"python -m jeoparda_tf.evaluate --workdir {again} --split {evaluation.split}{cuts}",
        f"python -m jeoparda_tf.report --workdir {again} --split {evaluation.split}",
    ]
