"""Names the land cover of patches: folders of GeoTIFFs as BigEarthNet has them, version 1 or 2.

Results come as they are ready; at the first patch that cannot be read it stops, after those before it were printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union

import numpy as np

from tfrecords_tools import cli
from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature

from .bigearthnet import bands, raster
from .bigearthnet.nomenclature import names_above
from .models.spec import ModelSpec
from .scoring import results, thresholds
from .training import workdir

# Patches in memory at once.
_BATCH = 32


@dataclass(frozen=True)
class PredictConfig:
    """Which patches, which model, and what to print."""

    patches: tuple[Path, ...] = option(
        "folders of single patches", positional=True, nargs="+", metavar="PATCH"
    )
    workdir: Path = option("of the run that `fit` made")
    s1: tuple[Path, ...] = option(
        "folders of the Sentinel-1 patches, in the order of the others, for models with VV or VH",
        (),
        nargs="+",
    )
    checkpoint: Union[Literal["best", "last"], int] = option(
        "best (by macro F1 on validation), last, or the number of a step", "best"
    )
    threshold: float = option("a class is named from this score on", thresholds.DEFAULT)
    thresholds: Literal["fixed", "tuned"] = option("tuned: those of `evaluate --tune-thresholds`", "fixed")
    top: int = option(
        "name the classes of the K highest scores instead, whatever the threshold", 0, metavar="K"
    )
    json_lines: bool = option(
        "print a JSON object a patch: patch, labels, and the scores of all classes", False
    )


@dataclass(frozen=True)
class Prediction:
    """One patch: `labels` are the names given to it, highest score first; `scores` of all classes by name."""

    patch: str
    labels: list[str]
    scores: dict[str, float]

    def to_json(self) -> str:
        """Returns one line."""
        return json.dumps({"patch": self.patch, "labels": self.labels, "scores": self.scores})

    def to_text(self) -> str:
        """Returns the patch and, line by line, its names with their scores."""
        lines = [f"  {self.scores[name]:.3f}  {name}" for name in self.labels]
        return "\n".join([self.patch, *(lines or ["  no class reaches its threshold"])])


def check(config: PredictConfig, spec: ModelSpec) -> None:
    """Raises a UsageError where flags, folders and model do not fit together."""
    if not 0 <= config.threshold <= 1:
        raise UsageError(f"--threshold is {config.threshold}, but must be 0 to 1")
    if config.top < 0:
        raise UsageError(f"--top is {config.top}, but must not be negative")
    for folder in (*config.patches, *config.s1):
        cli.existing_folder(folder, "a patch")
    takes_s1 = bands.S1_FEATURE in spec.features
    if takes_s1 != bool(config.s1):
        needs = "takes Sentinel-1: name the patches' folders with --s1" if takes_s1 else "takes no Sentinel-1"
        raise UsageError(f"the model of this run {needs}", path=config.workdir)
    if takes_s1 and len(config.s1) != len(config.patches):
        raise UsageError(f"{len(config.s1)} folders of Sentinel-1 for {len(config.patches)} patches")


def predict(config: PredictConfig) -> Iterator[Prediction]:
    """Predicts the patches in their order.

    Raises:
        UsageError: something asked for does not fit together; before the first patch.
        DataError: the run or a patch cannot be read; after the patches before it.
    """
    spec = workdir.read_spec(config.workdir)
    check(config, spec)
    classes = spec.nomenclature.classes
    cuts: Union[float, np.ndarray] = config.threshold
    tuned_at = None
    if config.thresholds == "tuned":
        cuts, tuned_at = results.read_thresholds(config.workdir, classes)
    model, _, step = workdir.load_model(config.workdir, config.checkpoint)
    if tuned_at not in (None, step):
        remedy = f"tune again, or give --checkpoint {tuned_at}"
        raise UsageError(
            f"the thresholds were tuned for step {tuned_at}, not {step}", path=config.workdir, remedy=remedy
        )
    for names, arrays, problem in _batches(config, spec.features):
        if names:
            for name, scores in zip(names, model.predict_on_batch(arrays)):
                yield Prediction(
                    name, _labels(scores, cuts, config.top, classes), dict(zip(classes, scores.tolist()))
                )
        if problem:
            raise problem


def _labels(
    scores: np.ndarray, cuts: Union[float, np.ndarray], top: int, classes: Sequence[str]
) -> list[str]:
    order = np.argsort(-scores, kind="stable")
    if top:
        return [classes[i] for i in order[:top]]
    named = set(names_above(scores, cuts, classes))
    return [classes[i] for i in order if classes[i] in named]


def _batches(
    config: PredictConfig, features: Sequence[Feature]
) -> Iterator[tuple[list[str], dict[str, np.ndarray], Optional[DataError]]]:
    """Yields names, arrays [patches, *shape] by feature name, and what is wrong with the next patch, if anything."""
    read = raster.reader("auto")
    optical = [feature for feature in features if feature != bands.S1_FEATURE]
    for start in range(0, len(config.patches), _BATCH):
        names: list[str] = []
        patches: list[dict[str, np.ndarray]] = []
        problem: Optional[DataError] = None
        for number in range(start, min(start + _BATCH, len(config.patches))):
            try:
                arrays = _read(read, config.patches[number], optical)
                if config.s1:
                    arrays.update(_read(read, config.s1[number], [bands.S1_FEATURE]))
            except DataError as error:
                problem = error
                break
            names.append(config.patches[number].resolve().name)
            patches.append(arrays)
        yield (
            names,
            {f.name: np.stack([patch[f.name] for patch in patches]) for f in features if patches},
            problem,
        )
        if problem:
            return


def _read(read: raster.ReadPatch, folder: Path, features: Sequence[Feature]) -> dict[str, Any]:
    name = folder.resolve().name
    try:
        return read(str(folder), name, features)
    except DataError as error:
        remedy = f"a patch is a folder with a GeoTIFF a band: {raster.file_of(name, name, 'B02')} and so on"
        raise DataError(error.problem, path=error.path, remedy=remedy) from error


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, predicts, prints patch by patch."""
    config = cli.parse(PredictConfig, "python -m jeoparda_tf.predict", __doc__, argv)
    workdir.read_config(config.workdir)  # says best what is wrong with a folder that is no run
    origin = workdir.read_spec(config.workdir).origin
    if origin != "BigEarthNet":
        print(f"note: the model was trained on something else than BigEarthNet: {origin}", file=sys.stderr)
    for prediction in predict(config):
        print(prediction.to_json() if config.json_lines else prediction.to_text(), flush=True)


if __name__ == "__main__":
    cli.run(main)
