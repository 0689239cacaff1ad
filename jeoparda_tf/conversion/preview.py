"""What a conversion would do, and about how long it would take: OUT is neither read nor made."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

import numpy as np

from jeoparda_tf import records
from jeoparda_tf.bigearthnet import archive as archives
from jeoparda_tf.bigearthnet.archive import Archive
from jeoparda_tf.bigearthnet.nomenclature import NOMENCLATURES
from jeoparda_tf.records import Patch
from tfrecords_tools import manifest, tfds
from tfrecords_tools.manifest import Feature, Nomenclature
from tfrecords_tools.tfrecord import OVERHEAD

from .config import ConvertConfig, worker_count
from .faults import Fault, Faults
from .gather import maps_of
from .lookahead import Look, Reading, know_names, lend, looked
from .run import Plan, make_plan, stopping_on_sigterm
from .shard import Job, Source, convert_shard

_SAMPLE = 48  # patches that are converted to see how long it takes


class SplitPreview(NamedTuple):
    """What a split would hold: patches, shards, their bytes; patches of each class where a table tells, else None."""

    patches: int
    shards: int
    bytes: int
    label_counts: Optional[tuple[int, ...]]


@dataclass(frozen=True)
class Preview:
    """What a conversion would do.

    Attributes:
        archive: that was found.
        nomenclature: of the labels.
        splits: by name. Patches that turn out faulty or without a label are still among them.
        files: how many OUT would hold.
        excluded: number of patches left out, by reason.
        sampled: patches that were converted as a sample, into a temporary folder.
        seconds: of one worker for all patches, as for the sample; None if none of these could be read.
        readings: what reading each archive that streams by would take before that.
        workers: that would share them.
        faults: what is wrong in the sample.
    """

    archive: Archive
    nomenclature: Nomenclature
    splits: Mapping[str, SplitPreview]
    files: int
    excluded: Mapping[str, int]
    sampled: int
    seconds: Optional[float]
    readings: Sequence[Reading]
    workers: int
    faults: Sequence[Fault]


def preview(config: ConvertConfig) -> Preview:
    """Plans a conversion, and converts a few dozen patches of it into a temporary folder to measure the time.

    Raises:
        UsageError, DataError: as `convert` does before it begins.
    """
    workers = worker_count(config)
    faults = Faults(config.on_error == "skip")
    with stopping_on_sigterm(), looked(config) as looks:
        packed = {what: look.index() for what, look in looks.items()}
        archive = archives.open_archive(
            config.archive, config.s1, maps=maps_of(config), table=config.metadata, packed=packed
        )
        archive, listed = know_names(config, archive, looks)
        planned = make_plan(config, archive, faults)
        sample = _sample(planned, looks)
        seconds, wrong = _measure(planned, sample)
        readings = [look.reading(listed) for look in looks.values()]
    nomenclature = NOMENCLATURES[planned.setup.nomenclature]
    splits = {name: _split(planned, name, nomenclature) for name, own in planned.splits.items() if own}
    excluded = dict(planned.selection.excluded)
    if faults.found:
        excluded["faulty"] = len(faults.found)
    beside = (manifest.FILE_NAME, manifest.TABLE_NAME, *tfds.FILE_NAMES)
    patches = sum(split.patches for split in splits.values())
    return Preview(
        archive.without_index(),
        nomenclature,
        splits,
        len(planned.shards) + len(beside) + bool(faults.found),
        excluded,
        len(sample),
        None if seconds is None else seconds * patches,
        readings,
        max(1, min(workers, len(planned.shards))),
        wrong,
    )


def _sample(planned: Plan, looks: Mapping[str, Look]) -> tuple[Source, ...]:
    """Returns a few patches to convert: their order is shuffled, so the first ones are a fair sample.

    Of an archive that streams by they are those at its beginning.
    """
    names = max(planned.splits.values(), key=len)
    if "s2" in looks:
        wanted = {name for own in planned.splits.values() for name in own}
        seen = looks["s2"].complete("s2", labels=planned.archive.layout == "v1")
        names = [name for name in seen if name in wanted]
    return lend(planned.sources(names[:_SAMPLE]), planned.archive, looks)


def _split(planned: Plan, split: str, nomenclature: Nomenclature) -> SplitPreview:
    names, table = planned.splits[split], planned.selection.metadata
    shards = sum(shard.split == split for shard in planned.shards)
    size = sum(map(len, names)) + len(names) * _bytes_but_name(planned.setup.features, nomenclature)
    if table is None:
        return SplitPreview(len(names), shards, size, None)
    found = table.label_counts(names)
    return SplitPreview(len(names), shards, size, tuple(found.get(name, 0) for name in nomenclature.classes))


def _bytes_but_name(features: Sequence[Feature], nomenclature: Nomenclature) -> int:
    """Returns the bytes of a record in its shard less its name: the same for all, as labels are zeros and ones."""
    name = "S2A_MSIL2A_20170613T101031_87_48"
    arrays = {feature.name: np.zeros(feature.shape, feature.dtype) for feature in features}
    patch = Patch(name, np.zeros(len(nomenclature.classes), np.int64), arrays)
    return OVERHEAD + len(records.encode(patch, features)) - len(name)


def _measure(planned: Plan, sample: tuple[Source, ...]) -> tuple[Optional[float], list[Fault]]:
    """Returns the seconds of a patch, None if none could be read, and what was wrong with the others."""
    with tempfile.TemporaryDirectory(prefix="jeoparda-dry-run-") as folder:
        setup = replace(planned.setup, out=folder, skip=True)

        def job(sources: tuple[Source, ...]) -> Job:
            return Job(setup, "sample.tfrecord", "train", True, sources)

        convert_shard(job(sample[:1]))  # imports, and libgdal's start
        start = time.perf_counter()
        result = convert_shard(job(sample))
        seconds = time.perf_counter() - start
    read = result.shard.records + result.unlabelled
    return (seconds / read if read else None), result.faults
