"""All settings of a training run. Its location is no part of them, so a run can be moved."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

from ..models.spec import Name

# What may differ between a run and its continuation; anything else would give another history.
_FREE = {"data", "stage", "superres", "keep", "checkpoint_every", "evaluate_batch", "stall_limit"}


@dataclass(frozen=True)
class FitConfig:
    """What to train, on what, and how. Defaults: ResNet50 on twelve bands, SGD with momentum, step decay."""

    data: Path = option("directory of shards that `convert` wrote", group="data")
    workdir: Path = option("directory of the run: checkpoints, history, logs", group="data")
    bands: tuple[str, ...] = option(
        "band names in any order, or all, rgb, s1, 10m, 20m, 60m, joined by + where several",
        ("all",),
        nargs="+",
        group="data",
    )
    resume: bool = option("go on from the last checkpoint of the workdir", False, group="data")

    stage: Optional[Path] = option(
        "copy train and val shards into this folder of each node first, and read them there",
        None,
        group="data",
    )

    model: Name = option("architecture", "resnet50", group="model")
    upsample: Literal["nearest", "bilinear", "bicubic", "superres"] = option(
        "how bands come to the finest grid", "bilinear", group="model"
    )
    superres: Optional[Path] = option(
        "of --upsample superres: folder that `python -m jeoparda_tf.superres` wrote", None, group="model"
    )
    train_superres: bool = option(
        "of --upsample superres: train its networks with the rest; else they stay as they are",
        False,
        group="model",
    )
    l2: float = option(
        "factor of the squared norm of all kernels but the last in the loss", 1e-4, group="model"
    )
    dropout: float = option("rate before the last fully connected layer", 0.3, group="model")
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = option(
        "float32, or computing in half precision", "float32", group="model"
    )
    init: Optional[str] = option(
        "weights to begin with: imagenet (from Keras' cache; nothing is downloaded), the workdir of another run, or a "
        "file of Keras' weights (.h5, .npz)",
        None,
        metavar="imagenet|RUN|FILE",
        group="model",
    )
    freeze_backbone: bool = option(
        "train the last layer alone, with --train-superres its networks too; what --init gave stays as it is, "
        "BatchNorm's statistics too",
        False,
        group="model",
    )

    epochs: int = option("passes over the train split", 20, group="training")
    batch: int = option("patches that one rank holds at a time", 32, group="training")
    accumulate: int = option(
        "batches of each rank whose gradients make one step of the optimizer", 1, group="training"
    )
    optimizer: Literal["sgd", "adam", "adamw", "lamb"] = option("sgd has momentum", "sgd", group="training")
    momentum: float = option("of sgd (Nesterov)", 0.9, group="training")
    weight_decay: float = option("of adamw and lamb", 1e-4, group="training")
    learning_rate: float = option("peak, for steps of --batch patches", 0.02, group="training")
    scale_learning_rate: bool = option("multiply it by ranks x --accumulate", True, group="training")
    schedule: Literal["step", "cosine", "1cycle", "constant"] = option(
        "after the warm-up", "step", group="training"
    )
    warmup_epochs: float = option(
        "epochs of linear increase from 0 (1cycle brings its own)", 1.0, group="training"
    )
    decay_at: tuple[float, ...] = option(
        "shares of the epochs at which step multiplies by --decay-factor",
        (0.6, 0.85),
        nargs="+",
        group="training",
    )
    decay_factor: float = option("of the step schedule", 0.1, group="training")
    seed: int = option("of weights, order, augmentation and dropout", 0, group="training")
    sync_batchnorm: bool = option(
        "normalise by the statistics of all ranks' batches, not each by its own", False, group="training"
    )
    fp16_allreduce: bool = option("send gradients between ranks in half precision", False, group="training")

    loss: Literal["bce", "focal"] = option("binary cross-entropy or focal loss", "bce", group="loss")
    focal_gamma: float = option("focusing exponent", 2.0, group="loss")
    focal_alpha: float = option(
        "weight of the positives, 1 - alpha of the negatives; negative for none", -1.0, group="loss"
    )
    positive_power: float = option(
        "positives weigh (negatives / positives) ** this, a class: 0 none, 1 fully balanced",
        0.0,
        group="loss",
    )
    repeat_threshold: float = option(
        "records come max(1, sqrt(this / share of the records that carry their rarest class)) times an epoch; 0: once",
        0.0,
        group="loss",
    )

    flips: bool = option("turn and mirror at random", True, group="augmentation")
    augment: Literal["none", "heavy"] = option(
        "heavy: shift, crop, cutout, brightness, gains, noise, beside --flips", "none", group="augmentation"
    )
    mixup: float = option("alpha of the Beta distribution; 0 for none", 0.0, group="augmentation")
    shuffle_buffer: int = option(
        "records of the buffer of each rank, 160 kB each", 2048, group="augmentation"
    )

    keep: int = option("last checkpoints to keep, beside the best", 2, group="output")
    checkpoint_every: int = option(
        "steps between checkpoints within an epoch; 0: at its end only", 0, group="output"
    )
    evaluate_batch: int = option("patches of one rank at a time in validation", 64, group="output")
    stall_limit: float = option(
        "seconds without a step or a sign of a rank after which all ranks end; 0: wait for ever",
        600.0,
        group="output",
    )

    @property
    def step_patches(self) -> int:
        """Patches of one rank in one step of the optimizer."""
        return self.batch * self.accumulate

    def to_json(self) -> str:
        """Everything but where the run is and how it was called, for `config.json`."""
        values = dataclasses.asdict(self)
        del values["workdir"], values["resume"]
        for name in ("data", "stage", "superres", "init"):
            if values[name] is not None and values[name] != "imagenet":
                values[name] = str(Path(values[name]).resolve())
        return json.dumps(values, indent=1) + "\n"


def defaults() -> dict[str, Any]:
    """Returns the settings that have a default, as `config.json` has them."""
    fields = dataclasses.fields(FitConfig)
    known = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    values: dict[str, Any] = json.loads(json.dumps(known, default=str))
    return values


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns what makes two contents of `config.json` those of two runs, a setting each as `name was 1, now 2`."""
    # A run begun before a setting existed had what is its default now.
    before = {**defaults(), **before}
    return [
        f"{name} was {before.get(name)}, now {now[name]}"
        for name in now
        if name not in _FREE and before.get(name) != now[name]
    ]


