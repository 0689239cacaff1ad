"""What happens at a faulty patch: the conversion stops, or the patch is left out and listed."""

from __future__ import annotations

from typing import NamedTuple

from tfrecords_tools.errors import DataError

_SKIP = "or leave such patches out with --on-error skip"


class Fault(NamedTuple):
    """A patch that was left out.

    Attributes:
        name: of the patch.
        file: what was wrong with it, or the list that names it wrongly.
        reason: what is wrong.
    """

    name: str
    file: str
    reason: str


class Faults:
    """Collects faults (`skip`) or raises the first one.

    Attributes:
        skip: whether to go on.
        found: the faults until now.
    """

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: list[Fault] = []

    def add(self, name: str, error: DataError) -> None:
        """Notes that a patch has to be left out; raises the error, with that way out, unless faults are skipped."""
        if self.skip:
            self.found.append(Fault(name, error.path or "", error.problem))
            return
        problem = error.problem if name in (error.path or "") else f"patch {name}: {error.problem}"
        if error.remedy and "--on-error" in error.remedy:
            remedy = error.remedy
        else:
            remedy = f"{error.remedy or 'restore it from the published archive'}, {_SKIP}"
        raise DataError(problem, path=error.path, remedy=remedy) from error
