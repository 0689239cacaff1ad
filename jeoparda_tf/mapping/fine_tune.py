"""The last layer of a dense classifier trained on reference maps, everything before it left as it is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
from tqdm import tqdm

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError, UsageError
from tfrecords_tools.manifest import Nomenclature

from ..scoring import masks
from ..stack import tf
from .tiles import enlarge

HEAD = "mask_head.npz"
_REMEDY = "python -m jeoparda_tf.evaluate --masks --fine-tune-masks trains it"


def train(
    logits_map: Any,
    epoch: Callable[[int], Any],
    nomenclature: Nomenclature,
    feature: str,
    *,
    epochs: int,
    learning_rate: float,
    mean: Callable[[Any, str], Any] = lambda tensor, name: tensor,
    mean_gradients: Callable[[list[Any]], list[Any]] = list,
) -> list[float]:
    """Trains the layer "logits" in place: softmax cross-entropy of every pixel that has a class, by Adam.

    Args:
        logits_map: of `dense.logits_map`; its logits are interpolated bilinearly to the pixels, as they are for maps.
        epoch: gives the batches of a numbered epoch, (inputs, labels), the reference maps among the inputs.
        nomenclature: of the model.
        feature: name of the reference maps.
        epochs: how many.
        learning_rate: of Adam.
        mean: of a number over all ranks.
        mean_gradients: likewise of gradients.

    Returns:
        the mean loss of each epoch, of this rank.
    """
    variables = logits_map.get_layer("logits").trainable_variables
    optimizer = tf.keras.optimizers.Adam(learning_rate)
    optimizer.build(variables)
    numbers = tf.constant(masks.class_of_code(nomenclature), tf.int32)

    @tf.function
    def step(inputs: dict[str, Any], codes: Any) -> Any:
        truth = tf.gather(numbers, tf.cast(codes, tf.int32))
        known = tf.cast(truth != masks.IGNORED, tf.float32)
        # Ranks see unequal numbers of pixels: the mean of these sums over the mean number is the mean of all.
        pixels = tf.maximum(mean(tf.reduce_sum(known), "mask_pixels"), 1.0)
        with tf.GradientTape() as tape:
            logits = logits_map(inputs, training=False)
            matrix = tf.constant(enlarge(logits.shape[1], codes.shape[1]))
            logits = tf.einsum("yr,brcn,xc->byxn", matrix, tf.cast(logits, tf.float32), matrix)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(truth, 0), logits)
            loss = tf.reduce_sum(losses * known) / pixels
        gradients = mean_gradients(tape.gradient(loss, variables))
        optimizer.apply_gradients(zip(gradients, variables))
        return loss

    history = []
    for number in range(epochs):
        batches = tqdm(
            epoch(number), f"head, epoch {number + 1}", disable=None if cli.is_first_rank() else True
        )
        losses = [float(step(inputs, inputs.pop(feature))) for inputs, _ in batches]
        history.append(float(np.mean(losses)))
    return history


def write(logits_map: Any, folder: Path, *, step: int, stride: int) -> Path:
    """Writes the layer's weights, whole or not at all, with what they belong to; DataError where it cannot."""
    kernel, bias = logits_map.get_layer("logits").get_weights()
    packed = io.BytesIO()
    np.savez(packed, kernel=kernel, bias=bias, step=step, stride=stride)
    path = folder / HEAD
    temporary = path.with_name(path.name + ".tmp")
    try:
        folder.mkdir(exist_ok=True)
        temporary.write_bytes(packed.getvalue())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=path) from error
    return path


def load(logits_map: Any, folder: Path, *, step: int, stride: int) -> None:
    """Puts the trained weights into the layer.

    Raises:
        UsageError: there are none, or they belong to another checkpoint or stride.
        DataError: the file is damaged.
    """
    path = folder / HEAD
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kernel, bias = arrays["kernel"], arrays["bias"]
            made = (int(arrays["step"]), int(arrays["stride"]))
    except FileNotFoundError:
        raise UsageError("no head was trained on reference maps yet", path=path, remedy=_REMEDY) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read: {error}", path=path, remedy=_REMEDY) from error
    if made != (step, stride):
        problem = f"trained for step {made[0]} and stride {made[1]}, not step {step} and stride {stride}"
        raise UsageError(
            problem, path=path, remedy="name these with --checkpoint and --stride, or train it again"
        )
    logits_map.get_layer("logits").set_weights([kernel, bias])
