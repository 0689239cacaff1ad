"""Who converts into a folder: one process, or the tasks of one array; a second converter is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from tfrecords_tools.errors import UsageError
from tfrecords_tools.locks import create, identity, read, remove_if_stale

from .tasks import Task

_SUFFIX = ".lock"


@contextmanager
def held(folder: Path, task: Optional[Task] = None) -> Iterator[None]:
    """Holds the lock of a task, or of the whole conversion, during the block.

    A lock whose process is gone, on this machine or in an earlier start of this Slurm job, is taken over.

    Args:
        folder: of the locks.
        task: which runs beside the others of its array; None shuts out everyone else.

    Raises:
        UsageError: another process converts here; names its host and process.
        OSError: the folder cannot be written.
    """
    name = f"task-{task.number}-of-{task.size}" if task else "whole"
    path = folder / f"{name}{_SUFFIX}"
    own = {**identity(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "task": list(task) if task else None}
    if not create(path, own):
        remove_if_stale(path)
        if not create(path, own):
            raise _held(path)
    try:
        for other in folder.glob(f"*{_SUFFIX}"):
            if other != path and not _beside(task, other) and not remove_if_stale(other):
                raise _held(other)
        if read(path) != own:  # another one took a stale lock over in the same moment
            raise _held(path)
        yield
    finally:
        if read(path) == own:
            path.unlink(missing_ok=True)


def _beside(task: Optional[Task], other: Path) -> bool:
    found = read(other)
    theirs = found["task"] if found else None
    return bool(task and theirs and theirs[1] == task.size and theirs[0] != task.number)


def _held(path: Path) -> UsageError:
    found = read(path) or {"host": "?", "pid": "?", "since": "?", "task": None}
    what = f"task {Task(*found['task'])} of it" if found["task"] else "it"
    return UsageError(
        f"another conversion is at {what}: process {found['pid']} on {found['host']}, since {found['since']}",
        path=path.parent.parent,
        remedy=f"wait for its end, or name another OUT; if that process is no more, remove {path}",
    )
