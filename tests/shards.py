"""Small directories of shards for tests: random pixels, manifest and table as a conversion writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jeoparda_tf import records
from jeoparda_tf.bigearthnet import bands
from jeoparda_tf.bigearthnet.nomenclature import BEN19
from jeoparda_tf.records import Patch
from tfrecords_tools import table, tfds
from tfrecords_tools.manifest import Band, Feature, Manifest, Nomenclature, Split
from tfrecords_tools.statistics import RecordSums
from tfrecords_tools.writer import ShardWriter

ORIGIN = "random numbers"


def patches(count: int, features: Sequence[Feature], classes: int, seed: int = 0) -> list[Patch]:
    """Returns patches of random pixels and labels; the first has at least class 0, the next 1, and so on."""
    generator = np.random.default_rng(seed)
    return [_patch(index, features, classes, seed, generator) for index in range(count)]


def _patch(
    index: int, features: Sequence[Feature], classes: int, seed: int, generator: np.random.Generator
) -> Patch:
    labels = (generator.random(classes) < 0.1).astype(np.int64)
    labels[index % classes] = 1
    arrays = {f.name: generator.integers(0, 10_000, f.shape).astype(f.dtype) for f in features}
    arrays = {name: a / 1000 - 15 if a.dtype == np.float32 else a for name, a in arrays.items()}
    return Patch(f"S2A_MSIL2A_20170613T101031_{seed}_{index}", labels, arrays)


def write(
    directory: Path,
    counts: Mapping[str, int] | None = None,
    *,
    shards: int = 2,
    features: Sequence[Feature] = bands.S2_FEATURES,
    nomenclature: Nomenclature = BEN19,
    display: Mapping[str, tuple[str, ...]] = bands.DISPLAY,
    seed: int = 0,
    origin: str = ORIGIN,
) -> Manifest:
    """Writes random records, `counts` a split (default 12 train, 4 val, 4 test), and returns the manifest."""
    counts = counts or {"train": 12, "val": 4, "test": 4}
    classes = len(nomenclature.classes)
    splits = {
        split: patches(count, features, classes, seed=10 * seed + number)
        for number, (split, count) in enumerate(counts.items())
    }
    return write_patches(
        directory,
        splits,
        shards=shards,
        features=features,
        nomenclature=nomenclature,
        display=display,
        origin=origin,
    )


def write_patches(
    directory: Path,
    splits: Mapping[str, Sequence[Patch]],
    *,
    shards: int = 2,
    features: Sequence[Feature] = bands.S2_FEATURES,
    nomenclature: Nomenclature = BEN19,
    display: Mapping[str, tuple[str, ...]] = bands.DISPLAY,
    origin: str = ORIGIN,
) -> Manifest:
    """Writes the given patches in their order, each split in so many shards, and returns the manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    sums, rows, entries = RecordSums(features), [], {}
    for split, members in splits.items():
        written = []
        for number, part in enumerate(np.array_split(np.arange(len(members)), shards)):
            file = f"{split}-{number:05d}-of-{shards:05d}.tfrecord"
            with ShardWriter(directory / file) as writer:
                for patch in (members[index] for index in part):
                    position = writer.write(records.encode(patch, features))
                    labels = [nomenclature.classes[index] for index in np.flatnonzero(patch.labels)]
                    rows.append(table.Row(split, file, position, patch.name, labels))
            written.append(writer.shard)
        counted = sum((patch.labels for patch in members), np.zeros(len(nomenclature.classes), np.int64))
        entries[split] = Split(tuple(written), tuple(counted.tolist()))
    for patch in splits.get("train", ()):
        sums.add(patch.arrays)
    table.write(directory, rows)
    manifest = Manifest(tuple(features), nomenclature, entries, sums.result(), display, origin=origin)
    tfds.write(directory, manifest)
    manifest.write(directory)
    return manifest


SMALL_CLASSES = Nomenclature("abc", ("rare", "often", "[bold]never"))


def write_small(directory: Path) -> Manifest:
    """Writes four records of 4 x 4 pixels in two bands and a map: three of them train, the last val."""
    grid = Feature("grid", "uint16", (4, 4, 2), 30, (Band("near", 850.0), Band("far")))
    features = (grid, Feature("map", "uint16", (4, 4), 30))
    labels = ([0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0])
    made = [
        Patch(
            f"p{index}",
            np.array(row, np.int64),
            {
                "grid": np.arange(32, dtype=np.uint16).reshape(4, 4, 2) + 1000 * index,
                "map": np.full((4, 4), 7, np.uint16),
            },
        )
        for index, row in enumerate(labels)
    ]
    display = {"heat": ("near", "near", "far"), "one": ("far",)}
    splits = {"train": made[:3], "val": made[3:]}
    return write_patches(directory, splits, features=features, nomenclature=SMALL_CLASSES, display=display)
