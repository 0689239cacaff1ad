"""A progress bar that needs no word from the workers: it looks at what lies in OUT."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Optional

from tfrecords_tools.writer import TEMPORARY

_SECONDS = 0.5


class Progress:
    """Shows patches done, patches/s and the time left, unless stderr is no terminal.

    Args:
        directory: OUT.
        files: the shards whose patches are counted.
        total: number of patches.
        done: of these, converted before.
        record_bytes: size of a record, about; tells how far shards under temporary names are.
    """

    def __init__(
        self, directory: Path, files: Sequence[str], total: int, done: int, record_bytes: int
    ) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, initial=done, unit=" patches", desc="converting", disable=None)
        self._record_bytes, self._done = record_bytes, done
        self._temporary = [directory / f"{file}{TEMPORARY}" for file in files]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            self._thread.start()
        return self

    def add(self, patches: int) -> None:
        """Tells of a finished shard."""
        self._done += patches

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if kind is None:
            self._show(self._done)
        self._bar.close()

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS):
            self._show(self._done + self._half_written() // self._record_bytes)

    def _half_written(self) -> int:
        total = 0
        for path in self._temporary:
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # not begun, or it has just got its name
                continue
        return total

    def _show(self, patches: int) -> None:
        # Never backwards: a shard that gets its name is counted a moment later.
        self._bar.update(max(0, min(patches, self._bar.total) - self._bar.n))
