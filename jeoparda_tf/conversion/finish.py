"""The end of a conversion: the table of records, the list of faults, and the manifest last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jeoparda_tf.bigearthnet.bands import DISPLAY
from jeoparda_tf.bigearthnet.nomenclature import NOMENCLATURES
from jeoparda_tf.bigearthnet.publications import publication
from tfrecords_tools import table, tfds
from tfrecords_tools.manifest import FILE_NAME, BandStatistics, Feature, Manifest, Split
from tfrecords_tools.statistics import RecordSums

from .faults import Fault
from .output import QUARANTINE, cannot_write, write_json
from .shard import Setup, ShardResult


def finish(
    setup: Setup,
    results: Sequence[ShardResult],
    *,
    seed: int,
    origin: str,
    sources: Mapping[str, Any],
    excluded: Mapping[str, int],
    faults: Sequence[Fault],
) -> Manifest:
    """Writes what belongs beside the shards.

    Args:
        setup: of the conversion.
        results: of all shards, in order.
        seed: of the order.
        origin: what the pixels are.
        sources: where everything comes from.
        excluded: number of patches left out while planning, by reason.
        faults: patches left out as faulty while planning.

    Raises:
        DataError: a file cannot be written.
    """
    directory = Path(setup.out)
    nomenclature = NOMENCLATURES[setup.nomenclature]
    table.write(directory, _rows(results, nomenclature.classes))
    faults = [*faults, *(fault for result in results for fault in result.faults)]
    if faults:
        write_json(directory / QUARANTINE, [fault._asdict() for fault in faults])
    else:  # left by a call that came to this point, but not to its end, when there were some
        (directory / QUARANTINE).unlink(missing_ok=True)
    counts = Counter(excluded)
    counts[f"without a label in {nomenclature.name}"] += sum(result.unlabelled for result in results)
    counts["faulty"] += len(faults)
    manifest = Manifest(
        features=setup.features,
        nomenclature=nomenclature,
        splits=_splits(results, len(nomenclature.classes)),
        statistics=_statistics(setup.features, results),
        display=DISPLAY,
        seed=seed,
        sources={**sources, **publication(sources["layout"], origin)},
        excluded={reason: count for reason, count in counts.items() if count},
        origin=origin,
    )
    tfds.write(directory, manifest)
    try:
        manifest.write(directory)
    except OSError as error:
        raise cannot_write(directory / FILE_NAME, error) from error
    return manifest


def _rows(results: Sequence[ShardResult], classes: Sequence[str]) -> Iterator[table.Row]:
    for result in results:
        for position, (name, labels) in enumerate(zip(result.names, result.labels)):
            row_labels = [classes[index] for index in labels]
            yield table.Row(result.split, result.shard.file, position, name, row_labels)


def _splits(results: Sequence[ShardResult], classes: int) -> dict[str, Split]:
    splits = {}
    for split in dict.fromkeys(result.split for result in results):
        own = [result for result in results if result.split == split]
        indices = [index for result in own for labels in result.labels for index in labels]
        counts = np.bincount(np.array(indices, np.int64), minlength=classes)
        splits[split] = Split(tuple(result.shard for result in own), tuple(counts.tolist()))
    return splits


def _statistics(features: Sequence[Feature], results: Sequence[ShardResult]) -> dict[str, BandStatistics]:
    """Sums up the train split; empty without one. All pixels count, those of nodata too, as in what is published."""
    sums = RecordSums(features)
    for result in results:
        if result.sums:
            sums.merge(RecordSums.from_json(features, result.sums))
    return sums.result()
