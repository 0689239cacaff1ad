"""Random fields as pure functions of place and key: a spot of the map has the same value everywhere."""

from __future__ import annotations

import hashlib

import numpy as np


def key(*parts: object) -> int:
    """Returns a key for a named random field, the same on every machine; 56 bits leave room for octaves."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")


def uniform(field: int, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Returns float64 numbers in [0, 1), one for each integer cell (column, row); arrays broadcast.

    The mixing is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    a, b = (np.atleast_1d(np.asarray(cell, np.int64)).view(np.uint64) for cell in (column, row))
    z = a * np.uint64(0x9E3779B97F4A7C15) + b * np.uint64(0xD1B54A32D192ED03) + np.uint64(field)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def smooth(field: int, x: np.ndarray, y: np.ndarray, size: float, octaves: int = 1) -> np.ndarray:
    """Returns smooth noise in -1..1 on a grid, float64 [len(y), len(x)].

    Value noise: random values on a lattice, interpolated with the smoothstep polynomial; each octave has half
    the size and half the height of the one before.

    Args:
        field: key of the field.
        x: eastings of the grid's columns in metres.
        y: northings of its rows in metres.
        size: distance of the lattice points of the first octave in metres.
        octaves: how many to add up.
    """
    total, height = np.zeros((len(y), len(x))), 0.0
    for octave in range(octaves):
        columns, column, across = _cells(x, size / 2**octave)
        rows, row, along = _cells(y, size / 2**octave)
        lattice = 2.0 * uniform(field + octave, columns[None, :], rows[:, None]) - 1.0
        lines = _between(lattice[row], lattice[row + 1], along[:, None])
        total += 0.5**octave * _between(lines[:, column], lines[:, column + 1], across)
        height += 0.5**octave
    return total / height


def _cells(positions: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lattice points around all positions; of each position, the index of the one before, and the part to go."""
    before = np.floor(positions / size).astype(np.int64)
    points = np.arange(before.min(), before.max() + 2)
    return points, before - points[0], positions / size - before


def _between(low: np.ndarray, high: np.ndarray, part: np.ndarray) -> np.ndarray:
    return low + part * part * (3.0 - 2.0 * part) * (high - low)
