"""The shallow CNN of the BigEarthNet paper (Sumbul et al. 2019, IGARSS, doi:10.1109/IGARSS.2019.8900532).

There: three convolutions of 32, 32 and 64 filters of 5 x 5, 5 x 5 and 3 x 3, each followed by max-pooling, one fully
connected layer and the output; on RGB (S-CNN-RGB), or on all bands brought to 10 m by cubic interpolation (S-CNN-All).
Ours where the paper is silent: "same" padding, pooling of 2 x 2, ReLU, 128 units (as in the same authors' K-Branch
CNN), no batch normalisation.
"""

from __future__ import annotations

from typing import Any

from ..stack import tf
from .layers import Style, relu

UNITS = 128


def features(image: Any, style: Style) -> Any:
    """Returns [batch, 128] of an image [batch, rows, columns, channels] of at least 8 x 8 pixels."""
    x = image
    for number, (filters, size) in enumerate(((32, 5), (32, 5), (64, 3)), start=1):
        x = relu(style.conv(x, filters, size, f"conv{number}", padding="same"), f"conv{number}_relu")
        x = tf.keras.layers.MaxPooling2D(2, name=f"pool{number}_pool")(x)
    return relu(style.dense(tf.keras.layers.Flatten(name="flatten")(x), UNITS, "fc1"), "fc1_relu")
