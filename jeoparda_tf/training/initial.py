"""What a run begins with: fresh weights, those of ImageNet, of a file, or of another run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tfrecords_tools.errors import DataError, UsageError

from ..models import imagenet, transfer
from ..models.spec import ModelSpec
from ..models.transfer import Transfer
from . import workdir

IMAGENET = "imagenet"


def check(init: str, spec: ModelSpec) -> None:
    """Raises a UsageError where what `--init` names is not there or is of another model; reads no weights."""
    path = Path(init)
    if init == IMAGENET:
        imagenet.find(spec.name)
    elif path.is_dir():
        workdir.read_config(path)
        other = workdir.read_spec(path)
        if other.name != spec.name:
            raise UsageError(
                f"the run is of {other.name}, not of {spec.name}",
                path=path,
                remedy=f"give --model {other.name}, or another --init",
            )
    elif not path.is_file():
        raise UsageError(
            "no such run or file to begin with",
            path=path,
            remedy="--init takes imagenet, the workdir of a run, or a file of weights",
        )


def fill(model: Any, spec: ModelSpec, init: str) -> tuple[Transfer, dict[str, Any]]:
    """Overwrites the fresh weights of a model.

    A run gives its best checkpoint (by macro F1 on validation); its last layer is taken where the classes are the same.

    Args:
        model: of `models.build`.
        spec: of it.
        init: imagenet, a workdir, or a file.

    Returns:
        what became of the layers, and where the weights come from, for `init.json`.

    Raises:
        UsageError: as `check`; or nothing there fits.
        DataError: the weights cannot be read, or are not those of this model.
    """
    check(init, spec)
    path = imagenet.find(spec.name) if init == IMAGENET else Path(init).resolve()
    if not path.is_dir():
        weights = imagenet.read(path, spec.name)
        result = transfer.fill(model, spec, weights, imagenet.BANDS)
        lacking = sorted(set(weights) - {*result.taken, *result.adapted})
        if lacking or len(result.new) > 1:
            strange = lacking or [name for name in result.new if name != transfer.HEAD]
            raise DataError(
                f"not the weights of {spec.name}: {strange[0]} and {len(strange) - 1} more layers differ",
                path=path,
            )
        return result, {"source": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    from . import checkpoints

    source, other, step = workdir.load_model(path)
    same = other.nomenclature.classes == spec.nomenclature.classes
    weights = transfer.weights_of(source)
    result = transfer.fill(model, spec, weights, transfer.first_layers(other), head=same)
    if not {*result.taken, *result.adapted} - {transfer.HEAD}:
        raise UsageError("no layer of this run fits", path=path)
    files = checkpoints.state_of(path / workdir.CHECKPOINTS / f"step-{step:08d}")["files"]
    return result, {"source": str(path), "step": step, "files": files}


def write(folder: Path, result: Transfer, source: dict[str, Any]) -> None:
    """Keeps in the workdir what the run began with."""
    workdir.write_text(folder / workdir.INIT, json.dumps({**source, **result._asdict()}, indent=1) + "\n")


def in_words(result: Transfer) -> str:
    """Returns which layers were taken, adapted and left fresh, as one line; layers of one stage together."""
    parts = [
        f"{what} {len(names)} layers ({_stages(names)})" if names else f"{what} none"
        for what, names in zip(("taken", "adapted to other bands", "new"), result)
    ]
    return ", ".join(parts)


def _stages(names: tuple[str, ...]) -> str:
    if len(names) <= 3:
        return " ".join(names)
    return " ".join(dict.fromkeys(name.split("_")[0] for name in names))


def freeze(model: Any) -> None:
    """Keeps all layers but the last as they are: no gradients, BatchNorm in inference."""
    for layer in transfer.backbone(model):
        layer.trainable = False
