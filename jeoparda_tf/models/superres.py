"""Super-resolution to 10 m in the manner of DSen2 (Lanaras et al. 2018, arXiv:1803.04271).

A convolutional network sees the finer bands beside the bicubically enlarged coarse ones and gives what is missing in
these: one network for 20 m bands with those of 10 m as guides, one for 60 m bands with 10 and 20 m. As there:
convolutions of 3 x 3, residual blocks of two, the enlarged bands added at the end. Ours: 3 blocks of 32 filters (there
6 of 128), no factor of 0.1 on the blocks, bands normalised (there divided by 2,000), bicubic (there bilinear), and a
last convolution that begins at zero, so that an untrained network is bicubic interpolation, exactly.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrecords_tools.errors import DataError

from ..stack import tf
from .pixels import Normalise, Upsample
from .superres_spec import FINEST, GUIDES, PREFIX, SuperRes


class Network(tf.Module):
    """The network of one resolution; the same layers serve images of any size.

    Args:
        spec: of it.
        gsd: of the bands that it sharpens, in metres.
    """

    def __init__(self, spec: SuperRes, gsd: int):
        super().__init__(name=f"{PREFIX}{gsd}")
        self.spec, self.gsd = spec, gsd
        names = ["in", *(f"block{block}_{half}" for block in range(1, spec.blocks + 1) for half in (1, 2))]
        self.convolutions = [
            self._conv(name, spec.filters, kernel_initializer="he_uniform") for name in names
        ]
        bands = len(spec.bands(gsd))
        self.last = self._conv("out", bands, kernel_initializer="zeros", dtype="float32")

    def _conv(self, name: str, filters: int, **settings: Any) -> Any:
        return tf.keras.layers.Conv2D(
            filters, 3, padding="same", trainable=self.spec.trainable, name=f"{self.name}_{name}", **settings
        )

    @property
    def layers(self) -> list[Any]:
        return [*self.convolutions, self.last]

    def build(self) -> None:
        """Makes the weights, without an image."""
        seen = sum(len(self.spec.bands(gsd)) for gsd in GUIDES[self.gsd])
        for layer in self.layers:
            if not layer.built:
                layer.build((None, None, None, seen))
            seen = layer.filters

    def __call__(self, arrays: Mapping[int, Any]) -> Any:
        """Returns what the enlarged bands lack.

        Args:
            arrays: by ground sampling distance, [batch, rows, columns, bands] with all bands of `spec.bands`, raw
                digital numbers. Their sizes must be as 1 / distance; degraded all alike, they may be of any scale.

        Returns:
            float32 [batch, rows, columns, bands] on the finest grid, in units of the standard deviation of each band.
        """
        images = [self._enlarged(arrays[gsd], gsd) for gsd in GUIDES[self.gsd]]
        x = tf.keras.layers.Concatenate(name=f"{self.name}_bands")(images)
        first, *rest = self.convolutions
        x = self._relu(first(x), first)
        for one, two in zip(rest[::2], rest[1::2]):
            x = tf.keras.layers.Add(name=f"{two.name}_add")([x, two(self._relu(one(x), one))])
        return self.last(x)

    def _enlarged(self, array: Any, gsd: int) -> Any:
        mean, std = zip(*(self.spec.statistics[band] for band in self.spec.bands(gsd)))
        name = f"{self.name}_{gsd}m"
        image = Normalise(list(range(len(mean))), list(mean), list(std), name=f"{name}_normalise")(array)
        factor = gsd // FINEST
        return Upsample(factor, "bicubic", name=f"{name}_upsample")(image) if factor > 1 else image

    @staticmethod
    def _relu(x: Any, layer: Any) -> Any:
        return tf.keras.layers.ReLU(name=f"{layer.name}_relu")(x)


def sharpened(network: Network, arrays: Mapping[int, Any]) -> tuple[Any, Any]:
    """Returns a network's bands on the finest grid, enlarged bicubically, and sharpened: both in digital numbers."""
    bicubic = Upsample(network.gsd // FINEST, "bicubic")(tf.cast(arrays[network.gsd], tf.float32))
    spread = tf.constant(
        [network.spec.statistics[band][1] for band in network.spec.bands(network.gsd)], tf.float32
    )
    return bicubic, bicubic + network(arrays) * spread


def packed(networks: Sequence[Network]) -> tuple[bytes, str]:
    """Returns the weights as the bytes of an .npz (arrays alone, no code), and their SHA-256."""
    layers = [layer for network in networks for layer in network.layers]
    arrays = {
        f"{layer.name}/{part}": value
        for layer in layers
        for part, value in zip(("kernel", "bias"), layer.get_weights())
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()


def load(layers: Sequence[Any], spec: SuperRes, path: Path) -> None:
    """Puts the weights of a file into the layers of networks; others than theirs are left alone.

    Raises:
        DataError: the file is missing, damaged, or another one than the spec tells.
    """
    remedy = "train the network again, or copy its folder again, whole"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path, remedy=remedy) from error
    if hashlib.sha256(content).hexdigest() != spec.sha256:
        raise DataError("has changed since it was written (SHA-256)", path=path, remedy=remedy)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for layer in layers:
                if layer.name.startswith(PREFIX) and isinstance(layer, tf.keras.layers.Conv2D):
                    layer.set_weights([arrays[f"{layer.name}/kernel"], arrays[f"{layer.name}/bias"]])
    except (KeyError, ValueError) as error:
        raise DataError(f"not the weights of these networks: {error}", path=path, remedy=remedy) from error
