"""The manifest beside the shards: what is in them, how to decode it, and how to know that it is whole."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from .errors import DataError

FILE_NAME = "manifest.json"
TABLE_NAME = "records.parquet"
FORMAT = "sharded-tfrecords"
FORMAT_VERSION = 1
_REMEDY = "copy it again from where the shards come from, or convert the archive again"


@dataclass(frozen=True)
class Band:
    """One band of a feature.

    Attributes:
        name: as the instrument's makers name it, for instance "B8A" or "VV".
        wavelength: centre in nm; None where there is none (radar).
    """

    name: str
    wavelength: Optional[float] = None


@dataclass(frozen=True)
class Feature:
    """One array in every record, stored as raw little-endian bytes, bands last.

    Attributes:
        name: key in the `tf.train.Example`.
        dtype: numpy name of the type, for instance "uint16".
        shape: (rows, columns, bands), or (rows, columns) for a map.
        gsd: ground sampling distance in metres.
        bands: one a channel; empty for a map of class codes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    gsd: int
    bands: tuple[Band, ...] = ()

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Feature:
        """Reads what `dataclasses.asdict` gave, after JSON."""
        bands = tuple(Band(**band) for band in values["bands"])
        return Feature(**{**values, "shape": tuple(values["shape"]), "bands": bands})


@dataclass(frozen=True)
class Nomenclature:
    """The classes in the order of the multi-hot `labels`.

    Attributes:
        name: "clc43" or "ben19" for BigEarthNet.
        classes: class names.
        codes: their codes in `reference_map`, a tuple a class (empty where there are none).
    """

    name: str
    classes: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name, number of records, size in bytes, SHA-256 of the whole file in hex."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split in order, and how many of its records carry each class."""

    shards: tuple[Shard, ...]
    label_counts: tuple[int, ...]

    @property
    def records(self) -> int:
        return sum(shard.records for shard in self.shards)


@dataclass(frozen=True)
class BandStatistics:
    """Mean and standard deviation (population) over all `count` pixels of a band in the train split."""

    count: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Manifest:
    """A directory of shards.

    Attributes:
        features: the arrays of each record; beside them every record has `labels` (int64, multi-hot) and `name`.
        nomenclature: the classes.
        splits: by name, usually train, val and test.
        statistics: by band name, over the train split at native resolution.
        display: band names of pictures, for instance {"RGB": ("B04", "B03", "B02")}.
        seed: of the order of the records.
        sources: where the records come from: layout, folders, lists.
        excluded: number of patches left out, by reason.
        origin: what the pixels are, for instance "BigEarthNet" or "synthetic sample"; whatever shows them says so.
    """

    features: tuple[Feature, ...]
    nomenclature: Nomenclature
    splits: Mapping[str, Split]
    statistics: Mapping[str, BandStatistics]
    display: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int = 0
    sources: Mapping[str, Any] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    origin: str = "BigEarthNet"

    def split(self, name: str, directory: Path) -> Split:
        """Returns a split, or raises a DataError that names those there are."""
        if name not in self.splits:
            raise DataError(f"no split {name!r}", path=directory, remedy=f"it has: {', '.join(self.splits)}")
        return self.splits[name]

    def feature_of(self, band: str) -> Feature:
        """Returns the feature that holds a band; KeyError if none does."""
        for feature in self.features:
            if band in feature.band_names:
                return feature
        raise KeyError(band)

    @property
    def bands(self) -> tuple[str, ...]:
        """All band names, feature by feature."""
        return tuple(name for feature in self.features for name in feature.band_names)

    def sources_of_copy(self, how: str, **details: Any) -> dict[str, Any]:
        """Returns the sources of shards made out of these: all but the conversion's fingerprint, and how."""
        return {**{k: v for k, v in self.sources.items() if k != "fingerprint"}, how: details}

    def write(self, directory: Path) -> None:
        """Writes `manifest.json` whole or not at all.

        Raises:
            DataError: the disk is full or the folder is gone.
        """
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        path = directory / FILE_NAME
        temporary = path.with_suffix(".json.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error


def read(directory: Path) -> Manifest:
    """Reads the manifest of a directory of shards.

    Raises:
        DataError: there is none, it is no JSON, or it is of a format this version does not know.
    """
    path = directory / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = "no manifest.json here" if directory.is_dir() else "no such directory"
        remedy = "a conversion writes it last: let it finish, or name the folder that it wrote to"
        raise DataError(problem, path=directory, remedy=remedy) from None
    except (ValueError, OSError, RecursionError) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else f"no JSON: {error}"
        raise DataError(f"cannot be read: {problem}", path=path, remedy=_REMEDY) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"not a manifest of {FORMAT}", path=path, remedy=_REMEDY)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(
            f"format version {version}, but this program reads version {FORMAT_VERSION}",
            path=path,
            remedy="convert the archive again, or use the release that wrote it",
        )
    try:
        manifest = _from_json(content)
        _check(manifest)
    except KeyError as error:
        raise DataError(f"incomplete: it lacks {error}", path=path, remedy=_REMEDY) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"malformed: {error}", path=path, remedy=_REMEDY) from error
    return manifest


def _from_json(content: Mapping[str, Any]) -> Manifest:
    def split(values: Mapping[str, Any]) -> Split:
        return Split(tuple(Shard(**shard) for shard in values["shards"]), tuple(values["label_counts"]))

    names = content["nomenclature"]
    return Manifest(
        features=tuple(Feature.from_dict(values) for values in content["features"]),
        nomenclature=Nomenclature(names["name"], tuple(names["classes"]), tuple(map(tuple, names["codes"]))),
        splits={name: split(values) for name, values in content["splits"].items()},
        statistics={name: BandStatistics(**values) for name, values in content["statistics"].items()},
        display={name: tuple(bands) for name, bands in content["display"].items()},
        seed=content["seed"],
        sources=content["sources"],
        excluded=content["excluded"],
        origin=content["origin"],
    )


def _check(manifest: Manifest) -> None:
    """Raises a ValueError if parts of the manifest do not fit together or cannot be meant."""
    for feature in manifest.features:
        size = math.prod(feature.shape) * np.dtype(feature.dtype).itemsize
        if size <= 0 or (feature.bands and len(feature.bands) != feature.shape[-1]):
            raise ValueError(
                f"feature {feature.name!r}: shape {feature.shape} for {len(feature.bands)} bands"
            )
    for name, split in manifest.splits.items():
        if len(split.label_counts) != len(manifest.nomenclature.classes):
            raise ValueError(
                f"split {name!r} counts {len(split.label_counts)} classes, the nomenclature has others"
            )
        for shard in split.shards:
            if Path(shard.file).name != shard.file or shard.records < 0 or shard.bytes < 0:
                raise ValueError(f"split {name!r} has an impossible shard: {shard}")
    files = [shard.file for split in manifest.splits.values() for shard in split.shards]
    if len(set(files)) < len(files):
        raise ValueError("a shard stands in it twice")
    shown = {band for bands in manifest.display.values() for band in bands}
    unknown = sorted((shown | set(manifest.statistics)) - set(manifest.bands))
    if unknown:
        raise ValueError(f"no feature holds the bands {', '.join(unknown)}")
