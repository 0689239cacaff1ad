"""Which share of the shards this process converts, where a batch system's array runs several of them."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from tfrecords_tools.errors import UsageError

_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


class Task(NamedTuple):
    """Task `number` (from 0) of an array of `size`: it takes every `size`-th shard."""

    number: int
    size: int

    def __str__(self) -> str:
        return f"{self.number}/{self.size}"


def parse(text: Optional[str]) -> Optional[Task]:
    """Returns the task that --task names: "3/16", or "auto" in a Slurm array.

    Raises:
        UsageError: it is none, or "auto" outside an array.
    """
    if text is None:
        return None
    if text == "auto":
        return _of_slurm()
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        remedy = "count from 0: --task 0/16 to --task 15/16, or --task auto in a Slurm array"
        raise UsageError(f"--task {text}: not a task of an array", remedy=remedy)
    return Task(int(match[1]), int(match[2]))


def _of_slurm() -> Task:
    try:
        number, first, count = (int(os.environ[name]) for name in _SLURM)
    except (KeyError, ValueError):
        remedy = "submit it with sbatch --array=0-15, or name the task: --task 3/16"
        raise UsageError("--task auto, but this is no task of a Slurm array", remedy=remedy) from None
    if not 0 <= number - first < count:
        remedy = "number the array without gaps, as in --array=0-15, or name the task: --task 3/16"
        raise UsageError(
            f"--task auto, but task {number} is outside an array of {count} from {first}", remedy=remedy
        )
    return Task(number - first, count)
