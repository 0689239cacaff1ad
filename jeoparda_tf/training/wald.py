"""Wald's protocol (Wald et al. 1997): what lacks a truth at its own scale is learned and scored one scale down.

All bands are degraded by the factor that a network undoes, so the coarse bands as they were measured are the truth, and
guides and input stand to each other as they do at full scale. Degraded as by Lanaras et al. 2018: a Gaussian of
standard deviation 1 / factor pixels, which they chose for the sensor's modulation transfer, then the mean of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..models.superres_spec import FINEST, GUIDES
from ..stack import tf


def degrading_matrix(size: int, factor: int) -> np.ndarray:
    """Returns the float64 matrix [size / factor, size] that degrades a row of pixels; borders are mirrored."""
    sigma = 1.0 / factor
    reach = min(int(np.ceil(4 * sigma)), size)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    blur = np.zeros((size, size))
    for pixel in range(size):
        for shift, weight in zip(range(-reach, reach + 1), weights):
            place = pixel + shift
            # ... 1 0 | 0 1 2 ... : every pixel keeps the sum of its weights, so the mean of an image is kept.
            place = -1 - place if place < 0 else 2 * size - 1 - place if place >= size else place
            blur[pixel, place] += weight
    return blur.reshape(size // factor, factor, size).mean(1)


def degrade(x: Any, factor: int) -> Any:
    """Returns a float32 image [batch, rows, columns, bands] on a grid coarser by a whole factor that divides it."""
    rows, columns = (tf.constant(degrading_matrix(size, factor), tf.float32) for size in x.shape[1:3])
    return tf.einsum("ry,byxn,cx->brcn", rows, tf.cast(x, tf.float32), columns)


def side(pixels: int, gsd: int) -> int:
    """Returns how many of a row's coarse pixels can be degraded: whole blocks of them (18 of 20 at 60 m)."""
    factor = gsd // FINEST
    return pixels // factor * factor


def pair(arrays: Mapping[int, Any], gsd: int, offset: tuple[Any, Any] = (0, 0)) -> tuple[dict[int, Any], Any]:
    """Makes what a network sees one scale down, and the truth for it.

    Args:
        arrays: by ground sampling distance, [batch, rows, columns, bands], digital numbers.
        gsd: of the bands to sharpen, in metres.
        offset: first row and column of the crop in pixels of these bands; at most what `side` leaves over.

    Returns:
        the degraded arrays of the network's inputs, by the distance they had before; float32 [batch, rows, columns,
        bands], the coarse bands as they were.
    """
    factor, size = gsd // FINEST, side(arrays[gsd].shape[1], gsd)
    cropped = {}
    for own in GUIDES[gsd]:
        many = gsd // own
        array = tf.cast(arrays[own], tf.float32)
        if size * many < array.shape[1]:
            begin = [0, offset[0] * many, offset[1] * many, 0]
            array = tf.slice(array, begin, [-1, size * many, size * many, -1])
            array = tf.ensure_shape(array, [None, size * many, size * many, arrays[own].shape[3]])
        cropped[own] = array
    return {own: degrade(array, factor) for own, array in cropped.items()}, cropped[gsd]
