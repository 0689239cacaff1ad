"""Writes a trained model as a SavedModel (and, asked for, ONNX) that runs without this package.

It takes raw digital numbers, one array a resolution, and gives scores and class names.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional, Union

from tfrecords_tools import cli
from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError


@dataclass(frozen=True)
class ExportConfig:
    """Which run, and where to."""

    workdir: Path = option("of the run that `fit` made")
    out: Path = option("folder to write, new or empty", short="-o", metavar="DIR")
    checkpoint: Union[Literal["best", "last"], int] = option(
        "best (by macro F1 on validation), last, or the number of a step", "best"
    )
    onnx: bool = option("write model.onnx beside it", False)


def export(config: ExportConfig) -> Path:
    """Writes the folder; until it is whole it lies beside it under a name that ends in .unfinished.

    Returns:
        the folder: a SavedModel with `model.json`, which tells bands, classes and statistics.

    Raises:
        UsageError: the folder holds something, or the run or the checkpoint is none, or tf2onnx is not installed.
        DataError: the run is damaged, or the folder cannot be written.
    """
    from .training import workdir

    if config.out.exists() and not (config.out.is_dir() and not any(config.out.iterdir())):
        raise UsageError("is there already", path=config.out, remedy="name a new folder, or remove it")
    workdir.read_config(config.workdir)  # says best what is wrong with a folder that is no run
    from .mapping import exporting
    from .stack import tf

    model, spec, _ = workdir.load_model(config.workdir, config.checkpoint)
    model, spec = exporting.in_float32(model, spec)
    unfinished = config.out.absolute().with_name(config.out.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        exporting.saved_model(model, spec, unfinished)
        (unfinished / workdir.MODEL).write_text(spec.to_json())
        if config.onnx:
            exporting.onnx(model, spec, unfinished / exporting.ONNX_FILE)
        unfinished.rename(config.out)
    except (OSError, tf.errors.OpError) as error:
        problem = error.message if isinstance(error, tf.errors.OpError) else error.strerror
        raise DataError(f"cannot be written: {problem}", path=config.out) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return config.out


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, exports, says where it is."""
    config = cli.parse(ExportConfig, "python -m jeoparda_tf.export", __doc__, argv)
    print(f"exported: {export(config)}")


if __name__ == "__main__":
    cli.run(main)
