"""The runs of a study as one table, row by row, and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from ..scoring import results
from ..scoring.scores import score
from ..training import workdir as runs
from ..training.studies import Row, Study
from . import comparison, curves, evaluation, style

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = ((style.BLUE, "o"), (style.VERMILION, "s"), (style.GREEN, "^"), (style.PURPLE, "D"))
# What a row's numbers are called in the tables; macro over the classes that occur, as the others would count as 0.
_COLUMNS = {
    "micro": "micro F1",
    "macro": "macro F1",
    "micro_tuned": "micro F1, tuned",
    "macro_tuned": "macro F1, tuned",
}


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        row: name of its row.
        changes: what the row sets, as `name value`.
        seed: of the run.
        workdir: of the run.
        scores: F1 on the test split by the keys of `_COLUMNS`: at a threshold of 0.5, and as it was evaluated.
        step_patches: patches of one step of the optimizer, all ranks together.
        curve: value of the setting that the curves are drawn for.
        parameters: numbers of the model that are trained.
        images_per_second: median of the epochs of the run, or the last epoch of the row's run for speed.
        masks: mean IoU and pixel accuracy by the head: "classifier", "reference maps".
    """

    row: str
    changes: str
    seed: int
    workdir: str
    scores: Mapping[str, float]
    step_patches: int
    curve: str
    parameters: int
    images_per_second: float
    masks: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Found:
    """All runs of a study.

    Attributes:
        title: of the study.
        conditions: sentences on data, classes, budget and speed.
        results: in the order of the rows, then of the seeds.
        curves: the setting that the curves are drawn for, None for none.
    """

    title: str
    conditions: tuple[str, ...]
    results: tuple[Result, ...]
    curves: Optional[str]

    def of(self, row: str) -> list[Result]:
        """Returns the runs of a row."""
        return [result for result in self.results if result.row == row]

    @property
    def rows(self) -> list[str]:
        """Names of the rows."""
        return list(dict.fromkeys(result.row for result in self.results))


def collect(study: Study, found: Sequence[tuple[Row, int, Path]], speeds: Mapping[str, Path]) -> Found:
    """Reads the runs.

    Args:
        study: the table.
        found: row, seed and workdir of each run.
        speeds: workdirs of the runs for speed by row, whether they are there or not.

    Raises:
        UsageError: a run was not evaluated.
        DataError: a file of a run is damaged.
    """
    order = [row.name for row in study.rows]
    sorted_runs = sorted(found, key=lambda run: (order.index(run[0].name), run[1]))
    # All or none: rates of a quiet machine and of a busy one do not compare.
    measured = all(_measured(speeds[row.name]) for row, _, _ in found)
    parameters: dict[str, int] = {}
    out = []
    for row, seed, path in sorted_runs:
        spec = runs.read_spec(path)
        # Counting builds the model; what does not change its size is left aside.
        key = replace(spec, statistics={}, l2=0.0, dropout=0.0, seed=0).to_json()
        if key not in parameters:
            parameters[key] = comparison.parameters(path)
        speed = speeds[row.name] if measured else None
        out.append(_result(study, row, seed, path, parameters[key], speed))
    paths = [path for _, _, path in sorted_runs]
    left = len(study.runs) - len(found)
    unfinished = (f"{left} of {len(study.runs)} runs are not done yet.",) if left else ()
    return Found(study.title, _conditions(paths, measured) + unfinished, tuple(out), study.curves)


def _measured(folder: Path) -> bool:
    """Whether a run for speed came to its second epoch: what was interrupted leaves a folder too."""
    path = folder / runs.HISTORY
    return path.is_file() and len(curves.read_history(path)["epoch"]) > 1


def _result(study: Study, row: Row, seed: int, path: Path, parameters: int, speed: Optional[Path]) -> Result:
    found, config = evaluation.read(path, "test"), runs.read_config(path)
    plain = score(found.labels, found.scores, 0.5)
    numbers = (plain.micro, plain.macro_occurring, found.result.micro, found.result.macro_occurring)
    ranks = json.loads((path / runs.ENVIRONMENT).read_text())["ranks"]
    rates = curves.read_history((speed or path) / runs.HISTORY)["images_per_second"]
    return Result(
        row=row.name,
        changes=", ".join(f"{name} {comparison.plain(value)}" for name, value in row.changes.items()),
        seed=seed,
        workdir=str(path),
        scores=dict(zip(_COLUMNS, (average.f1 for average in numbers))),
        step_patches=config["batch"] * config["accumulate"] * ranks,
        curve=str(config[study.curves]) if study.curves else "",
        parameters=parameters,
        images_per_second=float(rates[-1] if speed else np.median(rates)),
        masks=_masks(path),
    )


def _masks(path: Path) -> dict[str, tuple[float, float]]:
    out = {}
    for name in ("test-masks.json", "test-masks-fine-tuned.json"):
        scored = path / results.FOLDER / name
        if not scored.is_file():  # of a run that is not done with its maps yet
            continue
        content = json.loads(scored.read_text())
        out[content["head"]] = (content["mean_iou"], content["pixel_accuracy"])
    return out


def _conditions(paths: Sequence[Path], measured: bool) -> tuple[str, ...]:
    from tfrecords_tools import manifest

    found, config = evaluation.read(paths[0], "test"), runs.read_config(paths[0])
    trained = manifest.read(Path(config["data"])).splits["train"].records
    occurring = int(found.labels.any(0).sum())
    origin = "" if found.origin == "BigEarthNet" else f"Not BigEarthNet: {found.origin}. "
    epochs = sorted({runs.read_config(path)["epochs"] for path in paths})
    each = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return (
        f"{origin}{trained:,} training patches, {each} epochs, {len(found.labels):,} test patches.",
        f"Macro: mean over the {occurring} of {len(found.classes)} {found.nomenclature} classes that occur; "
        "micro: of summed counts. Threshold 0.5; tuned: each class's own, found on validation.",
        "images/s: second epoch of a run of its own, nothing else on the machine."
        if measured
        else "images/s: median over the epochs, whatever else the machine had to do meanwhile.",
    )


