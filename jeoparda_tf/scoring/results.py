"""What an evaluation leaves: files in the workdir's `evaluation` folder, and tables for the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from tfrecords_tools.errors import DataError, UsageError

from .hierarchy import Level, Levels
from .scores import DEFINITIONS, Scores

if TYPE_CHECKING:
    from rich.table import Table

FOLDER, THRESHOLDS = "evaluation", "thresholds.json"


def write(
    workdir: Path,
    about: Mapping[str, Any],
    result: Scores,
    classes: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    levels: Optional[Levels] = None,
) -> Path:
    """Writes `evaluation/<split>.npz`, then `<split>.json`, each whole or not at all.

    Args:
        workdir: of the run.
        about: what was scored; must have `split`. It heads the JSON file.
        result: the scores.
        classes: class names.
        labels: 0/1 [records, classes] in the order of the records.
        scores: float32 [records, classes].
        levels: the scores in coarser nomenclatures, where there are such.

    Returns:
        the path of the JSON file.

    Raises:
        DataError: the folder cannot be written.
    """
    path = workdir / FOLDER / f"{about['split']}.json"
    packed = io.BytesIO()
    np.savez_compressed(
        packed, scores=scores.astype(np.float32), labels=labels.astype(np.uint8), thresholds=result.thresholds
    )
    _write(path.with_suffix(".npz"), packed.getvalue())
    content = {**about, **result.to_json(classes)}
    if levels:
        content["levels"] = {name: _level_json(level) for name, level in levels.items()}
    write_json(path, content)
    return path


def _level_json(level: Level) -> dict[str, Any]:
    content = level.scores.to_json(level.nomenclature.classes)
    # A parent has no threshold of its own, and the definitions stand in the file once.
    rows = [{**row, "codes": codes} for row, codes in zip(content["classes"], level.nomenclature.codes)]
    for row in rows:
        del row["threshold"]
    return {"averages": content["averages"], "classes": rows}


def write_thresholds(
    workdir: Path, about: Mapping[str, Any], classes: Sequence[str], thresholds: np.ndarray
) -> None:
    """Writes `evaluation/thresholds.json` for `read_thresholds`; raises a DataError where it cannot be written."""
    values = dict(zip(classes, thresholds.tolist()))
    write_json(workdir / FOLDER / THRESHOLDS, {**about, "thresholds": values})


def read_thresholds(workdir: Path, classes: Sequence[str]) -> tuple[np.ndarray, int]:
    """Returns the tuned thresholds, float64 [classes], and the step of the checkpoint they were tuned for.

    Raises:
        UsageError: none were tuned yet.
        DataError: the file is damaged, or of other classes.
    """
    path = workdir / FOLDER / THRESHOLDS
    again = f"run: python -m jeoparda_tf.evaluate --workdir {workdir} --tune-thresholds"
    try:
        content = json.loads(path.read_text())
        return np.array([float(content["thresholds"][name]) for name in classes]), int(content["step"])
    except FileNotFoundError:
        raise UsageError("this run has no tuned thresholds yet", path=path, remedy=again) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read: {type(error).__name__} {error}", path=path, remedy=again) from error


def class_table(result: Scores, classes: Sequence[str], title: str) -> Table:
    """Returns the scores of every class, the most frequent class first."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("class")
    for heading in ("patches", "precision", "recall", "F1", "AP", "threshold"):
        table.add_column(heading, justify="right", no_wrap=True)
    columns = (result.precision, result.recall, result.f1, result.average_precision, result.thresholds)
    for i in np.argsort(-result.support, kind="stable"):
        table.add_row(classes[i], f"{result.support[i]:,}", *(f"{column[i]:.3f}" for column in columns))
    return table


def average_table(result: Scores) -> Table:
    """Returns the averages with their definitions."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("average", no_wrap=True)
    for heading in ("precision", "recall", "F1", "AP"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("is the")
    for name, value in result.averages.items():
        numbers = (value.precision, value.recall, value.f1, value.average_precision)
        table.add_row(name, *(f"{number:.3f}" for number in numbers), DEFINITIONS[name])
    return table


def level_table(levels: Levels) -> Table:
    """Returns one line a nomenclature: what one model scores at each level of the hierarchy."""
    from rich import box
    from rich.table import Table

    title = "The same predictions in coarser nomenclatures: a class is there where any of its members is"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("nomenclature", no_wrap=True)
    for heading in ("classes", "micro F1", "macro F1", "micro AP", "macro AP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, level in levels.items():
        micro, macro = level.scores.micro, level.scores.macro
        numbers = (micro.f1, macro.f1, micro.average_precision, macro.average_precision)
        table.add_row(name, str(len(level.nomenclature.classes)), *(f"{number:.3f}" for number in numbers))
    return table


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all, in a folder that is made; raises a DataError where it cannot be written."""
    _write(path, (json.dumps(values, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error
