"""How all families make their layers: what every builder is handed beside its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from ..stack import tf

# keras.applications' ResNets have this epsilon.
EPSILON = 1.001e-5


def batch_norm(name: str) -> Any:
    """Returns Keras' batch normalisation: statistics of one rank's batch in training, moving averages otherwise."""
    return tf.keras.layers.BatchNormalization(epsilon=EPSILON, name=name)


@dataclass(frozen=True)
class Style:
    """What a model's layers have in common.

    Attributes:
        l2: factor of the squared norm of the kernels in the loss.
        norm: makes a normalisation layer of a given name; batch normalisation over all ranks is put in here.
        dropout: rate before the last fully connected layer.
        seed: of dropout.
    """

    l2: float = 0.0
    norm: Callable[[str], Any] = batch_norm
    dropout: float = 0.0
    seed: int = 0

    def conv(
        self, x: Any, filters: int, size: int, name: str, *, strides: int = 1, padding: str = "valid"
    ) -> Any:
        """Applies a convolution with bias."""
        return tf.keras.layers.Conv2D(
            filters, size, strides, padding, kernel_regularizer=self._l2(), name=f"{name}_conv"
        )(x)

    def dense(self, x: Any, units: int, name: str) -> Any:
        """Applies a fully connected layer with bias."""
        return tf.keras.layers.Dense(units, kernel_regularizer=self._l2(), name=f"{name}_dense")(x)

    def normalise(self, x: Any, name: str) -> Any:
        """Applies a normalisation layer."""
        return self.norm(f"{name}_bn")(x)

    def _l2(self) -> Any:
        return tf.keras.regularizers.L2(self.l2) if self.l2 else None


def relu(x: Any, name: str) -> Any:
    """Applies max(0, x)."""
    return tf.keras.layers.ReLU(name=name)(x)
