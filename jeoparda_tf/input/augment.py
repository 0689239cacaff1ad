"""rot90, flips and mixup as pure functions of batches at native resolution.

They are permutations of pixels or linear, so they commute with normalising and with upsampling by symmetric kernels:
done before these, they touch less than half the bytes. All arrays of a patch always move together.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from ..stack import quiet, tf

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
    return orient({name: tf.convert_to_tensor(array) for name, array in arrays.items()}, choice)


def orient(arrays: Arrays, choice: Any) -> Arrays:
    """Puts every patch into the orientation that its number says.

    Args:
        arrays: by feature name, [batch, rows, columns(, bands)], rows = columns.
        choice: int32 [batch], 0 to 7; its bits: transposition, then mirrored rows, then mirrored columns.

    Returns:
        arrays of the same names, shapes and dtypes.
    """
    turned: Arrays = _compiled(_orient)(arrays, choice)
    return turned


def _orient(arrays: Arrays, choice: Any) -> Arrays:
    """Takes of every pixel the one or the other of two places: XLA makes one loop of it, without branches."""

    def chosen(bit: int, changed: Any, array: Any) -> Any:
        return tf.where(tf.reshape(choice & bit > 0, [-1] + [1] * (array.shape.rank - 1)), changed, array)

    def turn(array: Any) -> Any:
        array = chosen(1, tf.transpose(array, [0, 2, 1, 3][: array.shape.rank]), array)
        array = chosen(2, tf.reverse(array, [1]), array)
        return chosen(4, tf.reverse(array, [2]), array)

    return {name: turn(array) for name, array in arrays.items()}


def mixup(arrays: Arrays, labels: Any, seed: Any, alpha: float) -> tuple[Arrays, Any]:
    """Mixes every patch with its neighbour in the batch: w x + (1 - w) y, for pixels and labels alike.

    w = max(b, 1 - b) with b from Beta(alpha, alpha), one a patch (Zhang et al. 2018, mixup, arXiv:1710.09412).

    Args:
        arrays: by feature name, [batch, ...].
        labels: float32 [batch, classes].
        seed: int tensor [2].
        alpha: > 0; the larger, the more they are mixed.

    Returns:
        arrays and labels of the same names and shapes: uint16 stays uint16, rounded, all else is float32.
    """
    batch = tf.shape(labels)[0]
    # A Beta variate is the share of one of two Gamma variates.
    gamma = tf.random.stateless_gamma([2, batch], seed, alpha)
    beta = gamma[0] / tf.maximum(gamma[0] + gamma[1], 1e-30)
    weight = tf.maximum(beta, 1.0 - beta)

    mixed: tuple[Arrays, Any] = _compiled(_mix)(arrays, labels, weight)
    return mixed


def _mix(arrays: Arrays, labels: Any, weight: Any) -> tuple[Arrays, Any]:
    # In units of 1 / 65,536: a whole number times 16 bits fits into 32, and pixels and labels have the same weights.
    parts = tf.cast(tf.round(weight * 65_536.0), tf.uint32)

    def mix(values: Any) -> Any:
        own = tf.reshape(parts, [-1] + [1] * (values.shape.rank - 1))
        if values.dtype == tf.uint16:
            mine, other = (tf.cast(v, tf.uint32) for v in (values, tf.roll(values, 1, 0)))
            mixed = mine * own + other * (65_536 - own) + 32_768
            return tf.cast(tf.bitwise.right_shift(mixed, tf.constant(16, tf.uint32)), tf.uint16)
        values = tf.cast(values, tf.float32)
        other = tf.roll(values, 1, 0)
        return other + tf.cast(own, tf.float32) / 65_536.0 * (values - other)

    return {name: mix(array) for name, array in arrays.items()}, mix(labels)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Any:
    """Returns a function as XLA compiles it, once for a process: one loop over the pixels instead of one an operation.

    Seen for patches of 12 bands, alone: orienting 25 to 30 us of CPU where copying the bytes took 17 to 22; mixup by
    TensorFlow's own operations 122 us, compiled 33. A TensorFlow without XLA for this machine runs the same function
    uncompiled.
    """
    return tf.function(function, jit_compile=_has_xla())


@functools.cache
def _has_xla() -> bool:
    with quiet(), tf.init_scope(), tf.device("CPU"):  # XLA announces its first compilation
        try:
            tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(0))
        except tf.errors.OpError:
            return False
    return True
