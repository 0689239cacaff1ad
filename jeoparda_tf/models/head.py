"""The last layers of every classifier: dropout, one fully connected layer, sigmoid."""

from __future__ import annotations

from typing import Any

from ..stack import tf
from .layers import Style


@tf.keras.utils.register_keras_serializable("jeoparda_tf")
class StatelessDropout(tf.keras.layers.Layer):
    """Dropout whose masks are a function of (seed, number of training calls so far).

    The count is a weight, so it travels with checkpoints and a resumed run draws the masks it would have drawn. Keras'
    own dropout draws from a generator whose state is lost with the process.

    Args:
        rate: share of the inputs set to zero in training; the others are divided by 1 - rate.
        seed: another one on every rank.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed

    def build(self, shape: Any) -> None:
        self.calls = self.add_weight("calls", (), tf.int64, "zeros", trainable=False)
        super().build(shape)

    def call(self, x: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return x
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(self.calls)])
        self.calls.assign_add(1)
        return tf.nn.experimental.stateless_dropout(x, self.rate, seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def pool(features: Any) -> Any:
    """Returns [batch, channels]: the mean over a feature map [batch, rows, columns, channels]."""
    return tf.keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)


def classifier(features: Any, classes: int, style: Style) -> Any:
    """Returns sigmoid scores [batch, classes], float32, from features [batch, channels].

    The layer before the sigmoid is called `logits`: losses are taken from it, where they are stable.
    """
    features = StatelessDropout(style.dropout, style.seed, name="dropout")(features)
    logits = tf.keras.layers.Dense(classes, name="logits", dtype="float32")(features)
    return tf.keras.layers.Activation("sigmoid", name="scores", dtype="float32")(logits)
