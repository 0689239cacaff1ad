"""The steps of one conversion."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import jeoparda_tf
from jeoparda_tf.bigearthnet import archive as archives
from jeoparda_tf.bigearthnet import bands, raster
from jeoparda_tf.bigearthnet.archive import Archive
from jeoparda_tf.bigearthnet.stream import STANDARD_INPUT
from tfrecords_tools import manifest
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Manifest

from . import engine, plan, tasks
from .config import ConvertConfig, worker_count
from .engine import Pool
from .faults import Faults
from .finish import finish
from .gather import gather, maps_of, request, streams
from .output import Output
from .plan import Range
from .progress import Progress
from .select import Selection, select
from .shard import Job, Setup, ShardResult, Source, convert_shard


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first pixel is read.

    Attributes:
        archive: where the files are.
        setup: what the shards share.
        selection: which patches, and what is left out.
        splits: names by split, in order.
        shards: which names each shard takes.
        fingerprint: of all this.
    """

    archive: Archive
    setup: Setup
    selection: Selection
    splits: dict[str, list[str]]
    shards: list[Range]
    fingerprint: str

    def job(self, shard: Range) -> Job:
        """Returns what a worker has to know to convert a shard."""
        names = self.splits[shard.split][shard.start : shard.stop]
        return Job(self.setup, shard.file, shard.split, shard.split == "train", self.sources(names))

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """Returns where some patches are read from."""
        table = self.selection.metadata
        s1 = [self.selection.s1.get(name) for name in names]
        labels = [None] * len(names) if table is None else table.labels(names)
        return tuple(
            Source(
                name,
                partner,
                own,
                self.archive.s2_files(name),
                self.archive.s1_files(partner),
                self.archive.map_files(name),
                self.archive.record(name),
            )
            for name, partner, own in zip(names, s1, labels)
        )


@dataclass(frozen=True)
class Outcome:
    """What `convert` did.

    Attributes:
        archive: that it found.
        manifest: None if this was one task of several.
        already: whether all was there before.
        shards: number of the shards that were this process's share.
    """

    archive: Archive
    manifest: Optional[Manifest]
    already: bool
    shards: int = 0


def convert(config: ConvertConfig, pool: Optional[AbstractContextManager[Pool]] = None) -> Outcome:
    """Converts an archive into shards, or a task's share of it; continues where an earlier call was stopped.

    Args:
        config: what to convert, and how.
        pool: runs the jobs instead of what `config` asks for.

    Raises:
        UsageError: paths or flags do not fit together, or another process converts into the same folder.
        DataError: a patch is faulty (unless these are skipped), or the disk is full.
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call continues.
    """
    with stopping_on_sigterm(), ExitStack() as stack:
        if config.executor == "mpi" and pool is None:
            pool = stack.enter_context(engine.mpi()).pool()
        return _convert(config, pool)


def _convert(config: ConvertConfig, pool: Optional[AbstractContextManager[Pool]]) -> Outcome:
    workers, task = worker_count(config), tasks.parse(config.task)
    _check_task(config)
    output = Output(config.out)
    if (before := _done_before(config, output)) is not None:
        return before
    packed = gather(config, output)
    archive = archives.open_archive(
        config.archive, config.s1, maps=maps_of(config), table=config.metadata, packed=packed
    )
    faults = Faults(config.on_error == "skip")
    planned = make_plan(config, archive, faults)
    if not config.force and output.is_finished(planned.fingerprint):
        return Outcome(archive, manifest.read(config.out), already=True)
    share = planned.shards[task.number :: task.size] if task else planned.shards
    files = [shard.file for shard in share]
    with output.claimed(planned.fingerprint, config.force, task, files):
        if config.finish:
            _check_complete(planned, output)
        if pool is None:
            pool = engine.processes(max(1, min(workers, len(share))))
        results = _convert_shards(planned, share, output, pool)
        if task:
            return Outcome(archive, None, already=False, shards=len(share))
        written = finish(
            planned.setup,
            results,
            seed=config.seed,
            origin=archives.origin(archive),
            sources=_sources(config, archive, planned),
            excluded=planned.selection.excluded,
            faults=faults.found,
        )
    output.close()
    return Outcome(archive, written, already=False, shards=len(share))


def _done_before(config: ConvertConfig, output: Output) -> Optional[Outcome]:
    """Returns what is in OUT if it was made of the same archives that stream by, without reading them again."""
    if config.force or not Path(config.out, manifest.FILE_NAME).exists() or not streams(config):
        return None
    found = manifest.read(config.out)
    if found.sources.get("request") != request(config):
        remedy = "name another OUT, or start over here with --force"
        raise UsageError(
            "holds a conversion of another archive or with other settings", path=config.out, remedy=remedy
        )
    output.close()  # which a kill may have prevented: what was spilled takes as much room as the archive
    return Outcome(Archive(found.sources["layout"], str(config.archive)), found, already=True)


def _check_task(config: ConvertConfig) -> None:
    if config.task and (config.force or config.finish):
        other = "--force" if config.force else "--finish"
        remedy = (
            "remove OUT before the tasks start" if config.force else "run --finish once all tasks have ended"
        )
        raise UsageError(f"--task and {other} exclude each other", remedy=remedy)
    if config.force and config.finish:
        raise UsageError("--force and --finish exclude each other")


