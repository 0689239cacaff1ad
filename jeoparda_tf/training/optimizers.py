"""Optimizers by name."""

from __future__ import annotations

from typing import Any

from ..stack import tf
from .config import FitConfig


def build(config: FitConfig) -> Any:
    """Returns the optimizer of a run; its learning rate is set before every step (`callbacks.LearningRate`).

    In mixed_float16 it is wrapped to scale the loss.
    """
    rate = config.learning_rate
    optimizers = {
        "sgd": lambda: tf.keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=config.momentum > 0),
        "adam": lambda: tf.keras.optimizers.Adam(rate),
        "adamw": lambda: tf.keras.optimizers.AdamW(rate, weight_decay=config.weight_decay),
        "lamb": lambda: lamb(rate, config.weight_decay),
    }
    optimizer = optimizers[config.optimizer]()
    if config.precision == "mixed_float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def lamb(learning_rate: float, weight_decay: float) -> Any:
    """Returns LAMB of tensorflow-addons, or our own where that cannot be imported; norms and biases take Adam's."""
    exclude = ["bias", "beta", "gamma", "bn"]
    try:
        import tensorflow_addons as tfa
    except ImportError:
        return Lamb(learning_rate, weight_decay=weight_decay, exclude=exclude)
    return tfa.optimizers.LAMB(learning_rate, weight_decay=weight_decay, exclude_from_weight_decay=exclude)


class Lamb(tf.keras.optimizers.Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962, version 3): Adam's direction, scaled to the norm of each weight.

    Args:
        learning_rate: scalar.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        weight_decay: added to the direction as weight_decay * weight.
        exclude: weights whose name contains one of these are neither decayed nor scaled to their norm.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        exclude: list[str] | None = None,
        name: str = "Lamb",
    ):
        # Keras' own `weight_decay` is decoupled from the norm; LAMB's is part of the direction, so it has another name.
        super().__init__(name=name)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.decay, self.exclude = weight_decay, list(exclude or ())

    def build(self, var_list: list[Any]) -> None:
        super().build(var_list)
        if getattr(self, "_moments", None) is None:
            self._moments = [
                (self.add_variable_from_reference(v, "m"), self.add_variable_from_reference(v, "v"))
                for v in var_list
            ]

    def update_step(self, gradient: Any, variable: Any) -> None:
        m, v = self._moments[self._index_dict[self._var_key(variable)]]
        step = tf.cast(self.iterations + 1, variable.dtype)
        m.assign_add((gradient - m) * (1.0 - self.beta_1))
        v.assign_add((tf.square(gradient) - v) * (1.0 - self.beta_2))
        corrected_m, corrected_v = m / (1.0 - self.beta_1**step), v / (1.0 - self.beta_2**step)
        direction = corrected_m / (tf.sqrt(corrected_v) + self.epsilon)
        if not any(part in variable.name for part in self.exclude):
            direction += self.decay * variable
            weight_norm, direction_norm = tf.norm(variable), tf.norm(direction)
            direction *= tf.where((weight_norm > 0) & (direction_norm > 0), weight_norm / direction_norm, 1.0)
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * direction)

    def get_config(self) -> dict[str, Any]:
        rate = self._serialize_hyperparameter(self._learning_rate)
        moments = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        decay = {"weight_decay": self.decay, "exclude": self.exclude}
        return {**super().get_config(), "learning_rate": rate, **moments, **decay}
