"""The K-Branch CNN (Sumbul & Demir 2019, IGARSS, arXiv:1902.11274): a branch a resolution, at its native size.

Layers as in the authors' published TensorFlow code for BigEarthNet, without the attention of the paper's whole system:
three convolutions and 128 units a branch, the branches joined late by 128 more; batch normalisation, ReLU and dropout
after each. Its rates (0.25 after convolutions, 0.5 before the output) are those of `--dropout 0.5`. Ours: bands of
Sentinel-1 go with those of 10 m, resolutions without a band have no branch, and the dropouts of each branch's units are
those of its convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stack import tf
from .head import StatelessDropout
from .layers import Style, relu

UNITS = 128
# (filters, kernel, pooled afterwards) of the convolutions, by ground sampling distance in metres.
_BRANCHES = {
    10: ((32, 5, True), (32, 5, True), (64, 3, False)),
    20: ((32, 3, True), (32, 3, False), (64, 3, False)),
    60: ((32, 2, False), (32, 2, False), (32, 2, False)),
}


def features(images: Mapping[int, Any], style: Style) -> Any:
    """Returns [batch, 128] of normalised images [batch, rows, columns, channels] by ground sampling distance."""
    branches = [_branch(image, gsd, style) for gsd, image in images.items()]
    x = branches[0]
    if len(branches) > 1:
        x = tf.keras.layers.Concatenate(name="fusion_concat")(branches)
    return _finish(style.dense(x, UNITS, "fusion"), "fusion", style, 99)


def _branch(x: Any, gsd: int, style: Style) -> Any:
    for number, (filters, size, pooled) in enumerate(_BRANCHES[gsd], start=1):
        name = f"branch{gsd}_conv{number}"
        x = relu(style.normalise(style.conv(x, filters, size, name, padding="same"), name), f"{name}_relu")
        if pooled:
            x = tf.keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = _dropout(x, name, style, 10 * gsd + number)
    x = tf.keras.layers.Flatten(name=f"branch{gsd}_flatten")(x)
    return _finish(style.dense(x, UNITS, f"branch{gsd}_fc"), f"branch{gsd}_fc", style, 10 * gsd)


def _finish(x: Any, name: str, style: Style, number: int) -> Any:
    return _dropout(relu(style.normalise(x, name), f"{name}_relu"), name, style, number)


def _dropout(x: Any, name: str, style: Style, number: int) -> Any:
    # A seed of its own for each layer: the same masks everywhere would be no independent draws.
    return StatelessDropout(style.dropout / 2, style.seed + 1_000_003 * number, name=f"{name}_dropout")(x)
