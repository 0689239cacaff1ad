"""The first layers of every model: raw digital numbers in, one normalised image on the finest grid out.

Normalising comes before upsampling, where the statistics of the native pixels are exact. Upsampling is a product with
constant matrices from both sides: one code for CPU, GPU and XLA (TensorFlow's bicubic resize has no GPU kernel).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfrecords_tools.errors import UsageError
from tfrecords_tools.manifest import Feature

from ..stack import tf
from .spec import ModelSpec

METHODS = ("nearest", "bilinear", "bicubic")


@tf.keras.utils.register_keras_serializable("jeoparda_tf")
class Normalise(tf.keras.layers.Layer):
    """Selects channels and gives (x - mean) / std in float32.

    Args:
        channels: indices into the last axis.
        mean: one a selected channel, in the unit of the input.
        std: likewise, positive.
    """

    def __init__(self, channels: list[int], mean: list[float], std: list[float], **kwargs: Any):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.channels, self.mean, self.std = channels, mean, std

    def call(self, x: Any) -> Any:
        x = tf.cast(x, tf.float32)
        if self.channels != list(range(x.shape[-1])):
            x = tf.gather(x, self.channels, axis=-1)
        return (x - tf.constant(self.mean, tf.float32)) * tf.constant(1.0 / np.asarray(self.std), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "mean": self.mean, "std": self.std}


@tf.keras.utils.register_keras_serializable("jeoparda_tf")
class Upsample(tf.keras.layers.Layer):
    """Enlarges [batch, rows, columns, bands] by a whole factor; float32 in, float32 out.

    Args:
        factor: new size over old.
        method: "nearest", "bilinear" or "bicubic"; the centres of pixels stay where they are on the ground, and the
            kernels are those of `tf.image.resize` (bicubic: Keys 1981, a = -0.5, renormalised at the borders).
    """

    def __init__(self, factor: int, method: str, **kwargs: Any):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.factor, self.method = factor, method

    def call(self, x: Any) -> Any:
        if self.method == "nearest":
            return tf.repeat(tf.repeat(x, self.factor, axis=1), self.factor, axis=2)
        rows = tf.constant(interpolation_matrix(x.shape[1], self.factor, self.method), x.dtype)
        columns = tf.constant(interpolation_matrix(x.shape[2], self.factor, self.method), x.dtype)
        # Lower case: tf2onnx (1.17) lowers the letters, so that R and r would become one.
        return tf.einsum("yr,brcn,xc->byxn", rows, x, columns)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "method": self.method}


def interpolation_matrix(size: int, factor: int, method: str) -> np.ndarray:
    """Returns the float64 matrix [size * factor, size] that interpolates a row of pixels."""
    centres = (np.arange(size * factor) + 0.5) / factor - 0.5
    distance = np.abs(centres[:, None] - np.arange(size)[None, :])
    if method == "bilinear":
        weights = np.maximum(0.0, 1.0 - distance)
    elif method == "bicubic":
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    else:
        raise UsageError(f"unknown upsampling {method!r}", remedy=f"known are: {', '.join(METHODS)}")
    return np.asarray(weights / weights.sum(1, keepdims=True))


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
    from . import superres  # which builds on the layers above

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
        added[feature.name] = layer(superres.Network(known, feature.gsd)(arrays))
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
