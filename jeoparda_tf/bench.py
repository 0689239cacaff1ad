"""Measures the speed of this machine and this program: `python -m jeoparda_tf.bench NAME`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Optional

from jeoparda_tf.benchmarks import NAMES
from tfrecords_tools import cli
from tfrecords_tools.errors import UsageError

_PROGRAM = "python -m jeoparda_tf.bench"


def main(argv: Optional[Sequence[str]] = None) -> Optional[int]:
    """Runs the benchmark that the first argument names; the others are its own flags (`NAME --help`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {_PROGRAM} NAME ...\n\n{__doc__}\n")
        print("\n".join(f"  {name:10} {about}" for name, about in NAMES.items()))
        return None
    name = arguments[0]
    if name not in NAMES:
        raise UsageError(f"unknown benchmark {name!r}", remedy=f"known are: {', '.join(NAMES)}")
    benchmark = importlib.import_module(f"jeoparda_tf.benchmarks.{name}")
    config = cli.parse(benchmark.Config, f"{_PROGRAM} {name}", benchmark.__doc__ or "", arguments[1:])
    result: Optional[int] = benchmark.run(config)
    return result


if __name__ == "__main__":
    cli.run(main)
