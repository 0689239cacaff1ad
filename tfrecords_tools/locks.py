"""Locks: files made by linking, which is atomic on network file systems too, where flock may not be."""

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

from .errors import UsageError


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds a lock during the block.

    A lock whose process is gone, on this machine or in an earlier start of this Slurm job, is taken over.

    Args:
        path: of the lock, in the folder that nobody else may work in.
        what: they are, for the message: "another run".

    Raises:
        UsageError: another process holds it; names its host and process.
        OSError: the folder cannot be written.
    """
    own = {**identity(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    if not create(path, own):
        remove_if_stale(path)
        if not create(path, own):
            raise _is_held(path, what)
    try:
        if read(path) != own:  # another one took a stale lock over in the same moment
            raise _is_held(path, what)
        yield
    finally:
        if read(path) == own:
            path.unlink(missing_ok=True)


def _is_held(path: Path, what: str) -> UsageError:
    found = read(path) or {"host": "?", "pid": "?", "since": "?"}
    return UsageError(
        f"{what} is at it: process {found['pid']} on {found['host']}, since {found['since']}",
        path=path.parent,
        remedy=f"wait for its end, or name another folder; if that process is no more, remove {path}",
    )


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


def identity() -> dict[str, Any]:
    """Returns what a lock says of the process that holds it."""
    pid = os.getpid()
    job = [os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", "0"))]
    return {"host": socket.gethostname(), "pid": pid, "started": started(pid), "job": job}


def started(pid: int) -> str:
    """Returns what tells a process from a later one of the same number; empty if it is gone or cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"  # state; 19: start time in ticks since boot


def remove_if_stale(path: Path) -> bool:
    """Removes a lock whose process is gone; returns whether it is no longer there."""
    found = read(path)
    if found is None:
        return not path.exists()
    if not _is_stale(found):
        return False
    # Renamed first: of several that find it stale, one takes away the file that it has read.
    taken = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(FileNotFoundError):
        path.rename(taken)
        if read(taken) != found:
            with contextlib.suppress(FileExistsError):
                os.link(taken, path)
        taken.unlink()
    return not path.exists()


def _is_stale(found: dict[str, Any]) -> bool:
    own = identity()
    if found["host"] == own["host"]:
        if not own["started"]:  # no /proc here
            return not _is_alive(found["pid"])
        return bool(started(found["pid"]) != found["started"])
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


def read(path: Path) -> Optional[dict[str, Any]]:
    """Returns what a lock says; None where there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
