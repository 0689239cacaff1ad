"""Checkpoints: each a folder that exists whole or not at all, with the hashes of its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError

from ..stack import tf

_VARIABLES, _STATE = "variables", "state.json"
State = dict[str, Any]


def save(folder: Path, variables: Any, state: Mapping[str, Any]) -> Path:
    """Writes `folder/step-00000123` under a temporary name, then renames it.

    Args:
        folder: of all checkpoints of the run.
        variables: tf.train.Checkpoint.
        state: JSON values; `step` names the folder.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    final = folder / f"step-{state['step']:08d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        variables.write(str(temporary / _VARIABLES))
        hashes = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / _STATE).write_text(json.dumps({**state, "files": hashes}))
        for file in temporary.iterdir():
            _sync(file)
        if final.exists():
            _remove(final)
        temporary.replace(final)
        _sync(folder)
    except (OSError, tf.errors.OpError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        remedy = "free some space, then run the same command with --resume"
        raise DataError(f"the checkpoint cannot be written: {error}", path=final, remedy=remedy) from error
    return final


def state_of(checkpoint: Path) -> State:
    """Reads and checks a checkpoint's state.

    Raises:
        DataError: a file is missing, or its hash is not the one it was written with.
    """
    try:
        state: State = json.loads((checkpoint / _STATE).read_text())
        damaged = [name for name, sha in state["files"].items() if _sha256(checkpoint / name) != sha]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"not a whole checkpoint: {error}", path=checkpoint) from error
    if damaged:
        raise DataError(
            f"not a whole checkpoint: {', '.join(damaged)} has changed since it was written", path=checkpoint
        )
    return state


def last_whole(folder: Path) -> Optional[tuple[Path, State]]:
    """Returns the newest checkpoint that is whole, naming on stderr those passed over; None if there is none."""
    for checkpoint in reversed(all_of(folder)):
        try:
            return checkpoint, state_of(checkpoint)
        except DataError as error:
            if cli.is_first_rank():
                print(f"passed over: {error}", file=sys.stderr)
    return None


def all_of(folder: Path) -> list[Path]:
    """Returns the checkpoints of a run, oldest first; unfinished ones do not count."""
    return sorted(folder.glob("step-*"))


def best(folder: Path) -> Optional[Path]:
    """Returns the checkpoint with the highest validation score, the earliest of equals; None without any score."""
    scored = [(_score(path), path) for path in all_of(folder)]
    with_score = [(score, path) for score, path in scored if score is not None]
    return max(with_score, key=lambda pair: pair[0])[1] if with_score else None


def prune(folder: Path, keep: int) -> None:
    """Removes all but the last `keep` checkpoints and the best one."""
    spared = {*all_of(folder)[-keep:], best(folder)}
    for path in all_of(folder):
        if path not in spared:
            _remove(path)
    for path in folder.glob(".step-*"):  # left by a process that was killed while it wrote or removed them
        shutil.rmtree(path)


def restore(checkpoint: Path, variables: Any, *, partial: bool = False) -> None:
    """Reads the variables of a checkpoint.

    Args:
        checkpoint: its folder, found whole before.
        variables: tf.train.Checkpoint of the same objects as when it was written.
        partial: True to read the model alone and leave the optimizer.

    Raises:
        DataError: the model has other variables than the checkpoint.
    """
    try:
        status = variables.read(str(checkpoint / _VARIABLES))
        if partial:
            status.assert_existing_objects_matched().expect_partial()
        else:
            status.assert_consumed()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"does not fit this model: {str(error).splitlines()[0]}", path=checkpoint) from error


def _score(checkpoint: Path) -> Optional[float]:
    """Returns the validation score; None without one, or where the state cannot be read."""
    try:
        score: Optional[float] = json.loads((checkpoint / _STATE).read_text()).get("score")
    except (OSError, ValueError):
        return None
    return score


def _remove(checkpoint: Path) -> None:
    """Takes its name from it first: what is killed in between leaves no half of a checkpoint."""
    nameless = checkpoint.with_name(f".{checkpoint.name}.removed")
    shutil.rmtree(nameless, ignore_errors=True)
    checkpoint.replace(nameless)
    shutil.rmtree(nameless)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Has the disk hold what was written before the rename says so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
