"""Draws pictures of a run that was evaluated, and one page with all of them.

python -m jeoparda_tf.report --workdir RUN
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class ReportConfig:
    """Which run, which split."""

    workdir: Path = option("directory of a run, as `fit` wrote it; the report goes into its folder report/")
    split: str = option("split that was evaluated", "test")


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
    from .figures import classes, confusion, curves, patches, precision_recall

    pictures = [
        curves.draw(history, found.run_note),
        classes.against_support(found),
        classes.bars(found),
        precision_recall.draw(found),
        confusion.draw(found),
    ]
    try:
        return [*pictures, patches.draw(found, *patches.examples(found))], None
    except DataError as error:
        # The shards may have been moved or removed long since; all the rest is in the workdir.
        return pictures, str(error)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, writes the report, says where it is."""
    config = cli.parse(ReportConfig, "python -m jeoparda_tf.report", __doc__, argv)
    page, left_out = report(config)
    if left_out:
        print(f"without example patches: {left_out}")
    print(f"report: {page}")


if __name__ == "__main__":
    cli.run(main)
