"""Who converts into a folder: one process, or the tasks of one array; a second converter is refused.

Locks are files made by linking, which is atomic on network file systems too, where flock may not be.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools.errors import UsageError

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
    own = {**_identity(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "task": list(task) if task else None}
    if not create(path, own):
        _remove_if_stale(path)
        if not create(path, own):
            raise _held(path)
    try:
        for other in folder.glob(f"*{_SUFFIX}"):
            if other != path and not _beside(task, other) and not _remove_if_stale(other):
                raise _held(other)
        if _read(path) != own:  # another one took a stale lock over in the same moment
            raise _held(path)
        yield
    finally:
        if _read(path) == own:
            path.unlink(missing_ok=True)


def create(path: Path, content: dict[str, Any]) -> bool:
    """Writes a JSON file that appears whole, unless there is one of that name: then returns False."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(content))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _identity() -> dict[str, Any]:
    pid = os.getpid()
    job = [os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", "0"))]
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "job": job}


def _started(pid: int) -> str:
    """Returns what tells a process from a later one of the same number; empty if it is gone or cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"  # state; 19: start time in ticks since boot


def _remove_if_stale(path: Path) -> bool:
    """Removes a lock whose process is gone; returns whether it is no longer there."""
    found = _read(path)
    if found is None:
        return not path.exists()
    if not _is_stale(found):
        return False
    # Renamed first: of several that find it stale, one takes away the file that it has read.
    taken = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(FileNotFoundError):
        path.rename(taken)
        if _read(taken) != found:
            with contextlib.suppress(FileExistsError):
                os.link(taken, path)
        taken.unlink()
    return not path.exists()


def _is_stale(found: dict[str, Any]) -> bool:
    own = _identity()
    if found["host"] == own["host"]:
        if not own["started"]:  # no /proc here
            return not _is_alive(found["pid"])
        return bool(_started(found["pid"]) != found["started"])
    (job, starts), (own_job, own_starts) = found["job"], own["job"]
    return bool(job and job == own_job and starts < own_starts)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beside(task: Optional[Task], other: Path) -> bool:
    found = _read(other)
    theirs = found["task"] if found else None
    return bool(task and theirs and theirs[1] == task.size and theirs[0] != task.number)


def _read(path: Path) -> Optional[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _held(path: Path) -> UsageError:
    found = _read(path) or {"host": "?", "pid": "?", "since": "?", "task": None}
    what = f"task {Task(*found['task'])} of it" if found["task"] else "it"
    return UsageError(
        f"another conversion is at {what}: process {found['pid']} on {found['host']}, since {found['since']}",
        path=path.parent.parent,
        remedy=f"wait for its end, or name another OUT; if that process is no more, remove {path}",
    )
