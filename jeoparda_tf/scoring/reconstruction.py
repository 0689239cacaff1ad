"""How near an image comes to the true one: RMSE, SRE and UIQ, band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# Side of the windows of UIQ, as Wang & Bovik have them.
WINDOW = 8


@dataclass(frozen=True)
class Quality:
    """Scores, one a band, float64 [bands].

    Attributes:
        rmse: root mean squared error, in the unit of the images.
        sre: signal to reconstruction error, 10 log10(mean of the truth squared / mean squared error), in dB (Lanaras et
            al. 2018); infinite without error.
        uiq: universal image quality index, 1 at best (Wang & Bovik 2002): the mean over all windows.
    """

    rmse: np.ndarray
    sre: np.ndarray
    uiq: np.ndarray


class Reconstruction:
    """Sums over patches as they come; RMSE and SRE are those of all their pixels together, UIQ of all windows.

    Args:
        bands: how many.
        windows: whether to compute UIQ, which takes longest; else it is not a number.
    """

    def __init__(self, bands: int, windows: bool = True):
        self._windows = windows
        self._pixels = self._places = 0
        self._truth, self._squares, self._quality = np.zeros((3, bands))

    def add(self, truth: np.ndarray, image: np.ndarray) -> None:
        """Adds patches, [patches, rows, columns, bands] each, of the same unit."""
        truth, image = truth.astype(np.float64), image.astype(np.float64)
        self._pixels += truth[..., 0].size
        self._truth += truth.sum((0, 1, 2))
        self._squares += np.square(image - truth).sum((0, 1, 2))
        if self._windows:
            for one, other in zip(truth, image):
                values = uiq_of_windows(one, other)
                self._places += len(values)
                self._quality += values.sum(0)

    def result(self) -> Quality:
        """Returns the scores of what was added."""
        error, mean = self._squares / max(self._pixels, 1), self._truth / max(self._pixels, 1)
        with np.errstate(divide="ignore"):
            sre = np.where(error > 0, 20 * np.log10(np.abs(mean)) - 10 * np.log10(error), np.inf)
        uiq = self._quality / self._places if self._places else np.full_like(mean, np.nan)
        return Quality(np.sqrt(error), sre, uiq)


def uiq_of_windows(truth: np.ndarray, image: np.ndarray, size: int = WINDOW) -> np.ndarray:
    """Returns UIQ of every window, 4 s_xy m_x m_y / ((s_x^2 + s_y^2) (m_x^2 + m_y^2)).

    Where neither image varies it is the factor of the means alone, 2 m_x m_y / (m_x^2 + m_y^2), and 1 where both are 0
    there, as in the authors' own code.

    Args:
        truth, image: float64 [rows, columns, bands].
        size: side of the windows in pixels; of a smaller image the one window is the whole.

    Returns:
        float64 [windows, bands].
    """
    size = min(size, *truth.shape[:2])
    x, y = (_windows(a, size) for a in (truth, image))
    mean_x, mean_y = x.mean(2), y.mean(2)
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    spread, common = (x * x + y * y).sum(2), (x * y).sum(2)
    light = mean_x**2 + mean_y**2
    of_means = np.divide(2 * mean_x * mean_y, light, out=np.ones_like(light), where=light > 0)
    of_shapes = np.divide(2 * common, spread, out=np.ones_like(spread), where=spread > 0)
    return of_means * of_shapes


def _windows(image: np.ndarray, size: int) -> np.ndarray:
    """Returns float64 [windows, bands, size * size]."""
    view: Any = sliding_window_view
    return np.asarray(view(image, (size, size), (0, 1)).reshape(-1, image.shape[2], size * size))
