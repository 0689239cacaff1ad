"""The input pipeline in patches per CPU second: against reading alone, and against the layout of published TFRecords.

Needs no data set: it writes random patches into a temporary folder, as records of ours and in the published layout.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from tfrecords_tools.cli import option
from tfrecords_tools.errors import UsageError

from .report import Findings, Row, show

OURS, NOT_MIXED, NOT_TURNED, LIMIT, PEER = (
    "full training pipeline",
    "the same without mixup",
    "the same without turning either",
    "raw records, batched, unparsed",
    "int64 lists, record by record",
)
_UNIT = "patches per CPU second"
_CLASSES = 19
# Patches that are written at most; a longer epoch reads them several times, as the files stay in the page cache anyway.
_WRITTEN = 1024


@dataclass(frozen=True)
class Config:
    """What to read, how often."""

    patches: int = option(f"of an epoch; {_WRITTEN:,} random ones are written, and come several times", 8192)
    batch: int = option("patches of one step", 32)
    repetitions: int = option("readings of each kind, in turn; the median counts", 5)
    mixup: float = option("alpha of mixup in the pipeline; 0 for none", 0.3)
    shuffle_buffer: int = option("records of the shuffle buffer", 512)
    epochs: int = option("epochs over which memory is watched", 6)
    json: Optional[Path] = option("file for the figures", None)


def run(config: Config) -> None:
    """Writes the data, measures, prints."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in ("mixup", "json") and value < 1:
            raise UsageError(f"--{field.name.replace('_', '-')} must be at least 1, not {value}")
    if config.patches < config.batch:
        raise UsageError(f"--patches {config.patches} is less than one --batch of {config.batch}")
    with tempfile.TemporaryDirectory(prefix="jeoparda-bench-") as folder:
        show(measure(config, Path(folder)), config.json)


