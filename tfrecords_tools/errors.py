"""Errors meant for the user: what is wrong, in which file, and the way out."""

from __future__ import annotations

from os import PathLike
from typing import Optional, Union


class UserError(Exception):
    """Base of all errors that are shown as one message, without a traceback.

    Args:
        problem: what is wrong, as a sentence without its full stop.
        path: the file, folder or member it was found in.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(
        self, problem: str, *, path: Union[str, PathLike[str], None] = None, remedy: Optional[str] = None
    ):
        self.problem, self.path, self.remedy = problem, None if path is None else str(path), remedy
        super().__init__(problem)

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes hand errors over pickled; the default would lose the keyword arguments.
        return _rebuild, (type(self), self.problem, self.path, self.remedy)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        way_out = f"\n  {self.remedy}" if self.remedy else ""
        return f"{where}{self.problem}{way_out}"


class DataError(UserError):
    """Something is wrong with the data: exit code 1."""


class UsageError(UserError):
    """Something is wrong with what was asked for: exit code 2."""

    exit_code = 2


class PeerError(UserError):
    """Another process has said what is wrong: this one ends with the same exit code, without a word."""

    def __init__(self, exit_code: int = 1):
        super().__init__("")
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return PeerError, (self.exit_code,)


class StoppedError(UserError):
    """Asked to end, with all work saved, which is no fault: exit code 75 (EX_TEMPFAIL of sysexits.h: go on later)."""

    exit_code = 75

    def __init__(self, problem: str, *, remedy: Optional[str] = None, exit_code: int = 75):
        super().__init__(problem, remedy=remedy)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return _stopped, (self.problem, self.remedy, self.exit_code)


def _stopped(problem: str, remedy: Optional[str], exit_code: int) -> StoppedError:
    return StoppedError(problem, remedy=remedy, exit_code=exit_code)


def _rebuild(kind: type[UserError], problem: str, path: Optional[str], remedy: Optional[str]) -> UserError:
    return kind(problem, path=path, remedy=remedy)
