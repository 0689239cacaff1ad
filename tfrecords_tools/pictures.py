"""Arrays of bands -> pictures: stack the display bands on one grid and stretch their contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .manifest import Feature


def composite(
    arrays: Mapping[str, np.ndarray], features: Sequence[Feature], bands: Sequence[str]
) -> np.ndarray:
    """Stacks bands on the finest grid among them; coarser ones are repeated (nearest), so no pixel is invented.

    Args:
        arrays: by feature name, [rows, columns, bands].
        features: which bands each array has.
        bands: names of the channels, in the order wanted.

    Returns:
        float32 [rows, columns, len(bands)] in the units of the data.

    Raises:
        KeyError: no feature holds a band.
    """
    holder = {name: feature for feature in features for name in feature.band_names}
    layers = [arrays[holder[band].name][..., holder[band].band_names.index(band)] for band in bands]
    rows, columns = max(layer.shape for layer in layers)
    return np.stack([_nearest(layer, rows, columns) for layer in layers], axis=-1).astype(np.float32)


def _nearest(layer: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return layer[np.arange(rows) * layer.shape[0] // rows][:, np.arange(columns) * layer.shape[1] // columns]


def stretch(array: np.ndarray, low: float = 2, high: float = 98) -> np.ndarray:
    """Stretches each channel between two of its percentiles, for the eye: values of two pictures do not compare.

    Args:
        array: numbers of any type [rows, columns, channels]; NaN counts for nothing and becomes 0.
        low, high: percentiles that become 0 and 1.

    Returns:
        float32 of the same shape, within 0..1; a constant channel becomes 0.5.
    """
    values = array.astype(np.float32)
    pixels = values.reshape(-1, values.shape[-1])
    known = [channel[np.isfinite(channel)] for channel in pixels.T]
    ends = np.array(
        [np.percentile(channel, (low, high)) if channel.size else (0, 0) for channel in known], np.float32
    )
    bottom, extent = ends[:, 0], ends[:, 1] - ends[:, 0]
    scaled = np.where(extent > 0, (values - bottom) / np.where(extent > 0, extent, 1), np.float32(0.5))
    return np.nan_to_num(np.clip(scaled, 0, 1), nan=0.0).astype(np.float32)
