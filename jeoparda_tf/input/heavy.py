"""Heavy augmentation: shift, crop, cutout, brightness, gain and noise, as pure functions of batches.

Everything that moves pixels does so by whole cells of the 60 m grid, that is by multiples of 6 pixels at 10 m, 3 at
20 m and 1 at 60 m: what lies at one place in one resolution lies there in all. A patch keeps its size: beyond an edge
it is mirrored, the edge's pixels repeated, which maps whole cells onto whole cells too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stack import tf
from .augment import Arrays

# Metres of the cells that everything is aligned to.
_CELL = 60
# Cells by which a patch is shifted at most, in each direction; share of a side that a crop leaves at least; longest
# side of the square that is cut out, as a share of the patch's.
_SHIFT, _CROP, _CUTOUT = 2, 0.75, 0.25
# Largest change of all bands of a patch together, and of each by itself, as a share of its value: Sentinel-2 only,
# whose numbers are proportional to reflectance; Sentinel-1 is in dB.
_BRIGHTNESS, _GAIN = 0.1, 0.05
# Standard deviation of the noise: in digital numbers (0.002 of reflectance), and in dB.
_NOISE_S2, _NOISE_S1 = 20.0, 0.2


def heavy(arrays: Arrays, gsd: Mapping[str, int], seed: Any) -> Arrays:
    """Shifts, crops, cuts out, brightens and blurs with noise every patch of a batch, each by its own draws.

    Args:
        arrays: by feature name, [batch, rows, columns, bands], rows = columns, raw digital numbers or dB.
        gsd: ground sampling distance of each in metres, a divisor of 60.
        seed: int tensor [2]; the same seed gives the same patches.

    Returns:
        float32 arrays of the same names and shapes.
    """
    seeds = tf.unstack(tf.random.split(seed, 3))
    moved = _move(arrays, gsd, seeds[0])
    return _jitter(_cut_out(moved, gsd, seeds[1]), seeds[2])


def _cells(arrays: Arrays, gsd: Mapping[str, int]) -> tuple[int, Any]:
    """Returns the cells of a patch's side, and the batch's size."""
    name, array = next(iter(arrays.items()))
    return array.shape[1] * gsd[name] // _CELL, tf.shape(array)[0]


def _draw(uniform: Any, low: Any, high: Any) -> Any:
    """Turns numbers of [0, 1) into int32 of low..high, both included, all alike likely."""
    width = tf.cast(high - low + 1, tf.float32)
    return low + tf.cast(tf.floor(uniform * width), tf.int32)


def _move(arrays: Arrays, gsd: Mapping[str, int], seed: Any) -> Arrays:
    """Shifts each patch over a random window of itself, mirrored at the window's edges: shift and crop in one."""
    cells, batch = _cells(arrays, gsd)
    uniform = tf.random.stateless_uniform([3, 2, batch], seed)
    shift = _draw(uniform[0], tf.constant(-_SHIFT), tf.constant(_SHIFT))
    length = _draw(uniform[1], tf.constant(int(_CROP * cells)), tf.constant(cells))
    start = _draw(uniform[2], tf.zeros_like(length), cells - length)
    moved = {}
    for name, array in arrays.items():
        pixels = _CELL // gsd[name]
        # [axis, batch, place]: the pixel that comes to each place.
        place = tf.range(array.shape[1]) + (shift - start)[..., None] * pixels
        turned = tf.math.floormod(place, 2 * length[..., None] * pixels)
        inside = tf.minimum(turned, 2 * length[..., None] * pixels - 1 - turned)
        source = inside + start[..., None] * pixels
        array = tf.gather(array, source[0], axis=1, batch_dims=1)
        moved[name] = tf.gather(array, source[1], axis=2, batch_dims=1)
    return moved


def _cut_out(arrays: Arrays, gsd: Mapping[str, int], seed: Any) -> Arrays:
    """Gives a random square of each patch the mean of the patch, band by band (DeVries and Taylor 2017, Cutout)."""
    cells, batch = _cells(arrays, gsd)
    uniform = tf.random.stateless_uniform([3, batch], seed)
    side = _draw(uniform[0], tf.constant(1), tf.constant(max(1, int(_CUTOUT * cells))))
    corner = [_draw(u, tf.zeros_like(side), cells - side) for u in (uniform[1], uniform[2])]
    out = {}
    for name, array in arrays.items():
        values = tf.cast(array, tf.float32)
        cell = tf.range(array.shape[1]) // (_CELL // gsd[name])
        rows, columns = ((cell >= c[:, None]) & (cell < (c + side)[:, None]) for c in corner)
        hidden = (rows[:, :, None] & columns[:, None, :])[..., None]
        out[name] = tf.where(hidden, tf.reduce_mean(values, [1, 2], keepdims=True), values)
    return out


def _jitter(arrays: Arrays, seed: Any) -> Arrays:
    """Changes brightness and gains of Sentinel-2, and adds noise to all; digital numbers stay within uint16."""
    batch = tf.shape(next(iter(arrays.values())))[0]
    brightness = tf.random.stateless_uniform([batch, 1, 1, 1], seed, -_BRIGHTNESS, _BRIGHTNESS)
    out = {}
    # In the order of names: what a band gets does not depend on which other bands were asked for first.
    for number, name in enumerate(sorted(arrays)):
        array = arrays[name]
        gain_seed, noise_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, number)))
        noise = tf.random.stateless_normal(tf.shape(array), noise_seed)
        if name.startswith("s1"):
            out[name] = array + _NOISE_S1 * noise
            continue
        gain = tf.random.stateless_uniform([batch, 1, 1, array.shape[3]], gain_seed, -_GAIN, _GAIN)
        bright = array * (1.0 + brightness) * (1.0 + gain)
        out[name] = tf.clip_by_value(bright + _NOISE_S2 * noise, 0.0, 65_535.0)
    return {name: out[name] for name in arrays}
