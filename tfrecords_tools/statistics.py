"""Mean and standard deviation of bands, summed exactly: neither order nor division over workers matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Union

import numpy as np

from .manifest import BandStatistics, Feature

_EXACT_IN_FLOAT64 = 2.0**53
_MANY_SMALL = 2**21  # so many squares of 16-bit integers add up to 2**53 at most


@dataclass
class BandSums:
    """Running sums of one band.

    Sums over arrays are integers or fractions, which add exactly in any order. The sums within one array run in
    float64. They are exact for integers (squares included, up to 2**53: two million pixels of uint16).
    For floats they are rounded, but in the array's own order, so that an array gives the same sums on
    every machine. Pixels that are not finite are not counted.
    """

    count: int = 0
    total: Union[int, Fraction] = 0
    squares: Union[int, Fraction] = 0
    min: float = math.inf
    max: float = -math.inf

    def add(self, array: np.ndarray) -> None:
        """Adds the pixels of one array, of any shape and of an integer or float type."""
        pixels = array.astype(np.float64).ravel()
        if array.dtype.kind == "f" and not np.isfinite(pixels).all():
            pixels = pixels[np.isfinite(pixels)]
        if pixels.size == 0:
            return
        total, squares, smallest, largest = _sums(pixels, whole=array.dtype.kind in "iu")
        self.merge(BandSums(pixels.size, Fraction(total), Fraction(squares), smallest, largest))

    def merge(self, other: BandSums) -> None:
        """Adds the pixels that another worker has counted."""
        self.add_sums(other.count, other.total, other.squares, other.min, other.max)

    def add_sums(
        self,
        count: int,
        total: Union[int, Fraction],
        squares: Union[int, Fraction],
        smallest: float,
        largest: float,
    ) -> None:
        """Adds pixels of which the sums are known."""
        self.count += count
        self.total += total
        self.squares += squares
        self.min = min(self.min, smallest)
        self.max = max(self.max, largest)

    def result(self) -> BandStatistics:
        """Returns the statistics of all pixels added; ValueError if there are none."""
        if not self.count:
            raise ValueError("no pixels")
        mean = Fraction(self.total) / self.count
        variance = Fraction(self.squares) / self.count - mean * mean
        # Rounded squares of a constant float band may fall short by a hair.
        std = math.sqrt(max(variance, Fraction(0)))
        return BandStatistics(self.count, float(mean), std, self.min, self.max)

    def to_json(self) -> dict[str, Any]:
        """Returns the sums, fractions as text, for `from_json` in another process or after a restart."""
        ends = {} if not self.count else {"min": self.min, "max": self.max}
        return {"count": self.count, "total": str(self.total), "squares": str(self.squares), **ends}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BandSums:
        """Returns the sums that `to_json` wrote, bit for bit."""
        ends = {key: values[key] for key in ("min", "max") if key in values}
        return cls(values["count"], Fraction(values["total"]), Fraction(values["squares"]), **ends)


def _sums(pixels: np.ndarray, whole: bool) -> tuple[float, float, float, float]:
    """Returns sum, sum of squares, minimum and maximum of a float64 vector that is not empty."""
    smallest, largest = float(pixels.min()), float(pixels.max())
    peak = max(abs(smallest), abs(largest))
    if whole and peak * peak * pixels.size <= _EXACT_IN_FLOAT64:  # then every order gives the same
        return float(pixels.sum()), float(pixels @ pixels), smallest, largest
    # np.sum and @ order their additions as the processor's vectors suit them, cumsum one by one.
    return float(np.cumsum(pixels)[-1]), float(np.cumsum(pixels * pixels)[-1]), smallest, largest


def _small_integer_sums(array: np.ndarray) -> tuple[list[int], list[int], list[float], list[float]]:
    """Returns sums, sums of squares, minima and maxima of all bands at once, some five times faster than one by one.

    Rows of all bands side by side make numpy's inner loops long. Every order of additions is exact in float64.
    """
    bands = array.shape[-1]
    rows = np.ascontiguousarray(array).reshape(array.shape[0], -1)
    wide = rows.astype(np.float64)
    total = wide.sum(0).reshape(-1, bands).sum(0).astype(np.int64).tolist()
    squares = np.einsum("ij,ij->j", wide, wide).reshape(-1, bands).sum(0).astype(np.int64).tolist()
    smallest = rows.min(0).reshape(-1, bands).min(0).astype(np.float64).tolist()
    largest = rows.max(0).reshape(-1, bands).max(0).astype(np.float64).tolist()
    return total, squares, smallest, largest


class RecordSums:
    """Running sums of all bands of the records' features; maps of class codes have none.

    Args:
        features: of the manifest.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = tuple(feature for feature in features if feature.bands)
        self.bands = {name: BandSums() for feature in self._features for name in feature.band_names}

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds one record: an array by feature name, bands last."""
        for feature in self._features:
            array = arrays[feature.name]
            bands = [self.bands[name] for name in feature.band_names]
            if array.dtype.kind in "iu" and array.dtype.itemsize <= 2 and array.size <= _MANY_SMALL:
                for band, sums in zip(bands, zip(*_small_integer_sums(array))):
                    band.add_sums(array.size // len(bands), *sums)
            else:
                for channel, band in enumerate(bands):
                    band.add(array[..., channel])

    def merge(self, other: RecordSums) -> None:
        """Adds the records that another worker has counted."""
        for name, sums in other.bands.items():
            self.bands[name].merge(sums)

    def result(self) -> dict[str, BandStatistics]:
        """Returns the manifest's `statistics`; bands without a pixel (no records) are left out."""
        return {name: sums.result() for name, sums in self.bands.items() if sums.count}

    def to_json(self) -> dict[str, Any]:
        """Returns all sums by band name."""
        return {name: sums.to_json() for name, sums in self.bands.items()}

    @classmethod
    def from_json(cls, features: Sequence[Feature], values: Mapping[str, Any]) -> RecordSums:
        """Returns the sums that `to_json` wrote."""
        sums = cls(features)
        sums.bands = {name: BandSums.from_json(values[name]) for name in sums.bands}
        return sums
