"""Converts the patches of one shard: what a worker does, on whatever engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from jeoparda_tf import records
from jeoparda_tf.bigearthnet import raster, tuberlin
from jeoparda_tf.bigearthnet.archive import Archive, read_labels
from jeoparda_tf.bigearthnet.bands import MAP_FEATURE, S1_FEATURE, S2_FEATURES
from jeoparda_tf.bigearthnet.nomenclature import NOMENCLATURES, multi_hot
from jeoparda_tf.bigearthnet.packed import PatchFiles
from jeoparda_tf.records import Patch
from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Feature, Shard
from tfrecords_tools.statistics import RecordSums
from tfrecords_tools.writer import ShardWriter

from .faults import Fault, Faults


class Source(NamedTuple):
    """A patch to read.

    Attributes:
        name: of its Sentinel-2 files.
        s1: of its Sentinel-1 files, None if not wanted.
        labels: class names where a table has them, None where a JSON file does.
        s2_files: where its files lie in a .tar; None in folders.
        s1_files: the same of Sentinel-1.
        map_files: the same of its reference map.
        record: where it is in TFRecords of TU Berlin's scripts; None if it is in files of its own.
    """

    name: str
    s1: Optional[str] = None
    labels: Optional[list[str]] = None
    s2_files: Optional[PatchFiles] = None
    s1_files: Optional[PatchFiles] = None
    map_files: Optional[PatchFiles] = None
    record: Optional[tuberlin.Record] = None


@dataclass(frozen=True)
class Setup:
    """What all shards of a conversion share.

    Attributes:
        archive: where the files are.
        out: folder of the shards.
        features: what a record holds.
        nomenclature: name of the classes.
        reader: "gdal" or "rasterio".
        skip: leave faulty patches out instead of stopping.
    """

    archive: Archive
    out: str
    features: tuple[Feature, ...]
    nomenclature: str
    reader: str
    skip: bool


@dataclass(frozen=True)
class Job:
    """One shard to convert; `statistics` asks for sums of its bands (train split)."""

    setup: Setup
    file: str
    split: str
    statistics: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class ShardResult:
    """What is known of a finished shard.

    Attributes:
        shard: entry for the manifest.
        split: which split it is part of.
        names: of its records, in order.
        labels: indices of their classes.
        unlabelled: number of patches left out since the nomenclature has none of their labels.
        faults: patches left out as faulty.
        sums: of the bands' pixels, as `RecordSums.to_json`; empty outside the train split.
    """

    shard: Shard
    split: str
    names: list[str] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    unlabelled: int = 0
    faults: list[Fault] = field(default_factory=list)
    sums: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON for `from_json` after a restart."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ShardResult:
        """Returns what `to_json` wrote; KeyError or TypeError if it is something else."""
        faults = [Fault(*fault) for fault in values["faults"]]
        return cls(**{**values, "shard": Shard(**values["shard"]), "faults": faults})


def convert_shard(job: Job) -> ShardResult:
    """Reads the patches of one shard, writes it, and tells what is in it.

    Raises:
        DataError: a patch is faulty and faults are not skipped, or the shard cannot be written.
    """
    features = job.setup.features
    faults, sums = Faults(job.setup.skip), RecordSums(features)
    names: list[str] = []
    labels: list[list[int]] = []
    unlabelled = 0
    with ShardWriter(Path(job.setup.out, job.file)) as writer:
        for source in job.sources:
            try:
                patch = read_patch(job.setup, source)
            except DataError as error:
                faults.add(source.name, error)
                continue
            if patch is None:
                unlabelled += 1
                continue
            writer.write(records.encode(patch, features))
            if job.statistics:
                sums.add(patch.arrays)
            names.append(patch.name)
            labels.append(np.flatnonzero(patch.labels).tolist())
    told = sums.to_json() if job.statistics else {}
    return ShardResult(writer.shard, job.split, names, labels, unlabelled, faults.found, told)


def read_patch(setup: Setup, source: Source) -> Optional[Patch]:
    """Reads and checks one patch; None if the nomenclature has none of its labels.

    Raises:
        DataError: a file is missing or faulty, or a label unknown.
    """
    if source.record is not None:
        labels, arrays = tuberlin.read(source.record, source.name, setup.features, setup.nomenclature)
        return Patch(source.name, labels, arrays) if labels.any() else None
    archive, read = setup.archive, _reader(setup.reader)
    if source.s2_files is not None and raster.takes_bytes(setup.reader):
        source = source._replace(s2_files=source.s2_files.loaded())  # labels and bands, read at one go
    labels = _labels(setup, source)
    if not labels.any():
        return None
    arrays = read(source.s2_files or archive.s2_folder(source.name), source.name, S2_FEATURES)
    if source.s1:
        arrays.update(read(source.s1_files or archive.s1_folder(source.s1), source.s1, (S1_FEATURE,)))
    if MAP_FEATURE in setup.features:
        arrays.update(read(source.map_files or archive.map_folder(source.name), source.name, (MAP_FEATURE,)))
    return Patch(source.name, labels, arrays)


def _labels(setup: Setup, source: Source) -> np.ndarray:
    path = None if source.labels is not None else setup.archive.labels_file(source.name)
    names = source.labels if path is None else read_labels(path, source.s2_files)
    try:
        if not names:
            raise DataError("has no labels")
        return multi_hot(names, NOMENCLATURES[setup.nomenclature])
    except DataError as error:
        raise DataError(error.problem, path=path or setup.archive.table_file()) from None


@lru_cache(maxsize=1)
def _reader(name: str) -> raster.ReadPatch:
    """One reader a process, kept from shard to shard."""
    return raster.reader(name)
