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
from tfrecords_tools.errors import UsageError
from tfrecords_tools.manifest import Feature, Nomenclature
from tfrecords_tools.tfrecord import OVERHEAD

from .config import ConvertConfig, worker_count
from .faults import Fault, Faults
from .gather import maps_of, streams
from .plan import Range
from .run import Plan, make_plan
from .shard import Job, convert_shard

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
    workers: int
    faults: Sequence[Fault]


def preview(config: ConvertConfig) -> Preview:
    """Plans a conversion, and converts a few dozen patches of it into a temporary folder to measure the time.

    Raises:
        UsageError, DataError: as `convert` does before it begins.
    """
    workers = worker_count(config)
    if packed := streams(config):
        remedy = "leave --dry-run out, or unpack it to a plain .tar"
        raise UsageError(
            "cannot look ahead in what is compressed", path=next(iter(packed.values())), remedy=remedy
        )
    archive = archives.open_archive(config.archive, config.s1, maps=maps_of(config), table=config.metadata)
    faults = Faults(config.on_error == "skip")
    planned = make_plan(config, archive, faults)
    nomenclature = NOMENCLATURES[planned.setup.nomenclature]
    splits = {name: _split(planned, name, nomenclature) for name, own in planned.splits.items() if own}
    excluded = dict(planned.selection.excluded)
    if faults.found:
        excluded["faulty"] = len(faults.found)
    beside = (manifest.FILE_NAME, manifest.TABLE_NAME, *tfds.FILE_NAMES)
    files = len(planned.shards) + len(beside) + bool(faults.found)
    longest = max(planned.splits, key=lambda split: len(planned.splits[split]))
    count = min(_SAMPLE, len(planned.splits[longest]))
    seconds, wrong = _measure(planned, longest, count)
    patches = sum(split.patches for split in splits.values())
    return Preview(
        archive,
        nomenclature,
        splits,
        files,
        excluded,
        count,
        None if seconds is None else seconds * patches,
        max(1, min(workers, len(planned.shards))),
        wrong,
    )


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


def _measure(planned: Plan, split: str, count: int) -> tuple[Optional[float], list[Fault]]:
    """Returns the seconds of a patch, None if none could be read, and what was wrong with the others.

    The order of the names is shuffled, so the first ones are a fair sample.
    """
    with tempfile.TemporaryDirectory(prefix="jeoparda-dry-run-") as folder:

        def job(stop: int) -> Job:
            made = planned.job(Range(split, "sample.tfrecord", 0, stop))
            return replace(made, setup=replace(made.setup, out=folder, skip=True))

        convert_shard(job(1))  # imports, and libgdal's start
        start = time.perf_counter()
        result = convert_shard(job(count))
        seconds = time.perf_counter() - start
    read = result.shard.records + result.unlabelled
    return (seconds / read if read else None), result.faults
