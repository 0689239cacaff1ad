"""rot90, flips and mixup as pure functions of batches at native resolution.

They are permutations of pixels or linear, so they commute with normalising and with upsampling by symmetric kernels:
done before these, they touch less than half the bytes. All arrays of a patch always move together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """Applies transposition, then mirrored rows, then mirrored columns, as the three bits of `choice` say."""
    rest = list(range(3, array.shape.rank))
    steps: tuple[Callable[[Any], Any], ...] = (
        lambda x: tf.transpose(x, [0, 2, 1, *rest]),
        lambda x: tf.reverse(x, [1]),
        lambda x: tf.reverse(x, [2]),
    )
    for bit, step in enumerate(steps):
        wanted = tf.reshape(tf.bitwise.bitwise_and(choice, 1 << bit) > 0, [-1] + [1] * (array.shape.rank - 1))
        array = tf.where(wanted, step(array), array)
    return array


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
