"""Writes one shard: under a temporary name, hashed on the way, on disk before it gets its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Callable, Optional, TypeVar

from .errors import DataError
from .manifest import Shard
from .tfrecord import frame

TEMPORARY = ".tmp"
Result = TypeVar("Result")


class ShardWriter:
    """A context manager around one TFRecord file: an exception inside leaves no file, a kill a temporary one.

    `shard` holds the finished shard's entry for the manifest after the block. Entering and leaving the block
    raise DataError where the file cannot be written.
    """

    shard: Shard

    def __init__(self, path: Path):
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        self._hash = hashlib.sha256()
        self._records = self._bytes = 0

    def __enter__(self) -> ShardWriter:
        self._file = self._guard(lambda: self._temporary.open("wb", buffering=1 << 20))
        return self

    def write(self, record: bytes) -> int:
        """Appends one serialised record; returns its position in the shard.

        Raises:
            DataError: the disk is full or fails.
        """
        framed = frame(record)
        self._guard(lambda: self._file.write(framed))
        self._hash.update(framed)
        self._bytes += len(framed)
        self._records += 1
        return self._records - 1

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            if kind is None:
                self._guard(self._finish)
        finally:
            self._clean_up()

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        self.shard = Shard(self._path.name, self._records, self._bytes, self._hash.hexdigest())

    def _clean_up(self) -> None:
        # A full disk fails once more when the buffer is flushed; the first error is the one to tell.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _guard(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except OSError as error:
            remedy = "free some space or name another folder, then run the same command again"
            problem = f"cannot be written: {error.strerror or error}"
            raise DataError(problem, path=self._path, remedy=remedy) from error
