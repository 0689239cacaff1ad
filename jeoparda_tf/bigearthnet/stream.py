"""Archives that can only be read from front to back: .tar.gz, .tar.zst and standard input."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Full, Queue
from typing import Any, BinaryIO, Callable, Union, cast

from tfrecords_tools.errors import DataError, UsageError

from .tar import AGAIN, BLOCK

STANDARD_INPUT = Path("-")
_GZIP, _ZSTANDARD, _TAR = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"ustar"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_CHUNK = 1 << 20
_AHEAD = 8  # chunks that may wait for their reader
_SECONDS = 0.2


def kind(path: Path) -> str:
    """Returns what there is to read: "stream", "tar" for one that can be read in place, or "" for anything else."""
    if path == STANDARD_INPUT:
        return "stream"
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(BLOCK)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", path=path) from error
    if head.startswith((_GZIP, _ZSTANDARD, *_OTHERS)):
        return "stream"
    return "tar" if head[257:262] == _TAR or path.suffix == ".tar" else ""


class Packed:
    """An archive as it streams by, decompressed in a thread.

    Attributes:
        path: of it.
        size: its bytes, compressed; None of standard input, or of anything else that is no file.
        bytes_read: how many of them have been read.
        bytes_unpacked: how many those have become.
        stream: the tar.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.bytes_read, self.bytes_unpacked = path, 0, 0
        self.size = path.stat().st_size if path.is_file() else None
        self._counted = _Counted(file, self)
        decompress = _decompressor(self._counted, path)

        def read(size: int) -> bytes:
            data = decompress(size)
            self.bytes_unpacked += len(data)
            return data

        self._ahead = _Ahead(read)
        self.stream: BinaryIO = io.BufferedReader(self._ahead, _CHUNK)

    def told(self) -> str:
        """Returns how far it was read, for errors."""
        whole = "" if self.size is None else f" of {self.size:,}"
        return f"read up to byte {self.bytes_read:,}{whole}"

    def close(self) -> None:
        """Ends the thread."""
        self._ahead.stop()


@contextmanager
def opened(path: Path) -> Iterator[Packed]:
    """Opens an archive for one pass; a path of "-" is standard input.

    Raises:
        UsageError: it is compressed in another way.
        DataError: it cannot be read or decompressed, inside the block too; says how far it was read.
    """
    import zstandard
    from isal import isal_zlib

    broken: Any = (isal_zlib.error, zstandard.ZstdError, EOFError, OSError)
    packed = None
    try:
        # Without a buffer of its own: what waits in it at the end of the process would hold a lock.
        with open(
            0 if path == STANDARD_INPUT else path, "rb", buffering=0, closefd=path != STANDARD_INPUT
        ) as file:
            packed = Packed(path, file)
            try:
                yield packed
            finally:
                packed.close()
    except DataError as error:
        told = f" ({packed.told()})" if packed else ""
        raise DataError(f"{error.problem}{told}", path=error.path, remedy=error.remedy) from error
    except broken as error:
        if isinstance(error, OSError) and error.filename not in (None, str(path)):
            raise  # another file's
        told = f", {packed.told()}" if packed else ""
        raise DataError(f"cut off or damaged: {error}{told}", path=path, remedy=AGAIN) from error


class _Counted(io.RawIOBase):
    """A file that counts what is read of it, and whose first bytes can be looked at."""

    def __init__(self, file: BinaryIO, packed: Packed) -> None:
        self._file, self._packed = file, packed
        self.head = b""
        while len(self.head) < BLOCK and (part := file.read(BLOCK - len(self.head))):
            self.head += part
        self._left = self.head

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self._left[: len(target)] or self._file.read(len(target)) or b""
        self._left = self._left[len(data) :]
        self._packed.bytes_read += len(data)
        target[: len(data)] = data
        return len(data)


def _decompressor(file: _Counted, path: Path) -> Callable[[int], bytes]:
    """Returns the function that reads the tar in a file, by what the file begins with."""
    head = file.head
    if head.startswith(_GZIP):
        from isal import igzip

        read: Callable[[int], bytes] = igzip.GzipFile(fileobj=file).read
        return read
    if head.startswith(_ZSTANDARD):
        import zstandard

        # --long=31 at most: windows that the default refuses.
        reader = zstandard.ZstdDecompressor(max_window_size=2**31)
        return reader.stream_reader(cast(BinaryIO, file), read_size=_CHUNK, read_across_frames=True).read
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise UsageError(
                f"compressed with {name}",
                path=path,
                remedy="unpack it to a plain .tar: those are read in place",
            )
    return file.read


class _Ahead(io.RawIOBase):
    """Reads ahead in a thread: decompression lets go of Python's lock."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._queue: Queue[Union[bytes, BaseException]] = Queue(_AHEAD)
        self._left = memoryview(b"")
        self._stopped = threading.Event()
        threading.Thread(target=self._fill, daemon=True).start()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not self._left:
            chunk = self._queue.get()
            if not isinstance(chunk, bytes):
                self._queue.put(chunk)  # for the next one who asks
                raise chunk
            if not chunk:
                self._queue.put(chunk)
            self._left = memoryview(chunk)
        size = min(len(target), len(self._left))
        target[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def stop(self) -> None:
        """Ends the thread, unless it waits for standard input; it ends with the process then."""
        self._stopped.set()

    def _fill(self) -> None:
        try:
            while not self._stopped.is_set():
                chunk = self._read(_CHUNK)
                self._put(chunk)
                if not chunk:
                    return
        except BaseException as error:  # noqa: BLE001 - raised where it is read
            self._put(error)

    def _put(self, chunk: Union[bytes, BaseException]) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(chunk, timeout=_SECONDS)
            except Full:
                continue
        return None
