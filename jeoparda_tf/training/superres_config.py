"""All settings of the training of super-resolution."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError


@dataclass(frozen=True)
class SuperResConfig:
    """On what the networks are trained, how, and what is scored."""

    data: Path = option("directory of shards that `convert` wrote; labels are not used", group="data")
    workdir: Path = option(
        "directory of the networks: weights, checkpoints, scores, picture", short="-o", group="data"
    )
    resume: bool = option("go on from the last checkpoint of the workdir", False, group="data")
    evaluate: bool = option("train nothing: score networks trained before on this data", False, group="data")

    filters: int = option("of each convolution", 32, group="model")
    blocks: int = option("residual blocks of two convolutions", 3, group="model")
    precision: Literal["float32", "mixed_bfloat16"] = option(
        "float32, or computing in half precision", "float32", group="model"
    )

    steps: int = option("of the optimizer (Adam), in all", 10_000, group="training")
    batch: int = option("patches of a step", 16, group="training")
    learning_rate: float = option(
        "highest; rises over 200 steps at most, falls to 0 as a cosine", 1e-3, group="training"
    )
    seed: int = option("of weights, order, turns and crops", 0, group="training")

    splits: tuple[str, ...] = option(
        "to score at the end, those there are", ("val", "test"), nargs="+", group="scores"
    )
    score_patches: int = option("of each split to score at most", 1000, group="scores")
    checkpoint_every: int = option("steps between checkpoints, with scores on val", 500, group="scores")

    def to_json(self) -> str:
        """What defines the networks, for `config.json`."""
        names = (
            "filters",
            "blocks",
            "precision",
            "steps",
            "batch",
            "learning_rate",
            "seed",
            "checkpoint_every",
        )
        values = dataclasses.asdict(self)
        return (
            json.dumps({name: values[name] for name in names} | {"data": str(self.data.resolve())}, indent=1)
            + "\n"
        )


def check(config: SuperResConfig) -> None:
    """Raises a UsageError that names the first setting out of its range."""
    for name in ("filters", "blocks", "steps", "batch", "score_patches", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(config, name)}, but must be at least 1")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"--seed is {config.seed}, but must be 0 to {2**32 - 1}")
    if config.learning_rate <= 0:
        raise UsageError(f"--learning-rate is {config.learning_rate}, but must be positive")
    if config.evaluate and config.resume:
        raise UsageError("--evaluate and --resume do not go together")
