"""Shards copied to the disk of each node before training, so that it does not wait for the file system of all."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import uuid
from pathlib import Path

from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest, Shard

from . import distributed

# A copy that nobody has written to for so long, in seconds, is left from a process that was killed.
_LEFT = 3600


def stage(source: Path, manifest: Manifest, target: Path) -> Path:
    """Copies this rank's share of the train and val shards; the ranks of a node share them out among themselves.

    Every rank must have returned before any reads. A shard that is there in its size is not copied again.

    Returns:
        the folder in `target`, named by the shards' hashes, so that other data is never mistaken for these.

    Raises:
        DataError: no room, `target` cannot be written, or a shard has another size than the manifest says.
    """
    shards = [
        shard
        for name in ("train", "val")
        if name in manifest.splits
        for shard in manifest.splits[name].shards
    ]
    digest = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
    folder = target / f"jeoparda_tf-{digest[:16]}"
    mine = shards[distributed.local_rank() :: distributed.local_size()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for copy in folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # another rank's, which has just got its name
                if time.time() - copy.stat().st_mtime > _LEFT:
                    copy.unlink()
        missing = [shard for shard in mine if not _is_there(folder / shard.file, shard)]
        need, free = sum(shard.bytes for shard in missing), shutil.disk_usage(folder).free
        if need > free:
            problem = f"no room for the shards: {need / 1e9:.1f} GB of them, {free / 1e9:.1f} GB free"
            raise DataError(problem, path=target, remedy="fit without --stage, or name a larger disk")
        for shard in missing:
            _copy(source / shard.file, folder / shard.file, shard)
    except OSError as error:
        remedy = "name a folder of each node's own disk with --stage, or leave it out"
        raise DataError(f"shards cannot be copied here: {error}", path=folder, remedy=remedy) from error
    return folder


def _is_there(path: Path, shard: Shard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes


def _copy(source: Path, target: Path, shard: Shard) -> None:
    # A name of its own: another job on this node may copy the same shard at the same time.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        shutil.copyfile(source, temporary)
        if not _is_there(temporary, shard):
            remedy = f"`python -m tfrecords_tools.verify {source.parent}` tells more; then convert again"
            raise DataError("not of the size that the manifest has", path=source, remedy=remedy)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
