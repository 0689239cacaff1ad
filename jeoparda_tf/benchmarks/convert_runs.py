"""What the benchmark of the conversion measures: reading, converting, and the way of peers, once each."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import lru_cache
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from tfrecords_tools import manifest
from tfrecords_tools.tfrecord import encode_example, frame
from tfrecords_tools.verify import verify

from ..bigearthnet import archive as archives
from ..bigearthnet import bands, metadata, raster
from ..bigearthnet.archive import Archive
from ..bigearthnet.nomenclature import NOMENCLATURES, multi_hot

FILES, GDAL, RASTERIO = "plain open and read of the files", "gdal reading alone", "rasterio reading alone"
WHOLE, WORKERS, TAR = "conversion, gdal", "conversion, gdal, all workers", "conversion, gdal, from a .tar"
WHOLE_RASTERIO, PEERS, VERIFY = "conversion, rasterio", "peers' way", "verify, one worker"
# Verify reads what the conversion before it has written.
KINDS = (FILES, GDAL, RASTERIO, WHOLE, WORKERS, VERIFY, TAR, WHOLE_RASTERIO, PEERS)
_SLOW = (RASTERIO, WHOLE_RASTERIO, PEERS)
_SHARDS = 8  # a split: enough to keep workers busy until the end; each waits for the disk once
_NOMENCLATURES = {"v1": "clc43", "v2": "ben19"}


class Work(NamedTuple):
    """What the kinds of conversion are given.

    Attributes:
        folder: an archive of the patches alone.
        tar: the same, packed.
        lists: folder of the split lists that name them.
        few_lists: the same of a few of them, for the slow kinds.
        out: folder to write into.
        names: of the patches; the few are the first of them.
        few: how many those are.
        workers: of the kind that takes more than one.
    """

    folder: Path
    tar: Path
    lists: Path
    few_lists: Path
    out: Path
    names: tuple[str, ...]
    few: int
    workers: int

    def names_of(self, kind: str) -> tuple[str, ...]:
        """Returns the patches that a kind takes: rasterio would need minutes for all of them."""
        return self.names[: self.few] if kind in _SLOW else self.names


class Sample(NamedTuple):
    """One run: seconds by the clock, seconds of CPU, and the process's peak memory in MB until now."""

    seconds: float
    cpu: float
    memory: float


def quiet() -> None:
    """Starts a process: no progress bars below the benchmark's own."""
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process


def alone(kind: str, work: Work) -> Sample:
    """Runs one kind of KINDS but WORKERS in this process."""
    _opened(work.folder)  # listing the folders is no part of reading
    if kind != VERIFY:
        shutil.rmtree(work.out, ignore_errors=True)
    return _timed(lambda: _RUNS[kind](work))


def in_parallel(work: Work, executor: Executor) -> Sample:
    """Runs WORKERS on worker processes that are there already."""
    from ..conversion.engine import Pool

    shutil.rmtree(work.out, ignore_errors=True)
    return _timed(lambda: _convert(work, WORKERS, "gdal", nullcontext(Pool(executor, 2 * work.workers))))


def _timed(go: Callable[[], Any]) -> Sample:
    before, start = _cpu(), time.perf_counter()
    go()
    return Sample(time.perf_counter() - start, _cpu() - before, _peak())


def _cpu() -> float:
    """Returns the CPU seconds of this process, of its children that ended and, on Linux, of those that run."""
    total = time.process_time() + sum(os.times()[2:4])
    for child in active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def _peak() -> float:
    try:  # not ru_maxrss: that goes on from the process which started this one
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@lru_cache(maxsize=1)
def _opened(folder: Path) -> Archive:
    return archives.open_archive(folder)


@lru_cache(maxsize=1)
def _reader(name: str) -> raster.ReadPatch:
    return raster.reader(name)


def _read_files(work: Work) -> None:
    """Reads the files of the bands and, in version 1, of the labels."""
    archive = _opened(work.folder)
    for name in work.names:
        folder = archive.s2_folder(name)
        for feature in bands.S2_FEATURES:
            for band in feature.band_names:
                with open(raster.file_of(folder, name, band), "rb") as file:  # noqa: PTH123 - the limit: no more
                    file.read()
        if archive.layout == "v1":
            with open(archive.labels_file(name), "rb") as file:  # noqa: PTH123
                file.read()


def _read_bands(work: Work, reader: str) -> None:
    archive, read = _opened(work.folder), _reader(reader)
    for name in work.names_of(GDAL if reader == "gdal" else RASTERIO):
        read(archive.s2_folder(name), name, bands.S2_FEATURES)


def _convert(work: Work, kind: str, reader: Any, pool: Any = None) -> None:
    from ..conversion.config import ConvertConfig
    from ..conversion.run import convert

    source = work.tar if kind == TAR else work.folder
    lists = work.few_lists if kind in _SLOW else work.lists
    convert(ConvertConfig(source, work.out, lists, shards=_SHARDS, reader=reader, workers=1), pool)


def written(work: Work) -> int:
    """Returns the bytes of the shards that lie in the folder to write into."""
    return sum(path.stat().st_size for path in work.out.glob("*.tfrecord"))


def _verify(work: Work) -> None:
    faults = verify(work.out, manifest.read(work.out))
    assert not faults, faults[0]


def _convert_as_peers(work: Work) -> None:
    """Writes the layout of the published TFRecords as their scripts do: each band opened by rasterio, as int64."""
    import rasterio

    archive = _opened(work.folder)
    table = metadata.read(archive) if archive.layout == "v2" else None
    classes = NOMENCLATURES[_NOMENCLATURES[archive.layout]]
    with work.out.with_name("peers.tfrecord").open("wb") as file:
        for name in work.names_of(PEERS):
            values: dict[str, Any] = {"patch_name": name.encode()}
            for feature in bands.S2_FEATURES:
                for band in feature.band_names:
                    with rasterio.open(raster.file_of(archive.s2_folder(name), name, band)) as dataset:
                        values[band] = dataset.read(1).astype(np.int64).ravel()
            if table is None:
                labels = json.loads(Path(archive.labels_file(name)).read_text())["labels"]
            else:
                (labels,) = table.labels([name])
            values["original_labels_multi_hot"] = multi_hot(labels, classes)
            file.write(frame(encode_example(values)))


_RUNS: dict[str, Callable[[Work], None]] = {
    FILES: _read_files,
    GDAL: lambda work: _read_bands(work, "gdal"),
    RASTERIO: lambda work: _read_bands(work, "rasterio"),
    WHOLE: lambda work: _convert(work, WHOLE, "gdal"),
    VERIFY: _verify,
    TAR: lambda work: _convert(work, TAR, "gdal"),
    WHOLE_RASTERIO: lambda work: _convert(work, WHOLE_RASTERIO, "rasterio"),
    PEERS: _convert_as_peers,
}
