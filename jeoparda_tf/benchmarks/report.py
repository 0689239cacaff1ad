"""What a benchmark found: a table for the eye, JSON for the machine."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools import cli
from tfrecords_tools.errors import UsageError


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        what: was measured.
        value: in `unit`; median of the repetitions.
        unit: for instance "patches per CPU second".
        ratio: of `value` to the row named in `of`, None where there is nothing to compare.
        of: what the ratio compares with.
        target: the ratio that is aimed at, None without one.
    """

    what: str
    value: float
    unit: str
    ratio: Optional[float] = None
    of: str = ""
    target: Optional[float] = None

    @property
    def reached(self) -> Optional[bool]:
        """Whether the target was reached; None without one."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target


@dataclass(frozen=True)
class Findings:
    """What one benchmark prints and writes.

    Attributes:
        title: of the table: what ran, on what.
        rows: of the table.
        verdict: in words: what limits, and what to change.
    """

    title: str
    rows: Sequence[Row]
    verdict: Sequence[str] = ()


def show(findings: Findings, path: Optional[Path] = None) -> None:
    """Prints the table and the verdict; writes all of it as JSON where `path` is given.

    Raises:
        UsageError: the file cannot be written.
    """
    from rich.table import Table

    table = Table("measured", title=findings.title, title_justify="left")
    for column in ("value", "unit", "ratio", "to", "target"):
        table.add_column(column, justify="right" if column in ("value", "ratio", "target") else "left")
    for row in findings.rows:
        marks = {True: "reached", False: "missed", None: ""}
        target = "" if row.target is None else f"{row.target:g} {marks[row.reached]}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        table.add_row(row.what, f"{row.value:,.4g}", row.unit, ratio, row.of, target)
    cli.console().print(table)
    for line in findings.verdict:
        print(line)
    if path is None:
        return
    content: dict[str, Any] = {**dataclasses.asdict(findings), "machine": _machine()}
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", path=path) from error
    print(f"written: {path}")


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "python": platform.python_version(), "cores": cores}