def _check_complete(planned: Plan, output: Output) -> None:
    """Raises a DataError that names the shards which no task has finished."""
    missing = [
        (index, shard.file)
        for index, shard in enumerate(planned.shards)
        if _finished(output, shard.file, planned.setup.skip) is None
    ]
    if missing:
        told = ", ".join(f"{file} (number {index})" for index, file in missing[:5]) + ", ..." * (
            len(missing) > 5
        )
        raise DataError(
            f"{len(missing):,} of {len(planned.shards):,} shards are not finished: {told}",
            path=output.directory,
            remedy="shard number s is made by task s mod N of --task I/N: run that task again, or the command "
            "without --finish, which converts what is missing",
        )


def make_plan(config: ConvertConfig, archive: Archive, faults: Faults) -> Plan:
    """Decides on everything: patches, splits, order, shards."""
    nomenclature = _nomenclature(config, archive)
    wants_maps = config.reference_maps or config.maps is not None
    if wants_maps and (archive.layout != "v2" or archive.maps is None):
        why = {"v1": "version 1 has none", "tfrecord": "these TFRecords hold none"}.get(
            archive.layout, f"there is no {archives.MAP_FOLDER} in it"
        )
        raise UsageError(f"--reference-maps, but {why}", path=config.archive)
    selection = select(config, archive, faults)
    splits = {split: plan.order(names, config.seed) for split, names in selection.splits.items()}
    features = bands.features(s1=archive.s1 is not None, reference_map=wants_maps)
    size = plan.record_bytes(features)
    shards = [
        shard
        for split, names in splits.items()
        for shard in plan.ranges(
            split, len(names), plan.shard_count(len(names), size, config.shard_size, config.shards)
        )
    ]
    setup = Setup(
        archive.without_index(),
        str(config.out),
        features,
        nomenclature,
        raster.choose(config.reader),
        config.on_error == "skip",
    )
    settings = {
        "features": [asdict(feature) for feature in features],
        "nomenclature": nomenclature,
        "shards": [shard.file for shard in shards],
        "s1": [selection.s1.get(name) for names in splits.values() for name in names],
        "table": selection.metadata.digest if selection.metadata else None,
        "origin": archives.origin(archive),
    }
    return Plan(archive, setup, selection, splits, shards, plan.fingerprint(settings, splits))


def _nomenclature(config: ConvertConfig, archive: Archive) -> str:
    if archive.layout == "v2" and config.nomenclature == "clc43":
        remedy = "version 2 has the 19 classes only: --nomenclature ben19, its default"
        problem = "--nomenclature clc43, but version 2 has no labels of 43 classes"
        raise UsageError(problem, path=config.archive, remedy=remedy)
    if archive.records is not None:
        most = archive.records.nomenclature
        if config.nomenclature == "clc43" and most != "clc43":
            remedy = "--nomenclature ben19, or name TFRecords with original_labels, or the published archive"
            problem = "--nomenclature clc43, but these TFRecords have labels of the 19 classes only"
            raise UsageError(problem, path=config.archive, remedy=remedy)
        return most if config.nomenclature == "auto" else config.nomenclature
    if config.nomenclature == "auto":
        return "clc43" if archive.layout == "v1" else "ben19"
    return config.nomenclature


def _convert_shards(
    planned: Plan, shards: Sequence[Range], output: Output, context: AbstractContextManager[Pool]
) -> list[ShardResult]:
    """Converts what is missing of some shards; returns the results of all of them in order."""
    results = {shard.file: _finished(output, shard.file, planned.setup.skip) for shard in shards}
    missing = [shard for shard in shards if results[shard.file] is None]
    sizes = {shard.file: shard.stop - shard.start for shard in shards}
    done = sum(sizes.values()) - sum(sizes[shard.file] for shard in missing)
    jobs = (planned.job(shard) for shard in missing)
    record_bytes = plan.record_bytes(planned.setup.features)
    progress = Progress(output.directory, list(sizes), sum(sizes.values()), done, record_bytes)
    with progress, context as pool, closing(engine.run(convert_shard, jobs, pool)) as finished:
        for result in finished:
            output.record(result)
            results[result.shard.file] = result
            progress.add(sizes[result.shard.file])
    return [result for result in results.values() if result is not None]


def _finished(output: Output, file: str, skip: bool) -> Optional[ShardResult]:
    result = output.result(file)
    # What was left out is no longer to be left out: convert this shard again, to stop there.
    return None if result and result.faults and not skip else result


def _sources(config: ConvertConfig, archive: Archive, planned: Plan) -> dict[str, Any]:
    return {
        "program": f"jeoparda_tf {jeoparda_tf.__version__}",
        "archive": "standard input"
        if config.archive == STANDARD_INPUT
        else Path(archive.root).absolute().name,
        "layout": archive.layout,
        "splits": planned.selection.source,
        "labels": {"v1": "labels_metadata.json", "v2": archives.TABLE}.get(archive.layout, "TFRecords"),
        "s1": Path(archive.s1).absolute().name if archive.s1 else None,
        "excluded_by": [path.name for path in config.exclude],
        "fingerprint": planned.fingerprint,
        **({"request": request(config)} if streams(config) else {}),
    }


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM, which batch systems send, the same as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
