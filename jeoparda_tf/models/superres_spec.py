"""What defines a super-resolution network, without TensorFlow, so that it can be read and compared at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfrecords_tools.manifest import Feature

# What each network looks at, by the ground sampling distance in metres of the bands that it sharpens: the guides
# first, its own bands last.
GUIDES: dict[int, tuple[int, ...]] = {20: (10, 20), 60: (10, 20, 60)}
FINEST = 10
# With which the names of their layers begin.
PREFIX = "superres"


@dataclass(frozen=True)
class SuperRes:
    """Two networks, of 20 m bands and of 60 m bands, each with the finer bands as guides.

    Attributes:
        features: the Sentinel-2 arrays that they were trained on, the finest first.
        statistics: (mean, standard deviation) by band, in digital numbers, by which they normalise.
        filters: of each convolution but the last.
        blocks: residual blocks, of two convolutions each.
        sha256: of the file of their weights.
        origin: what they were trained on.
        trainable: whether a classifier trains them with the rest.
    """

    features: tuple[Feature, ...]
    statistics: Mapping[str, tuple[float, float]]
    filters: int = 32
    blocks: int = 3
    sha256: str = ""
    origin: str = "BigEarthNet"
    trainable: bool = False

    def bands(self, gsd: int) -> tuple[str, ...]:
        """Returns the names of the bands of a resolution."""
        return next(feature.band_names for feature in self.features if feature.gsd == gsd)

    def wanted(self, bands: Sequence[str]) -> tuple[int, ...]:
        """Returns which of the networks these bands need, by ground sampling distance."""
        return tuple(gsd for gsd in GUIDES if set(self.bands(gsd)) & set(bands))

    def inputs(self, bands: Sequence[str]) -> tuple[Feature, ...]:
        """Returns the arrays that the networks for these bands look at."""
        seen = {gsd for wanted in self.wanted(bands) for gsd in GUIDES[wanted]}
        return tuple(feature for feature in self.features if feature.gsd in seen)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> SuperRes:
        """Reads what `dataclasses.asdict` gave, after JSON; ValueError, KeyError or TypeError where it is none."""
        features = tuple(Feature.from_dict(feature) for feature in values["features"])
        bands = {feature.gsd: feature.band_names for feature in features}
        pairs = {band: values["statistics"][band] for gsd in (FINEST, *GUIDES) for band in bands[gsd]}
        statistics = {band: (float(mean), float(std)) for band, (mean, std) in pairs.items()}
        return SuperRes(**{**values, "features": features, "statistics": statistics})
