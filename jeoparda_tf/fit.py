"""Trains a multi-label classifier on shards. Over ranks, put `horovodrun -np 2` before the command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tfrecords_tools import cli

from .training.config import FitConfig


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Parses the flags, trains, says where the run is and what comes next."""
    config = cli.parse(FitConfig, "python -m jeoparda_tf.fit", __doc__, argv)
    from .training import distributed, loop

    if not distributed.is_available() and cli.is_first_rank():
        print("Horovod is not installed: training in one process")
    workdir = loop.train(config)
    if distributed.rank() == 0:
        print(f"trained: {workdir}\nnext: python -m jeoparda_tf.evaluate --workdir {workdir} --split test")


if __name__ == "__main__":
    cli.run(main)