def measure(config: Config, folder: Path) -> Findings:
    """Returns what was found; the shards are written into `folder`."""
    from ..input import pipeline

    written = min(config.patches, _WRITTEN)
    files, published = (names * (config.patches // written) for names in write(folder, written))
    steps = config.patches // written * written // config.batch
    kinds: dict[str, Callable[[int], Any]] = {
        OURS: lambda epoch: _ours(folder, config, epoch),
        NOT_MIXED: lambda epoch: _ours(folder, config, epoch, mixup=False),
        NOT_TURNED: lambda epoch: _ours(folder, config, epoch, mixup=False, flips=False),
        LIMIT: lambda epoch: pipeline.open_shard(files).batch(config.batch, True),
        PEER: lambda epoch: _peer(published, config),
    }
    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for epoch in range(config.repetitions + 1):
        for name, dataset in kinds.items():
            rate = steps * config.batch / cpu_seconds(dataset(epoch))
            if epoch:  # the first warms caches and allocator up
                seen[name].append(rate)
    memory = _memory(lambda epoch: _ours(folder, config, epoch), config.epochs)
    return findings({name: statistics.median(rates) for name, rates in seen.items()}, memory, config)


def findings(rates: Mapping[str, float], memory: Sequence[float], config: Config) -> Findings:
    """Returns the table.

    Args:
        rates: patches per CPU second by kind of reading.
        memory: resident MB after each epoch; the second is the reference, as buffers have their size by then.
        config: for the title.
    """
    ours, limit, peer = rates[OURS], rates[LIMIT], rates[PEER]
    settled = memory[min(1, len(memory) - 1)]
    rows = [
        Row(LIMIT, limit, _UNIT),
        Row(OURS, ours, _UNIT, ours / limit, "raw records", 0.5),
        Row(PEER, peer, _UNIT),
        Row(OURS, ours, _UNIT, ours / peer, "int64 lists", 4.0),
        Row(NOT_MIXED, rates[NOT_MIXED], _UNIT),
        Row(NOT_TURNED, rates[NOT_TURNED], _UNIT),
        Row(f"memory after epoch {len(memory)}", memory[-1], "MB", memory[-1] / settled, "epoch 2"),
    ]
    micros = [1e6 / rates[kind] for kind in (LIMIT, NOT_TURNED, NOT_MIXED, OURS)]
    parts = ("shuffling and parsing", "turning", "mixup")
    added = [f"{what} {end - begin:.0f}" for what, begin, end in zip(parts, micros, micros[1:])]
    spent = ", ".join([f"reading takes {micros[0]:.0f}", *added])
    grown = memory[-1] / settled - 1
    verdict = [
        f"One core feeds {ours:,.0f} patches/s: training that takes fewer a core is not input-bound.",
        f"Of a patch's {1e6 / ours:.0f} us of CPU, {spent}.",
        "Memory is flat." if grown < 0.05 else f"Memory has grown by {grown:.0%} since epoch 2.",
    ]
    title = f"input: {config.patches} patches of 12 bands, batch {config.batch}, mixup {config.mixup:g}"
    return Findings(title, rows, verdict)


def cpu_seconds(dataset: Any) -> float:
    """Returns the CPU time of all threads of this process for one pass over a dataset."""
    start = time.process_time()
    for _ in dataset:
        pass
    return time.process_time() - start


def _memory(dataset: Callable[[int], Any], epochs: int) -> list[float]:
    """Returns the resident memory in MB after each epoch."""
    found = []
    for epoch in range(epochs):
        cpu_seconds(dataset(epoch))
        found.append(_resident())
    return found


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the peak, which shows growth as well
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return pages * resource.getpagesize() / 1e6


def write(folder: Path, patches: int) -> tuple[list[str], list[str]]:
    """Writes random patches twice, in four shards each: as our records, and with a list of int64 a band.

    Returns:
        the files of our layout (manifest.json beside them), and those of the other.
    """
    from tfrecords_tools.manifest import Manifest, Split
    from tfrecords_tools.statistics import RecordSums
    from tfrecords_tools.tfrecord import encode_example
    from tfrecords_tools.writer import ShardWriter

    from .. import records
    from ..bigearthnet import bands
    from ..bigearthnet.nomenclature import BEN19

    random = np.random.default_rng(0)
    features, sums, shards, published = bands.S2_FEATURES, RecordSums(bands.S2_FEATURES), [], []
    counted = np.zeros(_CLASSES, np.int64)
    for number, part in enumerate(np.array_split(np.arange(patches), 4)):
        published.append(str(folder / f"published-{number}.tfrecord"))
        file = folder / f"train-{number:05d}-of-00004.tfrecord"
        with ShardWriter(file) as ours, ShardWriter(Path(published[-1])) as theirs:
            for index in part:
                arrays = {f.name: random.integers(100, 6000, f.shape).astype(f.dtype) for f in features}
                labels = (random.random(_CLASSES) < 0.15).astype(np.int64)
                counted += labels
                sums.add(arrays)
                ours.write(records.encode(records.Patch(f"patch_{index}", labels, arrays), features))
                values: dict[str, Any] = {
                    band: arrays[f.name][..., i].astype(np.int64).ravel()
                    for f in features
                    for i, band in enumerate(f.band_names)
                }
                values |= {"BigEarthNet-19_labels_multi_hot": labels, "patch_name": f"patch_{index}".encode()}
                theirs.write(encode_example(values))
        shards.append(ours.shard)
    splits = {"train": Split(tuple(shards), tuple(counted.tolist()))}
    Manifest(features, BEN19, splits, sums.result(), bands.DISPLAY, origin="random numbers").write(folder)
    return [str(folder / shard.file) for shard in shards], published


def read_several_times(folder: Path, copies: int) -> Any:
    """Returns the manifest of what `write` wrote, as if every shard were there so many times: a longer epoch."""
    from tfrecords_tools import manifest as manifests

    manifest = manifests.read(folder)
    train = manifest.splits["train"]
    counts = tuple(count * copies for count in train.label_counts)
    return dataclasses.replace(manifest, splits={"train": manifests.Split(train.shards * copies, counts)})


def _ours(folder: Path, config: Config, epoch: int, *, mixup: bool = True, flips: bool = True) -> Any:
    from ..input import pipeline

    manifest = read_several_times(folder, max(1, config.patches // _WRITTEN))
    return pipeline.for_training(
        folder, manifest, manifest.features, batch=config.batch, epoch=epoch, seed=0, flips=flips,
        mixup=config.mixup if mixup else 0.0, shuffle_buffer=config.shuffle_buffer,
    )  # fmt: skip


def _peer(files: Sequence[str], config: Config) -> Any:
    """Reads the published layout as TU Berlin's BigEarthNet.py and EfficientBigEarthNet's inputs.py do.

    There: shuffle, parse each record alone (all bands as lists of int64), batch, prefetch. A band becomes a float32
    image here too, which their normalisation makes of it; nothing is turned, mixed, normalised or upsampled.
    """
    from ..bigearthnet import bands
    from ..stack import tf

    sizes = {band: f.shape[0] for f in bands.S2_FEATURES for band in f.band_names}
    spec = {band: tf.io.FixedLenFeature([size * size], tf.int64) for band, size in sizes.items()}
    spec["BigEarthNet-19_labels_multi_hot"] = tf.io.FixedLenFeature([_CLASSES], tf.int64)
    spec["patch_name"] = tf.io.FixedLenFeature([], tf.string)

    def parse(record: Any) -> Any:
        parsed = tf.io.parse_single_example(record, spec)
        images = {
            band: tf.reshape(tf.cast(parsed[band], tf.float32), [size, size]) for band, size in sizes.items()
        }
        return images, parsed["BigEarthNet-19_labels_multi_hot"]

    dataset = tf.data.TFRecordDataset(list(files)).shuffle(config.shuffle_buffer, seed=0)
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(config.batch, drop_remainder=True).prefetch(2)