def _spread(values: Sequence[float], form: str = ".3f") -> str:
    """One value as it is; of several the mean, lowest and highest."""
    mean = format(float(np.mean(values)), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


def _cells(found: Found, row: str) -> list[str]:
    members = found.of(row)
    scores = [_spread([member.scores[name] for member in members]) for name in _COLUMNS]
    rate = float(np.median([member.images_per_second for member in members]))
    return [row, members[0].changes, str(len(members)), *scores, f"{members[0].parameters:,}", f"{rate:.0f}"]


_HEADINGS = ("row", "sets", "seeds", *_COLUMNS.values(), "parameters", "images/s")


def table(found: Found) -> Table:
    """Returns one line a row: mean (lowest to highest) over its seeds."""
    from rich import box
    from rich.table import Table

    out = Table(
        title=" ".join((f"{found.title}.", *found.conditions)), title_justify="left", box=box.SIMPLE_HEAD
    )
    for number, heading in enumerate(_HEADINGS):
        out.add_column(heading, justify="left" if number < 2 else "right", overflow="fold")
    for row in found.rows:
        out.add_row(*_cells(found, row))
    return out


def markdown(found: Found) -> str:
    """Returns the table for a README, the scores of maps below it."""
    lines = [f"# {found.title}", "", *found.conditions, "", _line(_HEADINGS), "|---" * len(_HEADINGS) + "|"]
    lines += [_line(_cells(found, row)) for row in found.rows]
    mapped = [result for result in found.results if result.masks]
    if mapped:
        lines += ["", _line(("run", "head", "mean IoU", "pixel accuracy")), "|---|---|---|---|"]
    for result in mapped:
        for head, (iou, accuracy) in result.masks.items():
            lines.append(_line((f"{result.row}, seed {result.seed}", head, f"{iou:.3f}", f"{accuracy:.3f}")))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def draw(found: Found) -> dict[str, style.Picture]:
    """Returns the pictures by the names of their files."""
    pictures = {"results": _rows(found)}
    if found.curves:
        pictures["curves"] = _curves(found)
    return pictures


def _legend(axes: Axes) -> None:
    """Above the axes, below a title of any length."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize=style.SMALL,
        borderaxespad=0.2,
    )


def _rows(found: Found) -> style.Picture:
    """Micro and macro F1 of every run, a line a row."""
    rows = found.rows
    figure = style.canvas(1.9 + 0.36 * len(rows), found.title, " ".join(found.conditions[:2]))
    axes = style.plain(figure.subplots(), "x")
    places = {row: len(rows) - 1 - number for number, row in enumerate(rows)}
    for (name, shift), (colour, marker) in zip((("micro", 0.13), ("macro", -0.13)), _COLOURS):
        values = [result.scores[name] for result in found.results]
        heights = [places[result.row] + shift for result in found.results]
        axes.plot(values, heights, marker, color=colour, markersize=6, label=_COLUMNS[name])
    axes.set_yticks(list(places.values()), list(places))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 on the test split, a mark a seed")
    _legend(axes)
    said = "; ".join(
        f"{row} {np.mean([r.scores['micro'] for r in found.of(row)]):.3f} and "
        f"{np.mean([r.scores['macro'] for r in found.of(row)]):.3f}"
        for row in rows
    )
    return style.Picture(
        "results", found.title, " ".join(found.conditions), f"Micro and macro F1: {said}.", figure
    )


def _curves(found: Found) -> style.Picture:
    """Macro F1 over the patches of a step: lines through the means, a mark a run, hollow where tuned."""
    figure = style.canvas(3.9, found.title, " ".join(found.conditions[:2]))
    axes = style.plain(figure.subplots())
    sizes = sorted({result.step_patches for result in found.results})
    for value, (colour, marker) in zip(dict.fromkeys(result.curve for result in found.results), _COLOURS):
        members = [result for result in found.results if result.curve == value]
        for name, line in (("macro", "-"), ("macro_tuned", "--")):
            points = [(result.step_patches, result.scores[name]) for result in members]
            means = {x: np.mean([y for size, y in points if size == x]) for x, _ in sorted(points)}
            label = f"{value}, {'0.5' if name == 'macro' else 'tuned'}"
            inside = colour if name == "macro" else "white"
            axes.plot(*zip(*points), marker, color=colour, markersize=5, markerfacecolor=inside)
            axes.plot(list(means), list(means.values()), line, color=colour, linewidth=1.5, label=label)
    whole: Callable[[float, int], str] = lambda size, _: f"{size:.0f}"  # noqa: E731
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(whole))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(0, 1), ylabel="macro F1 on the test split")
    axes.set_xlabel("patches of a step (global batch), a mark a run, hollow: tuned")
    _legend(axes)
    return style.Picture(
        "curves", found.title, " ".join(found.conditions), f"{found.title}: macro F1 over batch.", figure
    )


def to_json(found: Found) -> dict[str, Any]:
    """Returns everything as plain values."""
    rows = [
        {**vars(result), "scores": dict(result.scores), "masks": dict(result.masks)}
        for result in found.results
    ]
    return {"title": found.title, "conditions": list(found.conditions), "runs": rows}
