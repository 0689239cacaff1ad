"""One step of training, compiled once."""

from __future__ import annotations

from typing import Any, Callable

from ..stack import tf
from . import distributed
from .losses import Loss


def make(model: Any, optimizer: Any, loss: Loss, loss_sum: Any) -> Callable[[Any, Any], None]:
    """Returns a function of (inputs, labels) that trains the model on one batch a rank.

    The gradients are averaged over the ranks before they are applied, so R ranks with batches of B take the step of one
    rank with the R B patches. The step's loss (regularisation included, of this rank) is added to `loss_sum`.

    Args:
        model: Keras model with a layer "logits".
        optimizer: Keras optimizer.
        loss: of (labels, logits), mean over the batch.
        loss_sum: float32 variable.
    """
    logits_of = tf.keras.Model(model.inputs, model.get_layer("logits").output)
    scaled = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    variables = model.trainable_variables

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            total = loss(labels, logits_of(inputs, training=True))
            if model.losses:
                total += tf.add_n(model.losses)
            objective = optimizer.get_scaled_loss(total) if scaled else total
        gradients = distributed.gradient_tape(tape).gradient(objective, variables)
        if scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, variables))
        loss_sum.assign_add(total)

    return step


def create_slots(optimizer: Any, variables: list[Any]) -> None:
    """Creates the optimizer's variables, which a checkpoint can then fill; legacy optimizers name that otherwise."""
    create = getattr(optimizer, "build", None) or optimizer._create_all_weights
    create(variables)
