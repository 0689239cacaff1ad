"""The steps of one conversion."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import jeoparda_tf
from jeoparda_tf.bigearthnet import archive as archives
from jeoparda_tf.bigearthnet import bands, raster
from jeoparda_tf.bigearthnet.archive import Archive
from jeoparda_tf.bigearthnet.tar import PatchFiles
from tfrecords_tools import manifest
from tfrecords_tools.errors import UsageError
from tfrecords_tools.manifest import Manifest

from . import engine, plan
from .config import ConvertConfig, cores
from .faults import Faults
from .finish import finish
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
        table = self.selection.metadata
        s1 = [self.selection.s1.get(name) for name in names]
        labels = [None] * len(names) if table is None else table.labels(names)
        s2_tar = self.archive.s2_tar or {}
        sources = tuple(
            Source(name, partner, own, s2_tar.get(name), _partner_files(self.archive, partner))
            for name, partner, own in zip(names, s1, labels)
        )
        return Job(self.setup, shard.file, shard.split, shard.split == "train", sources)


@dataclass(frozen=True)
class Outcome:
    """What `convert` did: the archive it found, the manifest, and whether it was there already."""

    archive: Archive
    manifest: Manifest
    already: bool


def convert(config: ConvertConfig) -> Outcome:
    """Converts an archive into shards; continues where an earlier call was stopped.

    Raises:
        UsageError: paths or flags do not fit together.
        DataError: a patch is faulty (unless these are skipped), or the disk is full.
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call continues.
    """
    workers = _workers(config)
    archive = archives.open_archive(config.archive, config.s1)
    faults = Faults(config.on_error == "skip")
    planned = make_plan(config, archive, faults)
    output = Output(config.out)
    if not output.open(planned.fingerprint, config.force):
        return Outcome(archive, manifest.read(config.out), already=True)
    with _stopping_on_sigterm():
        try:
            results = _convert_shards(planned, output, workers)
        finally:
            output.sweep()
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
    return Outcome(archive, written, already=False)


def make_plan(config: ConvertConfig, archive: Archive, faults: Faults) -> Plan:
    """Decides on everything: patches, splits, order, shards."""
    nomenclature = _nomenclature(config, archive)
    if config.reference_maps and not Path(archive.root, archives.MAP_FOLDER).is_dir():
        why = "version 1 has none" if archive.layout == "v1" else f"there is no {archives.MAP_FOLDER} in it"
        raise UsageError(f"--reference-maps, but {why}", path=config.archive)
    selection = select(config, archive, faults)
    splits = {split: plan.order(names, config.seed) for split, names in selection.splits.items()}
    features = bands.features(s1=config.s1 is not None, reference_map=config.reference_maps)
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


def _partner_files(archive: Archive, name: Optional[str]) -> Optional[PatchFiles]:
    """Returns where a Sentinel-1 patch lies in a .tar; one that is not there has no files."""
    if name is None or archive.s1_tar is None:
        return None
    return archive.s1_tar.get(name) or PatchFiles(str(archive.s1), name)


def _nomenclature(config: ConvertConfig, archive: Archive) -> str:
    if archive.layout == "v2" and config.nomenclature == "clc43":
        remedy = "version 2 has the 19 classes only: --nomenclature ben19, its default"
        problem = "--nomenclature clc43, but version 2 has no labels of 43 classes"
        raise UsageError(problem, path=config.archive, remedy=remedy)
    if config.nomenclature == "auto":
        return "clc43" if archive.layout == "v1" else "ben19"
    return config.nomenclature


def _workers(config: ConvertConfig) -> int:
    if config.workers is not None and config.workers < 1:
        raise UsageError(f"--workers {config.workers}: at least one is needed")
    return config.workers or cores()


def _convert_shards(planned: Plan, output: Output, workers: int) -> list[ShardResult]:
    """Converts what is missing; returns the results of all shards in order."""
    results = {shard.file: _finished(output, shard.file, planned.setup.skip) for shard in planned.shards}
    missing = [shard for shard in planned.shards if results[shard.file] is None]
    sizes = {shard.file: shard.stop - shard.start for shard in planned.shards}
    done = sum(sizes.values()) - sum(sizes[shard.file] for shard in missing)
    jobs = (planned.job(shard) for shard in missing)
    record_bytes = plan.record_bytes(planned.setup.features)
    progress = Progress(output.directory, sum(sizes.values()), done, record_bytes)
    with progress, closing(engine.run(convert_shard, jobs, max(1, min(workers, len(missing))))) as finished:
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
        "archive": Path(archive.root).absolute().name,
        "layout": archive.layout,
        "splits": planned.selection.source,
        "labels": "labels_metadata.json" if archive.layout == "v1" else archives.TABLE,
        "s1": Path(archive.s1).absolute().name if archive.s1 else None,
        "excluded_by": [path.name for path in config.exclude],
        "fingerprint": planned.fingerprint,
    }


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
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
