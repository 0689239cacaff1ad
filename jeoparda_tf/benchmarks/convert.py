"""The conversion in patches per second and per CPU second: against reading alone, and against what peers do.

Needs no archive: without one it writes a synthetic one into a temporary folder. All figures are of a warm cache and
without start-up: every kind of conversion has a process of its own, whose first run is not counted.
"""

from __future__ import annotations

import statistics
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Optional

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

from ..bigearthnet import archive as archives
from ..bigearthnet import metadata
from ..bigearthnet.archive import S2_FOLDER, TABLE, Archive
from . import convert_runs as runs
from .convert_runs import (
    FILES,
    GDAL,
    KINDS,
    PEERS,
    RASTERIO,
    TAR,
    VERIFY,
    WHOLE,
    WHOLE_RASTERIO,
    WORKERS,
    Sample,
    Work,
)
from .report import Findings, Row, show

_CPU, _WALL = "patches per CPU second", "patches per second"
_MEMORY = 700  # MB of a worker that are aimed at
_VERIFY = 300  # MB/s of a core
_FEW = 6  # of so many patches one goes through the slow kinds too


@dataclass(frozen=True)
class Config:
    """What to convert, how often."""

    archive: Optional[Path] = option(
        "folder of an extracted archive; without it a synthetic one of version 1",
        None,
        positional=True,
        nargs="?",
        metavar="ARCHIVE",
    )
    patches: int = option("how many patches of it to convert; what takes rasterio, a sixth of them", 3000)
    repetitions: int = option("runs of each kind, in turn; the median counts", 5)
    workers: Optional[int] = option("worker processes of the row with all; default: one a core", None)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Prepares the archive, measures, prints."""
    for name in ("patches", "repetitions", "workers"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}")
    if config.archive and not config.archive.is_dir():
        raise UsageError("not a folder of an extracted archive", path=config.archive)
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        work = prepare(config, Path(folder))
        show(findings(*measure(work, config.repetitions), work), config.json)


def prepare(config: Config, folder: Path) -> Work:
    """Makes an archive of the patches to convert, and packs it: both hold the same bytes."""
    from ..conversion.config import cores

    source = config.archive
    if source is None:
        from ..synthetic import archive as synthetic
        from ..synthetic import places, scene

        plan = places.plan(config.patches, "v1", 0, veils=False)
        drawn = scene.Scene(0, False)
        synthetic.write(folder / "sample", "v1", plan, drawn, "synthetic sample", cores())
        source = folder / "sample" / "BigEarthNet-v1.0"
    archive = archives.open_archive(source)
    found = set(archives.find_patches(archive).names)
    if archive.layout == "v2":
        found &= set(metadata.read(archive).names)
    names = sorted(found)[: config.patches]
    subset, packed = _link(archive, names, folder / "subset"), folder / "packed" / "patches.tar"
    packed.parent.mkdir()
    if archive.layout == "v2":
        (packed.parent / TABLE).symlink_to(Path(archive.root, TABLE).absolute())
    with tarfile.open(packed, "w", format=tarfile.GNU_FORMAT, dereference=True) as tar:  # as tar packs
        tar.add(subset / S2_FOLDER if archive.layout == "v2" else subset, arcname=S2_FOLDER)
    few = -(-len(names) // _FEW)
    lists, few_lists = _lists(folder / "lists", names), _lists(folder / "few", names[:few])
    return Work(
        subset, packed, lists, few_lists, folder / "out", tuple(names), few, config.workers or cores()
    )


def _lists(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir()
    for start, split in enumerate(("train", "train", "val", "test")):
        with (folder / f"{split}.csv").open("a") as file:
            file.writelines(f"{name}\n" for name in names[start::4])
    return folder


def _link(archive: Archive, names: Sequence[str], root: Path) -> Path:
    """Makes an archive of some patches by links to their folders: listing the others would be measured too."""
    root.mkdir()
    linked = Archive(archive.layout, str(root))
    for name in names:
        link = Path(linked.s2_folder(name))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(archive.s2_folder(name)).absolute())
    if archive.layout == "v2":
        (root / TABLE).symlink_to(Path(archive.root, TABLE).absolute())
    return root


def measure(work: Work, repetitions: int) -> tuple[dict[str, list[Sample]], int]:
    """Runs all kinds in turn; each in a process of its own, since gdal and rasterio must not meet in one.

    Returns:
        the runs by kind, and the bytes of the shards that hold all patches.
    """
    from tqdm import tqdm

    seen: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    size = 0
    turns = [(turn, kind) for turn in range(repetitions + 1) for kind in KINDS]
    with ExitStack() as stack:

        def processes(count: int) -> ProcessPoolExecutor:
            return stack.enter_context(ProcessPoolExecutor(count, get_context("spawn"), runs.quiet))

        own = {kind: processes(1) for kind in KINDS if kind != WORKERS}
        workers = processes(work.workers)
        for turn, kind in tqdm(turns, "measuring", disable=None):
            if kind == WORKERS:
                sample = runs.in_parallel(work, workers)
                size = runs.written(work)
            else:
                sample = own[kind].submit(runs.alone, kind, work).result()
            if turn:  # the first warms caches, imports and workers up
                seen[kind].append(sample)
    return seen, size


def findings(seen: Mapping[str, Sequence[Sample]], size: int, work: Work) -> Findings:
    """Returns the table.

    Args:
        seen: runs by kind.
        size: bytes of the shards that hold all patches.
        work: what was converted, for the number of patches and the title.
    """
    count = {kind: len(work.names_of(kind)) for kind in seen}
    cpu = {kind: count[kind] / statistics.median(run.cpu for run in runs) for kind, runs in seen.items()}
    wall = {kind: count[kind] / statistics.median(run.seconds for run in runs) for kind, runs in seen.items()}

    def row(kind: str, rates: Mapping[str, float], of: str = "", target: Optional[float] = None) -> Row:
        ratio = rates[kind] / rates[of] if of else None
        return Row(kind, rates[kind], _CPU if rates is cpu else _WALL, ratio, of, target)

    rows = [
        row(FILES, cpu),
        row(GDAL, cpu, FILES),
        row(RASTERIO, cpu, FILES),
        row(WHOLE, cpu, GDAL, 0.5),
        row(WHOLE, cpu, PEERS, 8.0),
        row(TAR, cpu, WHOLE, 1.0),
        row(WHOLE_RASTERIO, cpu, PEERS, 2.0),
        row(WORKERS, cpu, WHOLE),
        row(PEERS, cpu),
        *(row(kind, wall) for kind in (FILES, GDAL, RASTERIO, WHOLE)),
        row(WORKERS, wall, WHOLE, 1.7),
        row(TAR, wall, WHOLE),
        *(row(kind, wall) for kind in (WHOLE_RASTERIO, PEERS)),
    ]
    peak = max(run.memory for kind in (WHOLE, TAR, WHOLE_RASTERIO) for run in seen[kind])
    verified = size / 1e6 / statistics.median(run.cpu for run in seen[VERIFY])
    rows.append(Row(VERIFY, verified, "MB per CPU second", verified / _VERIFY, f"{_VERIFY} MB/s", 1.0))
    rows.append(Row("peak memory of one worker, planning included", peak, "MB"))
    one = cpu[WHOLE]
    verdict = [
        f"Memory of a worker stays {'under' if peak < _MEMORY else 'NOT under'} the {_MEMORY} MB aimed at.",
        f"Of a patch's {1e6 / one:.0f} us of CPU, gdal takes {1e6 / cpu[GDAL]:.0f} us.",
        f"At {wall[WORKERS]:,.0f} patches/s, 590,326 patches take {590_326 / wall[WORKERS] / 60:.1f} min once cached.",
    ]
    title = (
        f"convert: {len(work.names):,} patches ({work.few:,} with rasterio), {work.workers} workers at most"
    )
    return Findings(f"{title}, warm cache", rows, verdict)
