"""The first layers of every model: raw digital numbers in, one normalised image on the finest grid out.

Normalising comes before upsampling, where the statistics of the native pixels are exact.
"""

from __future__ import annotations

from typing import Any

from tfrecords_tools.manifest import Feature

from ..stack import tf
from .pixels import Normalise, Upsample
from .spec import ModelSpec
from .superres import Network


def image(spec: ModelSpec) -> tuple[dict[str, Any], Any]:
    """Builds the inputs of a model and the image that its first convolution sees.

    Returns:
        Keras inputs by feature name ([rows, columns, bands], raw numbers), and the normalised float32 tensor
        [batch, rows, columns, channels] on the finest of their grids, channels in the order of `spec.bands`.
    """
    inputs = {f.name: tf.keras.Input(f.shape, name=f.name, dtype="float32") for f in spec.features}
    finest = min(f.gsd for f in spec.features)
    residuals = _residuals(spec, inputs)
    method = "bicubic" if spec.superres else spec.upsample
    parts, order = [], []
    for feature in spec.features:
        if not set(feature.band_names) & set(spec.bands):
            continue  # a guide of super-resolution alone
        part, bands = normalised(spec, feature, inputs[feature.name])
        factor = feature.gsd // finest
        if factor > 1:
            part = Upsample(factor, method, name=f"{feature.name}_upsample")(part)
        if feature.name in residuals:
            name = f"{feature.name}_superres"
            part = tf.keras.layers.Add(dtype="float32", name=name)([part, residuals[feature.name]])
        parts.append(part)
        order += bands
    joined = tf.keras.layers.Concatenate(dtype="float32", name="bands")(parts) if len(parts) > 1 else parts[0]
    if tuple(order) != spec.bands:
        channels = [order.index(band) for band in spec.bands]
        joined = Normalise(channels, [0.0] * len(channels), [1.0] * len(channels), name="band_order")(joined)
    return inputs, joined


def _residuals(spec: ModelSpec, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns what super-resolution adds to the bicubic bands of a feature, normalised as they are, by its name."""
    if spec.superres is None:
        return {}
    known, wanted = spec.superres, spec.superres.wanted(spec.bands)
    arrays = {f.gsd: inputs[f.name] for f in known.inputs(spec.bands)}
    added = {}
    for feature in known.features:
        if feature.gsd not in wanted:
            continue
        # Of the spread that the network knows, in the unit of the classifier's.
        bands = [band for band in spec.bands if band in feature.band_names]
        spread = [(spec.statistics[band][1] or 1.0) / known.statistics[band][1] for band in bands]
        channels = [feature.band_names.index(band) for band in bands]
        layer = Normalise(channels, [0.0] * len(bands), spread, name=f"{feature.name}_residual")
        added[feature.name] = layer(Network(known, feature.gsd)(arrays))
    return added


def native_images(spec: ModelSpec) -> tuple[dict[str, Any], dict[int, Any]]:
    """Builds the inputs of a model that sees every resolution at its own size.

    Returns:
        Keras inputs by feature name, and normalised float32 tensors [batch, rows, columns, channels] by ground sampling
        distance in metres, the finest first; bands of one feature in the order of `spec.bands`.
    """
    inputs = {f.name: tf.keras.Input(f.shape, name=f.name, dtype="float32") for f in spec.features}
    parts: dict[int, list[Any]] = {}
    for feature in spec.features:
        parts.setdefault(feature.gsd, []).append(normalised(spec, feature, inputs[feature.name])[0])
    joined = {
        gsd: tf.keras.layers.Concatenate(dtype="float32", name=f"bands_{gsd}m")(own)
        if len(own) > 1
        else own[0]
        for gsd, own in sorted(parts.items())
    }
    return inputs, joined


def normalised(spec: ModelSpec, feature: Feature, tensor: Any) -> tuple[Any, list[str]]:
    """Returns the chosen bands of one feature, normalised at native resolution, and their names in channel order."""
    bands = [band for band in spec.bands if band in feature.band_names]
    channels = [feature.band_names.index(band) for band in bands]
    mean, std = zip(*(spec.statistics[band] for band in bands))
    # A band without spread (a synthetic one, say) must not become infinite.
    layer = Normalise(channels, list(mean), [value or 1.0 for value in std], name=f"{feature.name}_normalise")
    return layer(tensor), bands
