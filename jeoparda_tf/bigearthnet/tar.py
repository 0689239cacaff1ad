"""Reads tar: the members of one, in place or as they stream by, and where each file's bytes lie in a plain .tar.

Only what published archives hold is taken: files and folders. tarfile, which knows all kinds, takes several times as
long a member, and millions of members wait; it is asked about headers that are out of the ordinary.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tfrecords_tools.errors import DataError

from .packed import Index

BLOCK = 512
_MEGABYTE = 1 << 20
_AHEAD = 8 * _MEGABYTE
_ADLER = 65_521
_BACK = "pack it again from the published files, which holds none"
AGAIN = "copy or download the archive again"
# Members that tell of the next one (POSIX pax, GNU's long name), of all next ones, or of a link's long target.
_PAX, _LONG_NAME, _IGNORED = (b"x", b"X"), b"L", (b"g", b"K")
_EXTRA = (*_PAX, _LONG_NAME, *_IGNORED)
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_MAGIC, _END = b"ustar", bytes(BLOCK)


class Member(NamedTuple):
    """A file of an archive.

    Attributes:
        folder: name of the folder that it lies in.
        file: its name in there.
        offset: where its bytes begin.
        size: how many there are.
        data: the bytes; empty where they are only looked for.
    """

    folder: str
    file: str
    offset: int
    size: int
    data: bytes


def index(path: Path) -> Index:
    """Lists a plain .tar's patches by one pass over its headers, leaving the data out.

    Raises:
        DataError: it is no tar, is cut off, or has a member that is a link, a device, or lies outside of it.
    """
    found = Index(str(path), [str(path)])
    try:
        with path.open("rb", buffering=0) as file:
            headers = _Headers(file.fileno(), path)
            try:
                position = _walk(headers, found)
            finally:
                headers.check()  # a damaged one explains what went wrong behind it
            file.seek(position)
            _check_end(file, position, path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path, remedy=AGAIN) from error
    return found.seal()


def members(stream: BinaryIO, path: Path) -> Iterator[Member]:
    """Yields the files in folders of a tar that streams by, from its first header to its end.

    Args:
        stream: open at the first header.
        path: of the archive, for errors.

    Raises:
        DataError: it is no tar, is cut off or damaged, or has a member that is a link, a device, or lies outside of it.
    """
    position = 0
    told: dict[str, bytes] = {}
    while (header := stream.read(BLOCK)) != _END:
        name, size, kind = _parse(header, position, path)
        position += BLOCK
        padded = _padded(size)
        if kind in _EXTRA:
            told.update(_read_extra(stream.read(padded)[:size], kind, position, path))
            position += padded
            continue
        if told:
            name, size = told.get("path", name), int(told.get("size", size))
            padded, told = _padded(size), {}
        folder, file = _place(name, kind, path)
        block = stream.read(padded)
        data = block if len(block) == size else block[:size]
        if len(data) < size:
            raise DataError(f"cut off within {_text(name)}", path=path, remedy=AGAIN)
        if file:
            yield Member(folder, file, position, size, data)
        position += padded
    _check_end(stream, position + BLOCK, path)


def _walk(headers: _Headers, found: Index) -> int:  # noqa: C901 - one loop, for its speed
    """Adds the files in folders of a tar, and returns where the end behind them ends.

    Millions of headers are waited for, so only what is out of the ordinary is left to functions: a size or an ending
    of a name seen for the first time, another kind of tar or member, another folder than the last file's.
    """
    file, path = headers.file, headers.path
    end, add_another = os.fstat(file).st_size, found.add_another
    position, base, block, span = 0, 0, b"", BLOCK
    sizes: dict[bytes, int] = {}
    told: dict[str, bytes] = {}
    # Files of one patch begin alike, and go on with one of a few endings.
    beginning, endings = b"/", dict[bytes, int]()
    while True:
        at = position - base
        if at + BLOCK > len(block):
            block, base, at = headers.read(span, position), position, 0
        header = block[at : at + BLOCK]
        if header == _END:
            return position + BLOCK
        field, kind = header[124:136], header[156:157]
        size = sizes.get(field, -1)
        if size < 0 or header[257:262] != _MAGIC:
            name, size, kind = _parse(header, position, path)
            sizes[field] = size
        else:
            headers.append((position, header))
            name = header[:100] if header[262] or not header[345] else _long_name(header)
        position += BLOCK
        if kind in _EXTRA:
            payload = block[at + BLOCK : at + BLOCK + size]
            payload = payload if len(payload) == size else os.pread(file, size, position)
            told.update(_read_extra(payload, kind, position, path))
            position += _padded(size)
            span = 3 * BLOCK  # from now on with what it tells, and the header behind it
            continue
        if told:
            name, size, told = told.get("path", name), int(told.get("size", size)), {}
        if position + size > end:
            raise DataError(f"cut off within {_text(name)}", path=path, remedy=AGAIN)
        ending = endings.get(name[len(beginning) :], -1) if name.startswith(beginning) else -1
        if ending >= 0 and kind == b"0":
            add_another(ending, position, size)
        else:
            folder, last = _place(name, kind, path)
            if last:
                ending = found.add(folder, last, position, size)
                if own := _beginning(name, folder, last):
                    beginning = own
                    endings[name[len(own) :]] = ending
        position += (size + BLOCK - 1) // BLOCK * BLOCK


def _beginning(name: bytes, folder: str, last: str) -> bytes:
    """Returns a file's name in the archive up to where the patch's name in it ends; empty if it is not named so."""
    ends = _encode(f"{folder}/{last}")
    whole = name.partition(b"\0")[0]
    if not last.startswith(folder) or not (b"/" + whole).endswith(b"/" + ends):
        return b""
    return whole[: len(whole) - len(_encode(last[len(folder) :]))]


class _Headers:
    """Reads headers, and checks their checksums many at once, several times faster than one by one.

    Attributes:
        file: descriptor of the archive.
        path: of it, for errors.
        append: takes the position of a header that is to be checked, and the header.
    """

    def __init__(self, file: int, path: Path) -> None:
        self.file, self.path, self._ahead = file, path, 0
        self._unchecked: list[tuple[int, bytes]] = []
        self.append = self._unchecked.append

    def read(self, size: int, position: int) -> bytes:
        """Returns as many bytes as asked for, or as there are; a whole block at least.

        The disk is told ahead: each header would be waited for otherwise, since too much data lie between them for the
        system to see a pattern.
        """
        if position >= self._ahead:
            self._ahead = position + _AHEAD
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self.file, position, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)
            self.check()
        block = os.pread(self.file, size, position)
        if len(block) < BLOCK:
            _parse(block, position, self.path)
        return block

    def check(self) -> None:
        """Raises a DataError at the first that is damaged."""
        blocks = np.frombuffer(b"".join([header for _, header in self._unchecked]), np.uint8).reshape(
            -1, BLOCK
        )
        stored = blocks[:, 148:156]
        digits = stored[:, :6] - np.uint8(ord("0"))
        # Most write six octal digits, NUL and a space. The sum takes the eight bytes that it stands in as spaces.
        wanted = digits @ (8 ** np.arange(5, -1, -1)) + stored.sum(1) - 8 * ord(" ")
        sums = blocks.sum(1, np.uint32)
        good = (wanted == sums) & (digits < 8).all(1) & (stored[:, 6:] == (0, ord(" "))).all(1)
        for index in np.flatnonzero(~good).tolist():
            position, header = self._unchecked[index]
            _parse(header, position, self.path)
        self._unchecked.clear()


def _check_end(stream: BinaryIO, position: int, path: Path) -> None:
    """An end in its middle, as of a download that left a hole, must not pass for the end."""
    while rest := stream.read(_MEGABYTE):
        if rest.strip(b"\0"):
            raise DataError(f"damaged: data after an end at byte {position:,}", path=path, remedy=AGAIN)


def _parse(header: bytes, position: int, path: Path) -> tuple[bytes, int, bytes]:
    """Returns the name, with what may follow its NUL, size and type of a header."""
    if len(header) < BLOCK:
        problem = f"damaged or cut off: no header at byte {position:,}, where it ends"
        raise DataError(problem, path=path, remedy=AGAIN)
    stored = header[148:156]
    try:
        # The low half of Adler-32 is one more than the sum of the bytes, modulo a prime. The sum that a header holds
        # takes the eight bytes that it stands in as spaces.
        wanted = (int(stored.strip(b" \0"), 8) + sum(stored) - 8 * 32 + 1) % _ADLER
        if header[257:262] == _MAGIC and zlib.adler32(header) & 0xFFFF == wanted and header[124] < 128:
            name = header[:100] if header[262] or not header[345] else _long_name(header)
            size = int(header[124:136].strip(b" \0") or b"0", 8)
            if size >= 0:
                return name, size, header[156:157]
    except ValueError:
        pass
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.size < 0:
            raise tarfile.HeaderError("size")
    except tarfile.HeaderError as error:
        kind = "damaged" if position else "not a readable tar"
        raise DataError(f"{kind}: no header at byte {position:,}", path=path, remedy=AGAIN) from error
    return _encode(info.name), info.size, info.type


def _long_name(header: bytes) -> bytes:
    """Returns the name where its beginning stands apart, as in POSIX's headers; GNU keeps times there."""
    return header[345:500].partition(b"\0")[0] + b"/" + header[:100]


