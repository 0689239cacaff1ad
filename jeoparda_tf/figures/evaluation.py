"""What `evaluate` left in a workdir, read and checked."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfrecords_tools.errors import DataError, UsageError

from ..scoring import results
from ..scoring.scores import Scores, score


@dataclass(frozen=True)
class Evaluation:
    """Scores and truth of one split, in the order of its records.

    Attributes:
        split: its name.
        classes: class names in the order of the columns.
        nomenclature: their name, "clc43" or "ben19".
        origin: what the pixels are.
        data: directory of the shards.
        step: global step of the checkpoint.
        decision: how scores became names, for instance "tuned on val".
        labels: bool [patches, classes].
        scores: float32 [patches, classes].
        thresholds: float64 [classes].
    """

    split: str
    classes: tuple[str, ...]
    nomenclature: str
    origin: str
    data: Path
    step: int
    decision: str
    labels: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray

    @cached_property
    def predicted(self) -> np.ndarray:
        """Bool [patches, classes]: a score equal to its threshold counts."""
        return self.scores >= self.thresholds

    @cached_property
    def result(self) -> Scores:
        """Per class and averaged."""
        return score(self.labels, self.scores, self.thresholds)

    @property
    def threshold_note(self) -> str:
        """How scores became names, in words."""
        low, high = self.thresholds.min(), self.thresholds.max()
        return f"thresholds {self.decision}" + ("" if low == high else f" ({low:.2f} to {high:.2f})")

    @property
    def note(self) -> str:
        """What every picture says of itself."""
        return self._with_origin(
            f"{self.split} split, {len(self.labels):,} patches, {self.nomenclature} ({len(self.classes)} "
            "classes)"
        )

    @property
    def run_note(self) -> str:
        """What a picture of the training says of itself: nothing of the split that was evaluated."""
        return self._with_origin(f"train and val splits, {self.nomenclature} ({len(self.classes)} classes)")

    def _with_origin(self, note: str) -> str:
        return note if self.origin == "BigEarthNet" else f"{note}. Not BigEarthNet: {self.origin}"


def read(workdir: Path, split: str) -> Evaluation:
    """Reads `evaluation/<split>.json` and `.npz` of a workdir.

    Raises:
        UsageError: that split was not evaluated yet.
        DataError: a file is damaged or does not fit the other.
    """
    path = workdir / results.FOLDER / f"{split}.json"
    command = f"python -m jeoparda_tf.evaluate --workdir {workdir} --split {split}"
    if not path.is_file():
        raise UsageError(f"no evaluation of the {split} split yet", path=path, remedy=f"run: {command}")
    summary = _json(path, command)
    arrays = _arrays(path.with_suffix(".npz"), command)
    try:
        evaluation = Evaluation(
            split=split,
            classes=tuple(row["name"] for row in summary["classes"]),
            nomenclature=summary["nomenclature"],
            origin=summary["origin"],
            data=Path(summary["data"]),
            step=int(summary["step"]),
            decision=summary["thresholds"],
            labels=arrays["labels"] != 0,
            scores=arrays["scores"],
            thresholds=np.asarray(arrays["thresholds"], np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"incomplete: {type(error).__name__} {error}", path=path, remedy=f"evaluate again: {command}"
        ) from error
    _check(evaluation, path.with_suffix(".npz"), command)
    return evaluation


def _json(path: Path, command: str) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", path=path, remedy=f"evaluate again: {command}") from error


def _arrays(path: Path, command: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("scores", "labels", "thresholds")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"damaged: {error}", path=path, remedy=f"evaluate again: {command}") from error


def _check(evaluation: Evaluation, path: Path, command: str) -> None:
    shape = (len(evaluation.labels), len(evaluation.classes))
    faults = {
        "it holds no patch": not shape[0],
        f"labels are {evaluation.labels.shape}, not {shape}": evaluation.labels.shape != shape,
        f"scores are {evaluation.scores.shape}, not {shape}": evaluation.scores.shape != shape,
        f"thresholds are {evaluation.thresholds.shape}, not {shape[1:]}": evaluation.thresholds.shape
        != shape[1:],
        "scores contain NaN": bool(np.isnan(evaluation.scores).any()),
    }
    problem = next((text for text, wrong in faults.items() if wrong), None)
    if problem:
        raise DataError(
            f"does not fit {path.with_suffix('.json').name}: {problem}",
            path=path,
            remedy=f"evaluate again: {command}",
        )
