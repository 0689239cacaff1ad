"""Reads tar: the members of one, in place or as they stream by, and where each file's bytes lie in a plain .tar.

Only what published archives hold is taken: files and folders. tarfile, which knows all kinds, takes several times as
long a member, and millions of members wait; it is asked about headers that are out of the ordinary.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from tfrecords_tools.errors import DataError

from .packed import Index

BLOCK = 512
_MEGABYTE = 1 << 20
_ADLER = 65_521
_BACK = "pack it again from the published files, which holds none"
AGAIN = "copy or download the archive again"
# Members that tell of the next one (POSIX pax, GNU's long name), of all next ones, or of a link's long target.
_PAX, _LONG_NAME, _IGNORED = (b"x", b"X"), b"L", (b"g", b"K")
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"


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
    """Lists a plain .tar's patches by one pass over its headers, seeking over the data.

    Raises:
        DataError: it is no tar, is cut off, or has a member that is a link, a device, or lies outside of it.
    """
    found = Index(str(path), [str(path)])
    try:
        # No buffer: a header is one block, and the next one lies behind kilobytes of data.
        with path.open("rb", buffering=0) as file:
            for member in members(file, path, path.stat().st_size):
                found.add(member.folder, member.file, member.offset, member.size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path, remedy=AGAIN) from error
    return found.seal()


def members(stream: BinaryIO, path: Path, end: Optional[int] = None) -> Iterator[Member]:
    """Yields the files in folders of a tar, from its first header to its end.

    Args:
        stream: open at the first header.
        path: of the archive, for errors.
        end: size of the archive; the data are then seeked over, otherwise read.

    Raises:
        DataError: it is no tar, is cut off or damaged, or has a member that is a link, a device, or lies outside of it.
    """
    position = 0
    told: dict[str, str] = {}
    while (header := stream.read(BLOCK)) != bytes(BLOCK):
        name, size, kind = _parse(header, position, path)
        position += BLOCK
        padded = -(-size // BLOCK) * BLOCK
        if kind in _PAX or kind == _LONG_NAME or kind in _IGNORED:
            told.update(_read_extra(stream.read(padded)[:size], kind, position, path))
            position += padded
            continue
        if told:
            name, size = told.get("path", name), int(told.get("size", size))
            padded, told = -(-size // BLOCK) * BLOCK, {}
        parts = [part for part in name.split("/") if part and part != "."]
        _check(name, parts, kind, path)
        data = b""
        if end is None:
            block = stream.read(padded)
            data = block if len(block) == size else block[:size]
        else:
            stream.seek(padded, 1)
        if len(data) < size if end is None else position + size > end:
            raise DataError(f"cut off within {name}", path=path, remedy=AGAIN)
        if kind != _FOLDER and name[-1] != "/" and len(parts) > 1:
            yield Member(parts[-2], parts[-1], position, size, data)
        position += padded
    position += BLOCK
    # An end in its middle, as of a download that left a hole, must not pass for the end.
    while rest := stream.read(_MEGABYTE):
        if rest.strip(b"\0"):
            raise DataError(f"damaged: data after an end at byte {position:,}", path=path, remedy=AGAIN)


def _parse(header: bytes, position: int, path: Path) -> tuple[str, int, bytes]:
    """Returns the name, size and type of a header."""
    if len(header) < BLOCK:
        problem = f"damaged or cut off: no header at byte {position:,}, where it ends"
        raise DataError(problem, path=path, remedy=AGAIN)
    stored = header[148:156]
    try:
        # The low half of Adler-32 is one more than the sum of the bytes, modulo a prime. The sum that a header holds
        # takes the eight bytes that it stands in as spaces.
        wanted = (int(stored.strip(b" \0"), 8) + sum(stored) - 8 * 32 + 1) % _ADLER
        if header[257:262] == b"ustar" and zlib.adler32(header) & 0xFFFF == wanted and header[124] < 128:
            name = header[:100].partition(b"\0")[0]
            if header[262] == 0 and header[345]:  # POSIX; GNU keeps times there
                name = header[345:500].partition(b"\0")[0] + b"/" + name
            size = int(header[124:136].strip(b" \0") or b"0", 8)
            return name.decode("utf-8", "surrogateescape"), size, header[156:157]
    except ValueError:
        pass
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        kind = "damaged" if position else "not a readable tar"
        raise DataError(f"{kind}: no header at byte {position:,}", path=path, remedy=AGAIN) from error
    return info.name, info.size, info.type


def _read_extra(payload: bytes, kind: bytes, position: int, path: Path) -> dict[str, str]:
    """Returns the path and size that a member tells of the next one."""
    if kind in _IGNORED:
        return {}
    if kind == _LONG_NAME:
        return {"path": payload.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    told = {}
    try:
        while payload:  # "LENGTH KEY=VALUE\n", the length being that of all of it
            digits, _, _ = payload.partition(b" ")
            key, _, value = payload[len(digits) + 1 : int(digits) - 1].partition(b"=")
            told[key.decode()] = value.decode("utf-8", "surrogateescape")
            payload = payload[int(digits) :]
        if any(key.startswith("GNU.sparse") for key in told):
            raise DataError(f"a sparse file at byte {position:,}", path=path, remedy=_BACK)
        return {
            key: str(int(value)) if key == "size" else value
            for key, value in told.items()
            if key in ("path", "size")
        }
    except ValueError as error:
        raise DataError(f"damaged: no pax header at byte {position:,}", path=path, remedy=AGAIN) from error


def _check(name: str, parts: list[str], kind: bytes, path: Path) -> None:
    if name[:1] in ("/", "") or ".." in parts:
        raise DataError(f"member {name} lies outside of it", path=path, remedy=_BACK)
    if kind not in _FILES and kind != _FOLDER:
        raise DataError(f"member {name} is a link or a device", path=path, remedy=_BACK)
