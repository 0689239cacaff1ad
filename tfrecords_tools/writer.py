"""Writes one shard: under a temporary name, hashed on the way, on disk before it gets its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Optional

from .errors import DataError
from .manifest import Shard
from .tfrecord import frame

TEMPORARY = ".tmp"


class ShardWriter:
    """A context manager around one TFRecord file. An exception inside leaves no file of the final name.

    `shard` holds the finished shard's entry for the manifest after the block.
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
            DataError: the disk is full or the folder is gone.
        """
        framed = frame(record)
        self._guard(lambda: self._file.write(framed))
        self._hash.update(framed)
        self._bytes += len(framed)
        self._records += 1
        return self._records - 1

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        try:
            if kind is None:
                self._guard(self._finish)
        finally:
            self._close_quietly()
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        self.shard = Shard(self._path.name, self._records, self._bytes, self._hash.hexdigest())

    def _close_quietly(self) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk fails once more when the buffer is flushed; the first error is the one to tell
            pass

    def _guard(self, action):  # type: ignore[no-untyped-def]  # returns whatever the action returns
        try:
            return action()
        except OSError as error:
            remedy = "free some space or name another OUT, then run the same command again: finished shards are kept"
            raise DataError(f"cannot be written: {error.strerror or error}", path=self._path, remedy=remedy) from error
