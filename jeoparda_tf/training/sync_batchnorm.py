"""Batch normalization by the statistics of all ranks' batches, as one rank with the whole batch would do it."""

from __future__ import annotations

from typing import Any

from ..stack import tf
from . import distributed


def synchronised(model: Any) -> Any:
    """Returns a copy of a model, with its weights, whose BatchNormalization layers share their statistics in training.

    Layers and weights keep names, shapes and order, so checkpoints fit both; evaluation builds the plain model.

    Args:
        model: functional Keras model.
    """

    def copy(layer: Any) -> Any:
        normalises = type(layer) is tf.keras.layers.BatchNormalization
        return (SyncBatchNormalization if normalises else type(layer)).from_config(layer.get_config())

    twin = tf.keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


class SyncBatchNormalization(tf.keras.layers.BatchNormalization):
    """Ioffe & Szegedy 2015 (arXiv:1502.03167) over the batches of all ranks; in inference its parent.

    Mean and variance are of the global batch. As TensorFlow's fused kernel, which the parent uses on images (in float64
    there is none), it keeps the unbiased variance, n / (n - 1) times that of the n values of the global batch, in the
    moving one, so that R ranks keep the statistics that one rank with R batches would keep.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not training or not self.trainable:
            return super().call(inputs, training=False)
        # Float32 at least, as the parent computes.
        x = tf.cast(inputs, self.moving_mean.dtype)
        axes = list(range(x.shape.rank - 1))
        # Squares of what is left of the moving mean, equal on all ranks, do not cancel as those of x itself would.
        centre = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean))
        own_mean, own_variance = tf.nn.moments(x, axes)
        offset = own_mean - centre
        both = distributed.mean(tf.stack([offset, own_variance + tf.square(offset)]), f"{self.name}_moments")
        mean, variance = centre + both[0], both[1] - tf.square(both[0])
        kept = variance
        if self.fused:
            count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]) * distributed.size(), x.dtype)
            kept = variance * (count / tf.maximum(count - 1.0, 1.0))
        self.moving_mean.assign_sub((self.moving_mean - mean) * (1.0 - self.momentum))
        self.moving_variance.assign_sub((self.moving_variance - kept) * (1.0 - self.momentum))
        normal = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(normal, inputs.dtype)
