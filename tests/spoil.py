"""Ways to break inputs, for corpora of broken ones: each returns a function that spoils a copy, which is links."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests import archives

Spoil = Callable[[Path], Any]


def error(problem: str, *remedy: str) -> str:
    """Returns an error about something in ROOT as it is printed."""
    return "".join((f"error: ROOT/{problem}\n", *(f"  {line}\n" for line in remedy)))


def at_root(problem: str, *remedy: str) -> str:
    """Returns an error about ROOT itself as it is printed."""
    return error(problem, *remedy).replace("ROOT/", "ROOT: ", 1)


def faults(*found: str) -> str:
    """Returns what verify prints of the faults it finds."""
    lines = "".join(f"{fault}\n" for fault in found)
    return f"{lines}ROOT is damaged: {len(found)} faults (2 splits, 4 shards, 8 records)\n"


class Broken(NamedTuple):
    """One broken input.

    Attributes:
        name: what is wrong, for the test's name.
        spoil: breaks a copy of the archive or of the shards, which lies in the folder it is given.
        command: what is run; its first word decides what is copied.
        message: all that it prints.
        code: exit code.
    """

    name: str
    spoil: Spoil
    command: str
    message: str
    code: int = 1


def put(file: str, content: bytes | str) -> Spoil:
    """Puts other content in a file's place. Copies are links: a file is replaced, never written into."""

    def spoil(root: Path) -> None:
        path = root / file
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def change(file: str, how: Callable[[bytes], bytes]) -> Spoil:
    """Changes a file's bytes."""
    return lambda root: put(file, how((root / file).read_bytes()))(root)


def cut(file: str) -> Spoil:
    """Leaves the first half of a file."""
    return change(file, lambda content: content[: len(content) // 2])


def flip(file: str, byte: int) -> Spoil:
    """Flips one bit."""
    return change(file, lambda c: c[:byte] + bytes([c[byte] ^ 4]) + c[byte + 1 :])


def lose(file: str) -> Spoil:
    """Removes a file or a folder."""

    def spoil(root: Path) -> None:
        path = root / file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return spoil


def folder(file: str) -> Spoil:
    """Puts an empty folder in a file's place."""

    def spoil(root: Path) -> None:
        (root / file).unlink(missing_ok=True)
        (root / file).mkdir()

    return spoil


def forbid(file: str) -> Spoil:
    """Takes the permission to read away, of a copy of its own."""

    def spoil(root: Path) -> None:
        put(file, (root / file).read_bytes())(root)
        (root / file).chmod(0)

    return spoil


def pixels(file: str, values: np.ndarray) -> Spoil:
    """Puts a GeoTIFF of other pixels in a band's place."""

    def spoil(root: Path) -> None:
        (root / file).unlink()
        archives.write_tif(root / file, values)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    """Does several things."""
    return lambda root: [spoil(root) for spoil in spoils]


def listed(split: str, names: Sequence[str]) -> Spoil:
    """Writes another split list."""
    return put(f"{split}.csv", "".join(f"{name}\n" for name in names))


def manifest(**changes: Any) -> Spoil:
    """Changes entries of manifest.json; None removes one."""

    def how(content: bytes) -> bytes:
        values = {**json.loads(content), **changes}
        return json.dumps({key: value for key, value in values.items() if value is not None}).encode()

    return change("manifest.json", how)


def nothing(root: Path) -> None:
    """Breaks nothing: the command itself is wrong."""