def _read_extra(payload: bytes, kind: bytes, position: int, path: Path) -> dict[str, bytes]:
    """Returns the path and size that a member tells of the next one."""
    if kind in _IGNORED:
        return {}
    if kind == _LONG_NAME:
        return {"path": payload}
    told = {}
    try:
        while payload:  # "LENGTH KEY=VALUE\n", the length being that of all of it
            digits, _, rest = payload.partition(b" ")
            length = int(digits)
            key, _, value = rest[: length - len(digits) - 2].partition(b"=")
            if key == b"path" or (key == b"size" and value.isdigit()):
                told[key.decode()] = value
            elif key == b"size":
                raise ValueError
            elif key.startswith(b"GNU.sparse"):
                raise DataError(f"a sparse file at byte {position:,}", path=path, remedy=_BACK)
            payload = payload[length:] if length > 0 else b"?"
        return told
    except ValueError as error:
        raise DataError(f"damaged: no pax header at byte {position:,}", path=path, remedy=AGAIN) from error


def _place(raw: bytes, kind: bytes, path: Path) -> tuple[str, str]:
    """Returns the folder and name of a file, empty for a folder or what lies in none; checks that it may be taken."""
    name = _text(raw)
    parts = [part for part in name.split("/") if part and part != "."]
    if name[:1] in ("/", "") or ".." in parts:
        raise DataError(f"member {name} lies outside of it", path=path, remedy=_BACK)
    if kind not in _FILES and kind != _FOLDER:
        raise DataError(f"member {name} is a link or a device", path=path, remedy=_BACK)
    if kind == _FOLDER or name[-1] == "/" or len(parts) < 2:
        return "", ""
    return parts[-2], parts[-1]


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK
