"""The folder of a run: what lies where, and a trained model out of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Union

from tfrecords_tools.errors import DataError, UsageError

from .. import __version__
from ..models.spec import ModelSpec

CONFIG, MODEL, ENVIRONMENT, HISTORY = "config.json", "model.json", "environment.json", "history.csv"
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"
INIT = "init.json"
LOCK, HEARTBEATS = "run.lock", ".ranks"


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def read_config(workdir: Path) -> dict[str, Any]:
    """Returns the settings that the run was made with, as `config.json` has them.

    Raises:
        UsageError: the folder is no workdir.
        DataError: the file is damaged.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise UsageError(
            "not the workdir of a run: it has no config.json",
            path=workdir,
            remedy="name the --workdir given to `fit`",
        )
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"damaged: {error}", path=path) from error
    return values


def read_spec(workdir: Path) -> ModelSpec:
    """Returns the spec of the run's model; DataError where `model.json` is missing or damaged."""
    path = workdir / MODEL
    try:
        return ModelSpec.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error


def load_model(workdir: Path, checkpoint: Union[str, int] = "best") -> tuple[Any, ModelSpec, int]:
    """Builds the model of a run with its weights.

    Args:
        workdir: of the run.
        checkpoint: "best" (by macro F1 on validation; "last" where there was none), "last", or a step.

    Returns:
        the Keras model, its spec, and the global step of the weights.

    Raises:
        UsageError: no such checkpoint, or no workdir.
        DataError: something in it is damaged.
    """
    from .. import models
    from ..stack import tf
    from . import checkpoints

    read_config(workdir)
    folder = workdir / CHECKPOINTS
    saved = checkpoints.all_of(folder)
    if not saved:
        raise UsageError(
            "this run has no checkpoint yet",
            path=workdir,
            remedy="`fit` writes one at the end of every epoch",
        )
    if checkpoint == "best":
        chosen = checkpoints.best(folder) or saved[-1]
    elif checkpoint == "last":
        chosen = saved[-1]
    else:
        chosen = folder / f"step-{int(checkpoint):08d}"
        if chosen not in saved:
            raise UsageError(
                f"no checkpoint of step {checkpoint}",
                path=workdir,
                remedy=f"it has: {', '.join(p.name for p in saved)}",
            )
    state = checkpoints.state_of(chosen)
    spec = read_spec(workdir)
    model = models.build(spec)
    checkpoints.restore(chosen, tf.train.Checkpoint(model=model), partial=True)
    return model, spec, int(state["step"])


def environment(size: int) -> str:
    """Returns what the run is made on, as JSON: versions, ranks, cores, GPUs, the command line."""
    from importlib import metadata

    from ..stack import tf

    versions = {"jeoparda_tf": __version__, "python": platform.python_version()}
    for name in ("tensorflow", "tf_keras", "tensorflow-addons", "horovod", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    values = {"versions": versions, "ranks": size, "cores": os.cpu_count(), "gpus": gpus, "command": sys.argv}
    return json.dumps(values, indent=1) + "\n"
