"""Scores the networks of super-resolution beside bicubic interpolation, where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from tfrecords_tools.errors import DataError
from tfrecords_tools.manifest import Manifest

from ..input import pipeline
from ..models import superres
from ..models.superres_spec import GUIDES, SuperRes
from ..scoring.reconstruction import Quality, Reconstruction
from ..stack import tf
from . import wald
from .superres_config import SuperResConfig

# Patches scored at once.
_BATCH = 16
# Scores by ground sampling distance, then "bicubic" or "superres".
Scores = dict[int, dict[str, Quality]]


def score(
    spec: SuperRes,
    networks: Mapping[int, superres.Network],
    config: SuperResConfig,
    manifest: Manifest,
    split: str,
    windows: bool = True,
) -> tuple[Scores, int]:
    """Scores networks and bicubic interpolation on the patches of a split, one scale down (`wald`), in digital numbers.

    Args:
        spec: of the networks.
        networks: by ground sampling distance.
        config: where the data is and how many patches are scored.
        manifest: of the data.
        split: its name.
        windows: whether UIQ is wanted.

    Returns:
        the scores, bands in the order of their feature, and the number of patches.

    Raises:
        DataError: the data is not as the networks take it, or damaged.
    """
    for feature in spec.features:
        if feature not in manifest.features:
            raise DataError(f"the networks take {feature.name} of other bands or sizes", path=config.data)
    sums = {
        gsd: {way: Reconstruction(len(spec.bands(gsd)), windows) for way in ("bicubic", "superres")}
        for gsd in GUIDES
    }
    dataset = pipeline.for_evaluation(config.data, manifest, split, spec.features, batch=_BATCH)
    seen, many = 0, min(config.score_patches, manifest.splits[split].records)
    bar = tqdm(total=many, desc=f"scoring {split}", unit="patch", disable=None, leave=False)
    with reading(config):
        for arrays, _, valid in dataset:
            kept = min(int(valid.numpy().sum()), many - seen)
            for gsd, network in networks.items():
                truth, *images = (
                    part.numpy()[:kept] for part in at_known_scale(network, by_distance(spec, arrays))
                )
                for way, image in zip(("bicubic", "superres"), images):
                    sums[gsd][way].add(truth, image)
            seen += kept
            bar.update(kept)
            if seen == many:
                break
    bar.close()
    return {gsd: {way: both[way].result() for way in both} for gsd, both in sums.items()}, seen


def at_known_scale(network: superres.Network, arrays: dict[int, Any]) -> tuple[Any, Any, Any]:
    """Returns the truth, its bicubic and its sharpened reconstruction, float32 [batch, rows, columns, bands].

    Of a size that the factor does not divide, the middle is taken.
    """
    size = arrays[network.gsd].shape[1]
    begin = (size - wald.side(size, network.gsd)) // 2
    low, truth = wald.pair(arrays, network.gsd, (begin, begin))
    return (truth, *superres.sharpened(network, low))


def by_distance(spec: SuperRes, arrays: dict[str, Any]) -> dict[int, Any]:
    """Returns a record's Sentinel-2 arrays by their ground sampling distance in metres."""
    return {feature.gsd: arrays[feature.name] for feature in spec.features}


@contextmanager
def reading(config: SuperResConfig) -> Iterator[None]:
    """Raises a DataError where TensorFlow cannot read the shards in the block."""
    try:
        yield
    except tf.errors.OpError as error:
        remedy = f"`python -m tfrecords_tools.verify {config.data}` finds damaged shards; then run again"
        remedy += "" if config.evaluate else " with --resume"
        raise DataError(
            f"a record cannot be read: {error.message}", path=config.data, remedy=remedy
        ) from error
