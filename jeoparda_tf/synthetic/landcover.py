"""Which class lies where: Voronoi regions with crumpled borders, in landscapes of related classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..bigearthnet.nomenclature import CLASSES
from . import noise

# Distance of the regions' seeds in metres: a patch of 1,200 m has about three labels, as in the archive.
_REGION = 1450.0
_CRUMPLE = 650.0  # how far borders are pushed about
_LANDSCAPE = 5  # regions along a landscape's edge
_LOYALTY = 0.7  # of a landscape's regions that are of its own CORINE level 1
# Classes are drawn in proportion to the archive's patch counts to this power. With 1 (662:1) most rare
# classes would not occur at all in a few hundred patches; the square root keeps an imbalance of 26:1.
_TEMPER = 0.5

_LEVEL1 = np.array([c.code // 100 - 1 for c in CLASSES])
_WEIGHTS = np.array([c.patches for c in CLASSES], float) ** _TEMPER
_WEIGHTS /= _WEIGHTS.sum()


def _class_distributions() -> np.ndarray:
    """Cumulative class probabilities by landscape, float64 [5, 43]; together they give the weights."""
    own = np.where(np.arange(5)[:, None] == _LEVEL1, _WEIGHTS, 0.0)
    mixed = _LOYALTY * own / own.sum(1, keepdims=True) + (1.0 - _LOYALTY) * _WEIGHTS
    return np.cumsum(mixed, axis=1)


_LANDSCAPES = np.cumsum(np.bincount(_LEVEL1, _WEIGHTS))
_CLASSES = _class_distributions()


class Regions(NamedTuple):
    """For each spot, int64 [rows, columns]: index into CLASSES, column and row of its region."""

    classes: np.ndarray
    column: np.ndarray
    row: np.ndarray


def regions(seed: int, zone: int, x: np.ndarray, y: np.ndarray) -> Regions:
    """Returns the regions on a grid.

    Args:
        seed: of the archive.
        zone: UTM zone, each with a landscape of its own.
        x: eastings of the grid's columns in metres.
        y: northings of its rows in metres.
    """
    column, row = _nearest(seed, zone, x, y)
    columns, rows = (np.arange(cell.min(), cell.max() + 1) for cell in (column, row))
    classes = _class_of(seed, zone, columns[None, :], rows[:, None])
    return Regions(classes[row - rows[0], column - columns[0]], column, row)


def _nearest(seed: int, zone: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell (column, row) of the seed next to each spot, after the plane has been crumpled."""
    shift_east, shift_north = (
        _CRUMPLE * noise.smooth(noise.key(seed, zone, "crumple", axis), x, y, 900.0, octaves=5)
        for axis in (0, 1)
    )
    east, north = (x[None, :] + shift_east) / _REGION, (y[:, None] + shift_north) / _REGION
    cells = np.floor(north).astype(np.int64), np.floor(east).astype(np.int64)
    rows, columns = (np.arange(cell.min() - 1, cell.max() + 2) for cell in cells)
    seed_east = columns[None, :] + noise.uniform(
        noise.key(seed, zone, "east"), columns[None, :], rows[:, None]
    )
    seed_north = rows[:, None] + noise.uniform(
        noise.key(seed, zone, "north"), columns[None, :], rows[:, None]
    )
    nearest = np.full(east.shape, np.inf)
    row, column = np.zeros_like(cells[0]), np.zeros_like(cells[1])
    for step in np.ndindex(3, 3):
        j, i = (cell - along[0] + s - 1 for cell, along, s in zip(cells, (rows, columns), step))
        distance = (east - seed_east[j, i]) ** 2 + (north - seed_north[j, i]) ** 2
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        row, column = np.where(closer, j, row), np.where(closer, i, column)
    return column + columns[0], row + rows[0]


def _class_of(seed: int, zone: int, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Draws the class of each region, the same wherever it is asked for."""
    landscape = noise.uniform(noise.key(seed, zone, "landscape"), column // _LANDSCAPE, row // _LANDSCAPE)
    kind = np.searchsorted(_LANDSCAPES[:-1], landscape, side="right")
    draw = noise.uniform(noise.key(seed, zone, "class"), column, row)
    return (draw[..., None] >= _CLASSES[kind][..., :-1]).sum(-1)
