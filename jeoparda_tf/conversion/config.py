"""The flags of a conversion."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

_PATCHES, _RECORDS, _WORK = "which patches", "what a record holds", "how it is done"


def cores() -> int:
    """Returns how many cores this process may use: a batch system may give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ConvertConfig:
    """What `python -m jeoparda_tf.convert` is told."""

    archive: Path = option(
        "folder of the extracted archive, version 1 or 2, or its Sentinel-2 part as .tar, .tar.gz or .tar.zst; - reads "
        "a tar from standard input; or folder of the TFRecords that TU Berlin's scripts wrote",
        positional=True,
    )
    out: Path = option(
        "folder for the shards: new or empty, or of an interrupted conversion", positional=True
    )
    splits: Optional[Path] = option(
        "folder with train.csv, val.csv and test.csv (or .csv.bz2), as published for version 1",
        None,
        group=_PATCHES,
        metavar="DIR",
    )
    split_fractions: tuple[float, ...] = option(
        "instead: shares of train, val and test, drawn by a hash of the patches' names",
        (),
        group=_PATCHES,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
    )
    split_by: Literal["block", "patch"] = option(
        "draw blocks of 8 x 8 neighbouring patches, or single patches, whose neighbours then leak into other splits",
        "block",
        group=_PATCHES,
    )
    exclude: tuple[Path, ...] = option(
        "lists of patches to leave out, such as those under snow or cloud (.csv or .csv.bz2)",
        (),
        group=_PATCHES,
        nargs="+",
        metavar="FILE",
    )
    include_snow_and_cloud: bool = option(
        "take version 2's patches under seasonal snow, cloud or shadow too", False, group=_PATCHES
    )
    nomenclature: Literal["auto", "clc43", "ben19"] = option(
        "43 or 19 classes; auto: clc43 for version 1, ben19 for version 2, which has no other",
        "auto",
        group=_RECORDS,
    )
    s1: Optional[Path] = option(
        "Sentinel-1 archive, folder or tar as above, to store each patch's partner too",
        None,
        group=_RECORDS,
        metavar="PATH",
    )
    reference_maps: bool = option(
        "store version 2's reference maps too: Reference_Maps, a folder or tar in or beside the archive",
        False,
        group=_RECORDS,
    )
    maps: Optional[Path] = option(
        "the same, with the maps from this folder or tar", None, group=_RECORDS, metavar="PATH"
    )
    metadata: Optional[Path] = option(
        "version 2's metadata.parquet; default: that in the archive's folder, or beside a tar",
        None,
        group=_PATCHES,
        metavar="FILE",
    )
    seed: int = option("of the order of the records and of --split-fractions", 0, group=_RECORDS)
    shard_size: float = option("size of a shard in MB, about", 128.0, group=_RECORDS, metavar="MB")
    shards: Optional[int] = option("instead: number of shards a split", None, group=_RECORDS, metavar="N")
    reader: Literal["auto", "gdal", "rasterio"] = option(
        "library that reads the GeoTIFFs; auto: gdal where it is installed", "auto", group=_WORK
    )
    workers: Optional[int] = option("worker processes; default: one a core", None, group=_WORK, metavar="N")
    memory: str = option(
        "for a compressed archive: memory that the program may take while it reads it (GB or MB): 0.1 GB for itself, "
        "0.6 for where all of BigEarthNet's files are, the rest for files that wait to be written",
        "2GB",
        group=_WORK,
        metavar="SIZE",
    )
    on_error: Literal["stop", "skip"] = option(
        "at a faulty patch: stop, or leave it out and list it in quarantine.json", "stop", group=_WORK
    )
    force: bool = option("start over: remove what an earlier conversion left in OUT", False, group=_WORK)
    dry_run: bool = option(
        "write nothing: print what would be done, and how long it would take", False, group=_WORK
    )
    executor: Literal["processes", "mpi"] = option(
        "worker processes of this machine, or the ranks of mpirun -n N python -m mpi4py.futures -m jeoparda_tf.convert",
        "processes",
        group=_WORK,
    )
    task: Optional[str] = option(
        "convert one share of the shards, counted from 0, as in 3/16; auto: that of a Slurm array",
        None,
        group=_WORK,
        metavar="I/N",
    )
    finish: bool = option(
        "convert nothing: check that all tasks are done and write the manifest", False, group=_WORK
    )


def worker_count(config: ConvertConfig) -> int:
    """Returns how many worker processes are asked for.

    Raises:
        UsageError: fewer than one.
    """
    if config.workers is not None and config.workers < 1:
        raise UsageError(f"--workers {config.workers}: at least one is needed")
    return config.workers or cores()
