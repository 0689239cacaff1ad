"""Several runs side by side: what was set differently, what they score, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrecords_tools.errors import UsageError

from ..training import workdir as runs
from . import curves, evaluation, style
from .evaluation import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

# Settings that say where and how a run was carried out, not what was learned.
_ASIDE = {"data", "stage", "keep", "checkpoint_every", "evaluate_batch", "shuffle_buffer"}
_THRESHOLDS = "thresholds"
# Macro is over all classes, one without a patch counting 0; "occ." over those that occur.
_SCORES = ("F1 micro", "F1 macro", "F1 macro occ.", "AP micro", "AP macro")


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        run: its workdir.
        differs: the settings that are not the same in all runs, as `name value`.
        scores: by the names in the table.
        parameters: numbers of the model that are trained.
        images_per_second: median over the epochs, all ranks together; NaN where the history has none.
        epochs: that were finished.
        about: what the scores are of: split, data, nomenclature, patches.
        occurring: classes that some patch carries, and all there are.
        origin: of that data; "BigEarthNet", or what stands in for it.
    """

    run: Path
    differs: str
    scores: Mapping[str, float]
    parameters: int
    images_per_second: float
    epochs: int
    about: tuple[str, str, str, int]
    occurring: tuple[int, int]
    origin: str


def lines(workdirs: Sequence[Path], split: str) -> list[Line]:
    """Reads the runs.

    Raises:
        UsageError: there are fewer than two; a folder is no workdir, or the split was not evaluated.
        DataError: a file of a run is damaged.
    """
    if len(workdirs) < 2:
        raise UsageError("--compare needs at least two runs")
    settings = [runs.read_config(path) for path in workdirs]
    names = sorted({name for config in settings for name in config} - _ASIDE)
    changed = [name for name in names if len({str(config.get(name)) for config in settings}) > 1]
    found = [evaluation.read(path, split) for path in workdirs]
    # How scores became names is no setting of the training, but a means against imbalance like those that are.
    if len({one.decision for one in found}) > 1:
        changed.append(_THRESHOLDS)
        settings = [{**config, _THRESHOLDS: one.decision} for config, one in zip(settings, found)]
    return [_line(path, config, changed, one) for path, config, one in zip(workdirs, settings, found)]


def _line(path: Path, config: Mapping[str, Any], changed: Sequence[str], found: Evaluation) -> Line:
    history, result = curves.read_history(path / runs.HISTORY), found.result
    micro, macro = result.micro, result.macro
    f1 = (micro.f1, macro.f1, result.macro_occurring.f1)
    numbers = (*f1, micro.average_precision, macro.average_precision)
    rates = history.get("images_per_second", np.empty(0))
    return Line(
        run=path,
        differs=", ".join(f"{name} {plain(config.get(name))}" for name in changed) or "nothing",
        scores=dict(zip(_SCORES, numbers)),
        parameters=parameters(path),
        images_per_second=float(np.nanmedian(rates)) if np.isfinite(rates).any() else float("nan"),
        epochs=len(history["epoch"]),
        about=(found.split, str(found.data), found.nomenclature, len(found.labels)),
        occurring=(int(found.labels.any(0).sum()), len(found.classes)),
        origin=found.origin,
    )


def plain(value: Any) -> str:
    """Returns a setting as it is written on a command line."""
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def parameters(workdir: Path) -> int:
    """Returns how many numbers of a run's model are trained."""
    from .. import models

    model = models.build(runs.read_spec(workdir))
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def warning(rows: Sequence[Line]) -> str:
    """Says what makes the scores of the runs no comparison; empty where they are of the same patches and classes."""
    different = [
        name
        for name, values in zip(
            ("data", "nomenclature", "patches"), list(zip(*(row.about for row in rows)))[1:]
        )
        if len(set(values)) > 1
    ]
    return f"Not the same {' and '.join(different)}: these scores do not compare." if different else ""


def _note(rows: Sequence[Line]) -> str:
    split, _, nomenclature, patches = rows[0].about
    others = sorted({row.origin for row in rows} - {"BigEarthNet"})
    origin = f"Not BigEarthNet: {', '.join(others)}. " if others else ""
    occurring, classes = rows[0].occurring
    missing = f", {occurring} of its {classes} classes occur" if occurring < classes else ""
    return origin + (warning(rows) or f"{split} split, {patches:,} patches, {nomenclature}{missing}.")


def _shown(rows: Sequence[Line]) -> list[str]:
    """Names of the scores; without a column that says of all runs what another says already."""
    whole = all(occurring == classes for occurring, classes in (row.occurring for row in rows))
    return [name for name in _SCORES if not (whole and name == _SCORES[2])]


def table(rows: Sequence[Line]) -> Table:
    """Returns one line a run."""
    from rich import box
    from rich.table import Table

    out = Table(title=_note(rows), title_justify="left", box=box.SIMPLE_HEAD)
    out.add_column("run", overflow="fold")
    out.add_column("differs in", overflow="fold")
    names = _shown(rows)
    for heading in (*names, "parameters", "images/s", "epochs"):
        out.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scores = (f"{row.scores[name]:.3f}" for name in names)
        rate = "-" if np.isnan(row.images_per_second) else f"{row.images_per_second:,.0f}"
        out.add_row(str(row.run), row.differs, *scores, f"{row.parameters:,}", rate, str(row.epochs))
    return out


def draw(rows: Sequence[Line]) -> style.Picture:
    """Draws micro and macro F1 of every run on one scale."""
    figure = style.canvas(1.6 + 0.55 * len(rows), "F1 of the runs", _note(rows))
    axes = style.plain(figure.subplots(), "x")
    places = np.arange(len(rows))[::-1]
    marks = zip(_SCORES[:3], (style.BLUE, style.VERMILION, style.GREEN), "os^")
    for name, colour, marker in (mark for mark in marks if mark[0] in _shown(rows)):
        values = [row.scores[name] for row in rows]
        axes.plot(values, places, marker, color=colour, markersize=8, label=name)
    axes.set_yticks(places, [style.wrapped(_label(row, rows), 26) for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 1)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=style.SMALL)
    said = "; ".join(
        f"{row.run.name} {row.scores['F1 micro']:.3f} and {row.scores['F1 macro']:.3f}" for row in rows
    )
    caption = (
        "Micro F1: of counts summed over classes. Macro F1: mean over all classes, each counting the same, one "
        "without a patch 0; occ.: over the classes that occur."
    )
    return style.Picture("comparison", "F1 of the runs", caption, f"Micro and macro F1: {said}.", figure)


def _label(row: Line, rows: Sequence[Line]) -> str:
    same = sum(other.run.name == row.run.name for other in rows) > 1
    return str(row.run) if same else row.run.name


def to_json(rows: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the lines as plain values; what is not known is None."""
    return [
        {
            "run": str(row.run), "differs": row.differs, **row.scores, "parameters": row.parameters,
            "images_per_second": None if np.isnan(row.images_per_second) else row.images_per_second,
            "epochs": row.epochs, "classes_occurring": row.occurring[0], "classes": row.occurring[1],
            **dict(zip(("split", "data", "nomenclature", "patches"), row.about)),
            "origin": row.origin,
        }
        for row in rows
    ]  # fmt: skip
