"""Layers of pixels, before any learning: normalising and enlarging.

Upsampling is a product with constant matrices from both sides: one code for CPU, GPU and XLA (TensorFlow's bicubic
resize has no GPU kernel).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfrecords_tools.errors import UsageError

from ..stack import tf

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