def check(config: FitConfig) -> None:
    """Raises a UsageError that names the first setting out of its range."""
    at_least: dict[str, float] = dict.fromkeys(
        ("epochs", "batch", "accumulate", "evaluate_batch", "keep", "shuffle_buffer"), 1
    )
    at_least |= dict.fromkeys(
        ("checkpoint_every", "learning_rate", "l2", "weight_decay", "mixup", "focal_gamma", "stall_limit"), 0
    )
    ranges: dict[str, tuple[float, Optional[float]]] = {name: (low, None) for name, low in at_least.items()}
    ranges |= dict.fromkeys(("momentum", "decay_factor", "positive_power", "repeat_threshold"), (0, 1))
    ranges |= {
        "seed": (0, 2**32 - 1),
        "dropout": (0, 0.99),
        "focal_alpha": (-1, 1),
        "warmup_epochs": (0, config.epochs),
    }
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value < low or (high is not None and value > high):
            limit = f"at least {low}" if high is None else f"{low} to {high}"
            raise UsageError(f"--{name.replace('_', '-')} is {value}, but must be {limit}")
    if config.freeze_backbone and not config.init:
        raise UsageError("--freeze-backbone would keep random weights", remedy="give --init too")
    if (config.upsample == "superres") != (config.superres is not None):
        remedy = "give both; `python -m jeoparda_tf.superres` trains the networks"
        raise UsageError("--upsample superres and --superres go together", remedy=remedy)
    if config.train_superres and not config.superres:
        raise UsageError("--train-superres goes with --upsample superres")
    if config.superres and config.model == "kbranch":
        raise UsageError("kbranch sees every resolution at its own size: there is nothing to super-resolve")
    if any(not 0 < share < 1 for share in config.decay_at) or list(config.decay_at) != sorted(
        config.decay_at
    ):
        raise UsageError(f"--decay-at must be increasing shares between 0 and 1, not {config.decay_at}")
