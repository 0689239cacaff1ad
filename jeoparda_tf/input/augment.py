"""rot90, flips and mixup as pure functions of batches at native resolution.

They are permutations of pixels or linear, so they commute with normalising and with upsampling by symmetric kernels:
done before these, they touch less than half the bytes. All arrays of a patch always move together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..stack import tf

Arrays = dict[str, Any]


def dihedral(arrays: Arrays, seed: Any) -> Arrays:
    """Turns and mirrors every patch of a batch, each into one of the eight orientations of a square, all alike likely.

    Args:
        arrays: by feature name, [batch, rows, columns(, bands)], rows = columns.
        seed: int tensor [2]; the same seed gives the same orientations.

    Returns:
        arrays of the same names, shapes and dtypes.
    """
    batch = tf.shape(next(iter(arrays.values())))[0]
    choice = tf.random.stateless_uniform([batch], seed, 0, 8, tf.int32)
    return {name: _orient(tf.convert_to_tensor(array), choice) for name, array in arrays.items()}


def _orient(array: Any, choice: Any) -> Any:
    """Puts every patch into the orientation that its `choice` numbers, in one pass over the pixels."""
    size = array.shape[1]
    # A pixel moves as one number where its bands fill whole words: a third faster than band by band.
    packed, words = _pack(array)
    batch = tf.shape(array)[0]
    pixels = tf.gather(tf.constant(_orientations(size)), choice) + tf.range(batch)[:, None] * size**2
    turned = tf.gather(tf.reshape(packed, [-1, *words]), pixels)
    if packed.dtype != array.dtype:
        turned = tf.bitcast(turned, array.dtype)
    return tf.reshape(turned, tf.shape(array))


def _pack(array: Any) -> tuple[Any, list[int]]:
    """Joins bands of 16 bits to words of 64 or 32 where they divide; returns the words and their shape in a pixel."""
    bands = array.shape[3] if array.shape.rank == 4 else 1
    if array.dtype.size == 2:
        for word, bits in ((tf.int64, 4), (tf.int32, 2)):
            if bands % bits == 0:
                return tf.bitcast(tf.reshape(array, [-1, bits]), word), [bands // bits]
    return array, [bands]


def _orientations(size: int) -> np.ndarray:
    """Returns int32 [8, size * size]: the pixel that comes to each place, counted row by row.

    The bits of the orientation's number: transposition, then mirrored rows, then mirrored columns.
    """
    orientations = []
    for number in range(8):
        pixels = np.arange(size * size, dtype=np.int32).reshape(size, size)
        pixels = pixels.T if number & 1 else pixels
        pixels = pixels[::-1] if number & 2 else pixels
        orientations.append((pixels[:, ::-1] if number & 4 else pixels).ravel())
    return np.stack(orientations)


def mixup(arrays: Arrays, labels: Any, seed: Any, alpha: float) -> tuple[Arrays, Any]:
    """Mixes every patch with its neighbour in the batch: w x + (1 - w) y, for pixels and labels alike.

    w = max(b, 1 - b) with b from Beta(alpha, alpha), one a patch (Zhang et al. 2018, mixup, arXiv:1710.09412).

    Args:
        arrays: by feature name, [batch, ...].
        labels: float32 [batch, classes].
        seed: int tensor [2].
        alpha: > 0; the larger, the more they are mixed.

    Returns:
        float32 arrays and labels of the same names and shapes.
    """
    batch = tf.shape(labels)[0]
    # A Beta variate is the share of one of two Gamma variates.
    gamma = tf.random.stateless_gamma([2, batch], seed, alpha)
    beta = gamma[0] / tf.maximum(gamma[0] + gamma[1], 1e-30)
    weight = tf.maximum(beta, 1.0 - beta)

    def mix(values: Any) -> Any:
        values = tf.cast(values, tf.float32)
        w = tf.reshape(weight, [-1] + [1] * (values.shape.rank - 1))
        return w * values + (1.0 - w) * tf.roll(values, 1, 0)

    return {name: mix(array) for name, array in arrays.items()}, mix(labels)
