"""Scores of a scene tile by tile, overlapped by half and blended with fixed weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrecords_tools import cli

from ..models.pixels import interpolation_matrix
from .scene import Scene

# The 60 m bands must start a pixel where a tile starts.
_ALIGN = 60


def starts(length: int, tile: int, align: int) -> list[int]:
    """Returns where the tiles along one side begin: every half tile, the last so that it ends with the scene.

    Args:
        length: of the side in pixels.
        tile: likewise.
        align: tiles begin at multiples of this; the last may reach over the end by less.
    """
    last = -(-max(length - tile, 0) // align) * align
    return [*range(0, last, tile // 2), last]


def weights(tile: int) -> np.ndarray:
    """Returns float32 [tile, tile], highest in the middle: of a tile's border little is known."""
    slope = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    return np.outer(slope, slope).astype(np.float32) / np.float32((tile / 2) ** 2)


def probabilities(
    logits_map: Any, scene: Scene, tile: int, batch: int, exclusive: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields a scene's scores in strips from the top.

    Where tiles lie and how they are blended depends on the scene alone. So do the numbers, to the last bit where the
    model computes a tile the same whatever is beside it in the batch, as TensorFlow was seen to do on CPUs.

    Args:
        logits_map: of `dense.logits_map`.
        scene: to read.
        tile: pixels of the model's input on the map's grid.
        batch: tiles seen at once.
        exclusive: whether a pixel has one class alone, so that its scores are a softmax; else each is a sigmoid.

    Yields:
        first row, float32 [classes, rows, columns] in 0..1, bool [rows, columns] where the scene has no data.
    """
    rows, columns = scene.grid.shape
    align = max(_ALIGN // scene.gsd, 1)
    tops, lefts = starts(rows, tile, align), starts(columns, tile, align)
    window, width = weights(tile), lefts[-1] + tile
    matrix: Any = None
    total, norm, empty = None, np.zeros((tile, width), np.float32), np.zeros((tile, width), bool)
    bar = tqdm(
        total=len(tops) * len(lefts),
        desc="mapping",
        unit="tile",
        disable=None if cli.is_first_rank() else True,
    )
    for number, top in enumerate(tops):
        queue = iter(lefts)
        while part := list(itertools.islice(queue, batch)):
            read = [scene.read(top, left, tile) for left in part]
            # Filled up to the same size, so that the model is compiled once.
            fill = [read[0]] * (batch - len(read))
            inputs = {name: np.stack([arrays[name] for arrays, _ in read + fill]) for name in read[0][0]}
            logits = logits_map.predict_on_batch(inputs)
            if total is None:
                total = np.zeros((logits.shape[-1], tile, width), np.float32)
                matrix = enlarge(logits.shape[1], tile)
            for left, values, (_, missing) in zip(part, logits, read):
                pixels = np.einsum("yr,rcn,xc->nyx", matrix, values, matrix, optimize=True)
                scores = softmax(pixels) if exclusive else 1 / (1 + np.exp(-pixels))
                total[:, :, left : left + tile] += scores * window
                norm[:, left : left + tile] += window
                empty[:, left : left + tile] |= missing
            bar.update(len(part))
        assert total is not None  # there is a tile at least
        done = (tops[number + 1] if number + 1 < len(tops) else rows) - top
        yield top, total[:, :done, :columns] / norm[:done, :columns], empty[:done, :columns]
        for array, filler in ((total, 0), (norm, 0), (empty, False)):
            array[..., : tile - done, :] = array[..., done:tile, :].copy()
            array[..., tile - done :, :] = filler
    bar.close()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns exp(x) over its sum along the first axis, that of the classes."""
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def enlarge(places: int, tile: int) -> np.ndarray:
    """Returns float32 [tile, places], bilinear; the places of the map share the tile out evenly."""
    factor = -(-tile // places)
    matrix = interpolation_matrix(places, factor, "bilinear")
    chosen = np.minimum(((np.arange(tile) + 0.5) * places * factor / tile).astype(int), places * factor - 1)
    return matrix[chosen].astype(np.float32)
