"""The report: one HTML file that holds its pictures and needs nothing else, readable on a phone and on paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import __version__
from ..scoring.scores import DEFINITIONS
from .evaluation import Evaluation
from .style import Picture

_TEMPLATE = Path(__file__).with_name("report.html")


def render(
    evaluation: Evaluation,
    pictures: Sequence[tuple[Picture, bytes]],
    facts: Sequence[tuple[str, str]],
    commands: Sequence[str],
    left_out: str | None = None,
) -> str:
    """Returns the page.

    Args:
        evaluation: its scores become the tables.
        pictures: each with its PNG.
        facts: (what, value) of the run.
        commands: how to do it again.
        left_out: why there are no example patches.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        evaluation=evaluation,
        averages=evaluation.result.averages,
        definitions=DEFINITIONS,
        classes=class_rows(evaluation),
        pictures=[(picture, base64.b64encode(png).decode()) for picture, png in pictures],
        facts=facts,
        commands=commands,
        left_out=left_out,
        version=__version__,
    )


def class_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """Returns a dict a class, the most frequent first, ready to print; a class without a patch has – for its scores."""
    result = evaluation.result
    rows: list[dict[str, object]] = []
    for i in np.argsort(-result.support, kind="stable"):
        measured = {
            name: getattr(result, name)[i] for name in ("f1", "precision", "recall", "average_precision")
        }
        absent = not result.support[i]
        rows.append({
            "name": evaluation.classes[i],
            "support": f"{result.support[i]:,}",
            **{name: "–" if absent else f"{value:.3f}" for name, value in measured.items()},
            "threshold": f"{result.thresholds[i]:.3f}",
            **{name: f"{getattr(result, name)[i]:,}" for name in ("tp", "fp", "fn")},
        })  # fmt: skip
    return rows
