"""Ends a run in which a rank is silent or no step ends, with one message of one rank that names the silent one.

Horovod's own stall check does not act on a stopped process, and over MPI the others would wait for a lost one for ever.
Every rank writes its heartbeat into a small file of its own in the workdir, and reads that of the next rank alone, so
that many ranks do not weigh on the file system; processes of the same machine are looked at themselves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from tfrecords_tools.errors import DataError, PeerError, UserError
from tfrecords_tools.locks import started

from . import distributed

_LOOK = (
    0.25  # seconds between two looks at the processes of this machine; mpirun leaves a second before it kills
)
_GRACE = 2.0  # seconds for the rank that speaks: the launcher ends all at the first that goes
_REMEDY = "the same command with --resume goes on from the last checkpoint"
# No step in these for the limit is a stall; all others (starting, compiling, validating, saving) may take their time.
_COUNTED = ("reading", "training")
# All ranks end with their own exit codes then, however long one takes to stop reading.
STOPPING = "stopping"


class Beat(NamedTuple):
    """What the file of a rank says."""

    number: int
    phase: str
    step: int


class Watchdog:
    """Watches while its block runs.

    Args:
        folder: of the heartbeats, in the workdir.
        limit: seconds without a step, or without a heartbeat of a rank, that end the run; 0 for no limit. The end of a
            process is noticed all the same.
    """

    def __init__(self, folder: Path, limit: float):
        self.folder, self.limit = folder, limit
        self.rank, self.size = distributed.rank(), distributed.size()
        self._phase, self._step, self._since = "starting", 0, time.monotonic()
        self._stop = threading.Event()
        # The file system need not bear more than a few beats within the limit.
        self._every = min(max(limit / 10, _LOOK), 10.0) if limit else 10.0

    def enters(self, phase: str, step: int) -> None:
        """Notes what this rank does now, after `step` finished steps; that is progress."""
        self._phase, self._step, self._since = phase, step, time.monotonic()

    def __enter__(self) -> Watchdog:
        if self.size > 1:
            here = zlib.crc32(socket.gethostname().encode())
            of_all = distributed.gather(np.array([[os.getpid(), here]], np.int64))
            near = {rank: int(pid) for rank, (pid, host) in enumerate(of_all) if host == here}
            self._near = {rank: (pid, started(pid)) for rank, pid in near.items() if rank != self.rank}
            self._file: Optional[int] = None
            with contextlib.suppress(OSError):  # a full disk: the checkpoint will tell
                self._file = os.open(self._path(self.rank), os.O_CREAT | os.O_WRONLY, 0o644)
            self._beat(0)
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], traceback: object) -> None:
        if self.size == 1:
            return
        self._stop.set()
        if error is not None and not isinstance(error, PeerError):
            self.first()  # it is said by whoever shows the error
        # A rank without a file has ended well, or has said why not.
        self._path(self.rank).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still there
            self.folder.rmdir()

    def lost(self, failure: str) -> UserError:
        """Returns what to raise when a collective has failed: the rank that is gone, or silence if that is said.

        Args:
            failure: what the collective says.
        """
        before, deadline = self._read_all(), time.monotonic() + 2.5
        while not self._gone() and time.monotonic() < deadline:
            time.sleep(_LOOK)
        gone = self._gone()
        if gone:
            return self._error(_ended(gone, before)) if self.first() else PeerError(1)
        # None of this machine: over several, only the one that is stopped or gone does not go on.
        still = [
            r for r, beat in self._read_all().items() if beat and beat == before.get(r) and r != self.rank
        ]
        who = f"rank {still[0]} is silent" if still else "a rank has ended or cannot be reached"
        return self._error(f"{who}: {failure.strip().splitlines()[-1]}") if self.first() else PeerError(1)

    def _watch(self) -> None:
        count, beaten, seen = 0, 0.0, None
        changed = looked = time.monotonic()
        while not self._stop.wait(_LOOK):
            now = time.monotonic()
            if now - looked > max(
                5.0, 4 * self._every
            ):  # this process was stopped itself, or its file system hung
                changed = self._since = now
            looked = now
            if gone := self._gone():
                self._end(_ended(gone, self._read_all()))
            if now - beaten < self._every:
                continue
            count, beaten = count + 1, now
            self._beat(count)
            beat = self._read((self.rank + 1) % self.size)
            if beat is None or beat != seen:  # None: it has ended well, or is just writing
                seen, changed = beat, now
            if self.limit and now - changed > self.limit:
                self._end(f"rank {(self.rank + 1) % self.size} is silent for {self.limit:g} s, {_told(seen)}")
            if self.limit and self._phase in _COUNTED and now - self._since > self.limit:
                self._end(f"no step for {self.limit:g} s: {self._suspects()}")
            if self._said().exists() and self._phase != STOPPING:
                self._end("")

    def _suspects(self) -> str:
        """Names the ranks for which the others wait."""
        beats = {rank: beat for rank, beat in self._read_all().items() if beat}
        late = {r: b for r, b in beats.items() if b.phase != "training"} or beats
        first = min(b.step for b in late.values())
        return ", ".join(f"rank {r} {_told(b)}" for r, b in sorted(late.items()) if b.step == first)

    def _gone(self) -> list[int]:
        """Returns the ranks of this machine whose process has ended without a word."""
        dead = [r for r, (pid, since) in self._near.items() if started(pid) != since]
        return [rank for rank in dead if self._path(rank).exists()]

    def _end(self, problem: str) -> None:
        if self._stop.is_set():
            return
        if self.first() and problem:
            sys.stderr.write(f"error: {self._error(problem)}\n")
            sys.stderr.flush()
        else:
            time.sleep(_GRACE)
            if self._stop.is_set():  # the main thread has come to its end, with the right exit code
                return
        os._exit(1)

    def _error(self, problem: str) -> DataError:
        return DataError(problem, path=self.folder.parent, remedy=_REMEDY)

    def first(self) -> bool:
        """Returns whether this rank is the first that has something to say: it alone may, and only if it asks once."""
        if self.size == 1:
            return True
        try:
            os.close(os.open(self._said(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        except OSError:  # no room: the lowest rank left of this machine
            return all(rank > self.rank for rank in self._near if rank not in self._gone())
        return True

    def _said(self) -> Path:
        return self.folder / "said"

    def _path(self, rank: int) -> Path:
        return self.folder / f"rank-{rank:05d}"

    def _beat(self, count: int) -> None:
        # In place and always as long: readers that open it see it on network file systems, and a full disk has it.
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, f"{count:12d} {self._phase:12} {self._step:12d}\n".encode(), 0)

    def _read(self, rank: int) -> Optional[Beat]:
        try:
            count, phase, step = self._path(rank).read_text().split()
            return Beat(int(count), phase, int(step))
        except (OSError, ValueError):
            return None

    def _read_all(self) -> dict[int, Optional[Beat]]:
        return {rank: self._read(rank) for rank in range(self.size)}


def _ended(ranks: list[int], beats: dict[int, Optional[Beat]]) -> str:
    names = ", ".join(f"rank {rank}" for rank in ranks)
    return f"{names} ended without a word, {_told(beats.get(ranks[0]))}: killed, perhaps for want of memory"


def _told(beat: Optional[Beat]) -> str:
    return f"last seen {beat.phase} after step {beat.step}" if beat else "never seen"
