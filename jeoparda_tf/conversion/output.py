"""What lies in OUT: whether a conversion starts, continues or is done there; which shards are finished."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools import manifest, tfds
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.locks import create
from tfrecords_tools.writer import TEMPORARY

from .lock import held
from .shard import ShardResult
from .tasks import Task

QUARANTINE = "quarantine.json"
_JOURNAL = ".conversion"
_PLAN = "plan.json"
_BESIDE = "|".join(map(re.escape, (manifest.FILE_NAME, manifest.TABLE_NAME, QUARANTINE, *tfds.FILE_NAMES)))
_OURS = re.compile(rf"((train|val|test)-\d{{5}}-of-\d{{5}}\.tfrecord|{_BESIDE})(\.tmp)?")


class Output:
    """The folder of the shards, and in it a journal with an entry for every finished shard.

    The journal is a folder, `.conversion`, which goes when the manifest has been written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._journal = directory / _JOURNAL

    @contextmanager
    def claimed(
        self, fingerprint: str, force: bool = False, task: Optional[Task] = None, files: Iterable[str] = ()
    ) -> Iterator[None]:
        """Holds the folder for a conversion during the block, and sweeps it before and after.

        Args:
            fingerprint: of the plan; only a conversion with the same one is continued.
            force: start over, whatever an earlier conversion left.
            task: of an array, whose other tasks may write beside this one.
            files: the shards of this task.

        Raises:
            UsageError: the folder cannot be written, holds something else, or another process converts into it.
        """
        with ExitStack() as stack:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                if not force:
                    self._check_journal(fingerprint)
                self._journal.mkdir(exist_ok=True)
                stack.enter_context(held(self._journal, task))
                if force:
                    self._clear()
                create(self._journal / _PLAN, {"fingerprint": fingerprint})
                self._check_journal(fingerprint)
                self._sweep(task, files)
            except OSError as error:
                raise _unwritable(self.directory, error) from error
            try:
                yield
            finally:
                self._sweep(task, files)

    @contextmanager
    def gathering(self, force: bool = False) -> Iterator[Path]:
        """Holds the folder while archives are read into its journal, before there is a plan; yields the journal.

        Raises:
            UsageError: as `claimed`.
        """
        with ExitStack() as stack:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                if not force:
                    self._check_foreign()
                self._journal.mkdir(exist_ok=True)
                stack.enter_context(held(self._journal))
                if force:
                    self._clear()
                    for path in (*self._journal.glob("*.spill"), *self._journal.glob("*.archive")):
                        path.unlink()
            except OSError as error:
                raise _unwritable(self.directory, error) from error
            yield self._journal

    def is_finished(self, fingerprint: str) -> bool:
        """Whether the folder holds this conversion whole.

        Raises:
            UsageError: it holds another one.
        """
        if not self._is_finished(fingerprint):
            return False
        self.close()
        return True

    def _is_finished(self, fingerprint: str) -> bool:
        if not (self.directory / manifest.FILE_NAME).exists():
            return False
        found = manifest.read(self.directory)
        if found.sources.get("fingerprint") != fingerprint:
            raise _other("holds a conversion of other patches or with other settings", self.directory)
        return True

    def _check_journal(self, fingerprint: str) -> None:
        plan = self._check_foreign()
        if plan and plan.get("fingerprint") != fingerprint:
            raise _other(
                "holds an unfinished conversion of other patches or with other settings", self.directory
            )

    def _check_foreign(self) -> Optional[dict[str, Any]]:
        """Returns the plan in the journal; without one, refuses a folder that is not empty."""
        # Listed before the plan is read: another task of the array may be about to write its first shard.
        foreign = sorted(path.name for path in self.directory.iterdir() if path != self._journal)
        plan = _read_json(self._journal / _PLAN)
        if plan is None and [name for name in foreign if not _OURS.fullmatch(name)]:
            remedy = "name a new or empty folder"
            raise UsageError(f"is not empty: it holds {foreign[0]}", path=self.directory, remedy=remedy)
        if plan is None and foreign:
            raise _other("holds shards that no journal or manifest tells of", self.directory)
        return plan

    def _clear(self) -> None:
        # The manifest first: without it, what is left does not look whole.
        (self.directory / manifest.FILE_NAME).unlink(missing_ok=True)
        for path in self._files():
            path.unlink()
        for path in self._journal.glob("*.json"):  # the lock stays
            path.unlink()

    def _sweep(self, task: Optional[Task], files: Iterable[str]) -> None:
        """Removes what killed workers left half-written; as a task, of its own shards only."""
        if task:
            for file in files:
                (self.directory / f"{file}{TEMPORARY}").unlink(missing_ok=True)
            return
        for path in self._files():
            if path.suffix == TEMPORARY:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self.directory.glob("*") if _OURS.fullmatch(path.name)]

    def record(self, result: ShardResult) -> None:
        """Notes a finished shard."""
        write_json(self._entry(result.shard.file), result.to_json())

    def result(self, file: str) -> Optional[ShardResult]:
        """Returns what is noted of a shard; None unless it is finished and of the size noted."""
        try:
            result = ShardResult.from_json(_read_json(self._entry(file)) or {})
        except (KeyError, TypeError):  # no entry, or that of another version of the program
            return None
        path = self.directory / file
        return result if path.is_file() and path.stat().st_size == result.shard.bytes else None

    def close(self) -> None:
        """Removes the journal: the manifest tells all now."""
        shutil.rmtree(self._journal, ignore_errors=True)

    def _entry(self, file: str) -> Path:
        return self._journal / f"{file}.json"


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        DataError: the disk is full or the folder is gone.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("w") as file:
            json.dump(content, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> DataError:
    """Returns the error to raise when a file cannot be written."""
    remedy = "free some space, then run the same command again: finished shards are kept"
    return DataError(f"cannot be written: {error.strerror or error}", path=path, remedy=remedy)


def _read_json(path: Path) -> Optional[dict[str, Any]]:
    """Reads a file of the journal; None if there is none or a crash of the machine has damaged it."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _unwritable(directory: Path, error: OSError) -> UsageError:
    remedy = "name an OUT on a disk with space, in a folder that you may write to"
    return UsageError(f"cannot be written: {error.strerror}", path=directory, remedy=remedy)


def _other(problem: str, directory: Path) -> UsageError:
    return UsageError(problem, path=directory, remedy="name another OUT, or start over here with --force")
