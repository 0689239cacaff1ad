"""Draws pictures of a run that was evaluated, and one page with all of them; or compares several runs.

python -m jeoparda_tf.report --workdir RUN
python -m jeoparda_tf.report --compare RUN RUN -o FOLDER
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from tfrecords_tools import cli
from tfrecords_tools.cli import option
from tfrecords_tools.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from .figures.evaluation import Evaluation
    from .figures.style import Picture

# Columns of a table in a log.
_LOG_WIDTH = 160


@dataclass(frozen=True)
class ReportConfig:
    """Which run or runs, which split."""

    workdir: Optional[Path] = option(
        "directory of a run, as `fit` wrote it; the report goes into its folder report/", None
    )
    compare: tuple[Path, ...] = option("runs for one table and one picture", (), nargs="+")
    out: Path = option("folder of the comparison", Path("comparison"), short="-o")
    split: str = option("split that was evaluated", "test")


def compare(config: ReportConfig) -> Path:
    """Prints the table of several runs, and writes it and a picture.

    Returns:
        the folder.

    Raises:
        UsageError: there are fewer than two runs, one is none or was not evaluated, or the folder cannot be written.
        DataError: a file of a run is damaged.
    """
    from rich.console import Console

    from .figures import comparison
    from .training import workdir

    rows = comparison.lines(config.compare, config.split)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(comparison.table(rows))
    png = comparison.draw(rows).png()
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "comparison.png").write_bytes(png)
        workdir.write_text(
            config.out / "comparison.json", json.dumps(comparison.to_json(rows), indent=1) + "\n"
        )
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", path=config.out) from error
    return config.out


def report(config: ReportConfig) -> tuple[Path, Optional[str]]:
    """Writes the pictures and the page.

    Returns:
        path of the page, and why it has no example patches (None if it has).

    Raises:
        UsageError: the folder is no workdir, or the split was not evaluated, or the report cannot be written.
        DataError: the history or the evaluation is damaged.
    """
    from .figures import curves, evaluation, page, summary
    from .training import workdir

    if config.workdir is None:
        raise UsageError("no run is given", remedy="give --workdir RUN, or --compare RUN RUN")
    settings = workdir.read_config(config.workdir)
    found = evaluation.read(config.workdir, config.split)
    history = curves.read_history(config.workdir / workdir.HISTORY)
    environment = summary.read_environment(config.workdir)
    facts = summary.facts(found, workdir.read_spec(config.workdir), settings, environment, history)
    pictures, left_out = _draw(found, history)
    drawn = [(picture, picture.png()) for picture in pictures]
    commands = summary.commands(config.workdir, found, environment.get("ranks"))
    html = page.render(found, drawn, facts, commands, left_out)
    folder = config.workdir / "report"
    try:
        folder.mkdir(exist_ok=True)
        for picture, png in drawn:
            (folder / f"{picture.name}.png").write_bytes(png)
        workdir.write_text(folder / "index.html", html)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", path=folder) from error
    return folder / "index.html", left_out


def _draw(found: Evaluation, history: dict[str, np.ndarray]) -> tuple[list[Picture], Optional[str]]:
    from .figures import classes, confusion, curves, patches, precision_recall, signatures

    pictures = [
        curves.draw(history, found.run_note),
        classes.against_support(found),
        classes.bars(found),
        precision_recall.draw(found),
        confusion.draw(found),
    ]
    try:
        examples = patches.draw(found, *patches.examples(found))
        return [*pictures, signatures.draw(found, signatures.read(found)), examples], None
    except DataError as error:
        # The shards may have been moved or removed long since; all the rest is in the workdir.
        return pictures, str(error)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, writes the report, says where it is."""
    config = cli.parse(ReportConfig, "python -m jeoparda_tf.report", __doc__, argv)
    if config.compare:
        if config.workdir:
            raise UsageError("--workdir and --compare do not go together")
        print(f"comparison: {compare(config)}")
        return
    page, left_out = report(config)
    if left_out:
        print(f"without signatures and example patches: {left_out}")
    print(f"report: {page}")


if __name__ == "__main__":
    cli.run(main)
