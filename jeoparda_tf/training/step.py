"""One step of training, compiled once."""

from __future__ import annotations

from typing import Any, Callable

from ..stack import tf
from . import distributed
from .losses import Loss


def make(
    model: Any,
    optimizer: Any,
    loss: Loss,
    loss_sum: Any,
    *,
    accumulate: int = 1,
    fp16_allreduce: bool = False,
) -> Callable[[Any, Any], None]:
    """Returns a function of (inputs, labels) that trains the model on `accumulate` batches a rank.

    The gradients are averaged over the batches, then once over the ranks, before they are applied: R ranks with K
    batches of B take the step of one rank with the R K B patches, whatever the optimizer. BatchNorm sees one batch at a
    time. The step's loss (regularisation included, of this rank) is added to `loss_sum`.

    Args:
        model: Keras model with a layer "logits".
        optimizer: Keras optimizer.
        loss: of (labels, logits), mean over the batch.
        loss_sum: variable of the type of the loss.
        accumulate: K; the inputs hold K B patches.
        fp16_allreduce: whether gradients travel between ranks in half precision.
    """
    logits_of = tf.keras.Model(model.inputs, model.get_layer("logits").output)
    scaled = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    variables = model.trainable_variables

    def batch_gradients(inputs: Any, labels: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            total = loss(labels, logits_of(inputs, training=True))
            if model.losses:
                total += tf.add_n(model.losses)
            objective = optimizer.get_scaled_loss(total) if scaled else total
        return total, tape.gradient(objective, variables)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, labels: Any) -> None:
        if accumulate == 1:
            total, gradients = batch_gradients(inputs, labels)
        else:
            zeros = tf.zeros_like(loss_sum), [tf.zeros(v.shape, v.dtype) for v in variables]
            total, gradients = _mean_over_batches(batch_gradients, zeros, inputs, labels, accumulate)
        gradients = distributed.mean_gradients(gradients, fp16_allreduce)
        if scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, variables))
        loss_sum.assign_add(total)

    return step


def _mean_over_batches(
    batch_gradients: Callable[[Any, Any], tuple[Any, list[Any]]],
    zeros: tuple[Any, list[Any]],
    inputs: Any,
    labels: Any,
    batches: int,
) -> tuple[Any, list[Any]]:
    """Goes through the batches one after the other: the memory is that of one of them."""

    def cut(array: Any) -> Any:
        return tf.reshape(array, [batches, -1, *array.shape[1:]])

    parts, part_labels = tf.nest.map_structure(cut, inputs), cut(labels)

    def add(number: Any, total: Any, sums: list[Any]) -> tuple[Any, Any, list[Any]]:
        part = tf.nest.map_structure(lambda array: array[number], parts)
        value, gradients = batch_gradients(part, part_labels[number])
        return number + 1, total + value, [s + g for s, g in zip(sums, gradients)]

    _, total, sums = tf.while_loop(
        lambda number, *_: number < batches, add, (0, *zeros), parallel_iterations=1
    )
    return total / batches, [s / batches for s in sums]


def create_slots(optimizer: Any, variables: list[Any]) -> None:
    """Creates the optimizer's variables, which a checkpoint can then fill; legacy optimizers name that otherwise."""
    create = getattr(optimizer, "build", None) or optimizer._create_all_weights
    create(variables)
