"""What defines a model: enough to build it again and to refuse data that it was not made for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Feature, Manifest, Nomenclature

from .superres_spec import SuperRes

# What `--model` may say; "tiny" is for tests.
Name = Literal["shallow", "kbranch", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "tiny"]


@dataclass(frozen=True)
class ModelSpec:
    """A model before it is built. Free of TensorFlow, so that it can be read and compared at once.

    Attributes:
        name: of the architecture, one of `Name`.
        bands: the input channels in their order.
        features: the stored arrays that hold these bands; the model takes them whole and selects inside.
        nomenclature: the classes, in the order of the scores.
        statistics: (mean, standard deviation) by band, in digital numbers (Sentinel-1: dB).
        upsample: "nearest", "bilinear" or "bicubic", to the finest of the grids; "superres", to 10 m.
        l2: factor of the squared norm of the kernels in the loss, those of the last layer left out.
        dropout: rate before the last fully connected layer.
        precision: "float32", "mixed_float16" or "mixed_bfloat16".
        seed: of dropout.
        origin: what it was trained on.
        superres: the networks of upsample "superres".
    """

    name: str
    bands: tuple[str, ...]
    features: tuple[Feature, ...]
    nomenclature: Nomenclature
    statistics: Mapping[str, tuple[float, float]]
    upsample: str = "bilinear"
    l2: float = 0.0
    dropout: float = 0.0
    precision: str = "float32"
    seed: int = 0
    origin: str = "BigEarthNet"
    superres: Optional[SuperRes] = None

    @property
    def input_bands(self) -> tuple[str, ...]:
        """The bands that the model reads: its channels, and what super-resolution looks at beside them."""
        guides = self.superres.inputs(self.bands) if self.superres else ()
        return tuple(dict.fromkeys([*self.bands, *(band for f in guides for band in f.band_names)]))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Reads `to_json`'s text; ValueError, KeyError or TypeError where it is none."""
        values: dict[str, Any] = json.loads(text)
        features = tuple(Feature.from_dict(feature) for feature in values["features"])
        superres = values.get("superres")
        names = values["nomenclature"]
        nomenclature = Nomenclature(
            names["name"], tuple(names["classes"]), tuple(tuple(codes) for codes in names["codes"])
        )
        statistics = {band: (float(mean), float(std)) for band, (mean, std) in values["statistics"].items()}
        return ModelSpec(
            **{
                **values,
                "bands": tuple(values["bands"]),
                "features": features,
                "nomenclature": nomenclature,
                "statistics": statistics,
                "superres": superres and SuperRes.from_dict(superres),
            }
        )


def spec_for(
    manifest: Manifest, bands: tuple[str, ...], superres: Optional[SuperRes] = None, **settings: Any
) -> ModelSpec:
    """Makes the spec of a model for the data of a manifest.

    Args:
        manifest: of the training data; its statistics become the model's.
        bands: band names, in the order of the channels.
        superres: networks that bring them to 10 m; their arrays become inputs of the model too.
        **settings: the other attributes of ModelSpec.

    Raises:
        UsageError: the data lacks a band.
        DataError: the data has no statistics of a band.
    """
    missing = [band for band in bands if band not in manifest.bands]
    if missing:
        raise UsageError(
            f"the data has no band {', '.join(missing)}", remedy=f"it has: {' '.join(manifest.bands)}"
        )
    unknown = [band for band in bands if band not in manifest.statistics]
    if unknown:
        raise DataError(
            f"no statistics of {', '.join(unknown)} in the manifest",
            remedy="convert with a train split that is not empty",
        )
    statistics = {band: (manifest.statistics[band].mean, manifest.statistics[band].std) for band in bands}
    guides = superres.inputs(bands) if superres else ()
    for feature in guides:
        if feature not in manifest.features:
            found = _in_words(next((f for f in manifest.features if f.name == feature.name), None))
            problem = f"super-resolution takes {feature.name} as {_in_words(feature)}, this data has {found}"
            raise DataError(problem, remedy="train it on shards of this kind")
    features = tuple(f for f in manifest.features if set(f.band_names) & set(bands) or f in guides)
    return ModelSpec(
        bands=bands,
        features=features,
        nomenclature=manifest.nomenclature,
        statistics=statistics,
        origin=manifest.origin,
        superres=superres,
        **settings,
    )


def check_data(spec: ModelSpec, manifest: Manifest, directory: object) -> None:
    """Raises a DataError where shards do not hold what the model was made for: bands, shapes, classes in order."""
    stored = {feature.name: feature for feature in manifest.features}
    for feature in spec.features:
        if stored.get(feature.name) != feature:
            wanted, found = _in_words(feature), _in_words(stored.get(feature.name))
            problem = f"the model takes {feature.name} as {wanted}, this data has {found}"
            raise DataError(
                problem,
                path=str(directory),
                remedy="convert the archive with the options of the training data",
            )
    if spec.nomenclature.classes != manifest.nomenclature.classes:
        ours, theirs = spec.nomenclature, manifest.nomenclature
        other = "in another order" if set(ours.classes) == set(theirs.classes) else f"of {theirs.name}"
        known = f"{len(ours.classes)} classes of {ours.name}"
        problem = f"the model knows {known}, this data has {len(theirs.classes)} {other}"
        raise DataError(
            problem,
            path=str(directory),
            remedy=f"convert the archive with --nomenclature {spec.nomenclature.name}",
        )


def _in_words(feature: Optional[Feature]) -> str:
    return f"{feature.dtype} {feature.shape} of {' '.join(feature.band_names)}" if feature else "nothing"
