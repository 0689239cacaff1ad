"""Residual networks (He et al. 2016, arXiv:1512.03385) with the layers and names of keras.applications.

The same names, so that published weights load by name; the stride stands in the first 1 x 1 convolution of a stage,
as it does there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from ..stack import tf

FeatureMaps = dict[str, Any]
# (input, filters, strides, project, name, l2) -> output
Block = Callable[[Any, int, int, bool, str, float], Any]


def _conv(
    x: Any, filters: int, size: int, name: str, l2: float, strides: int = 1, padding: str = "valid"
) -> Any:
    regularizer = tf.keras.regularizers.L2(l2) if l2 else None
    return tf.keras.layers.Conv2D(
        filters, size, strides, padding, kernel_regularizer=regularizer, name=f"{name}_conv"
    )(x)


def _norm(x: Any, name: str) -> Any:
    return tf.keras.layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)


def _relu(x: Any, name: str) -> Any:
    return tf.keras.layers.ReLU(name=name)(x)


def bottleneck(x: Any, filters: int, strides: int, project: bool, name: str, l2: float) -> Any:
    """1 x 1, 3 x 3, 1 x 1 convolutions to 4 * filters channels, added to the input (projected where it changes)."""
    shortcut = _norm(_conv(x, 4 * filters, 1, f"{name}_0", l2, strides), f"{name}_0") if project else x
    x = _relu(_norm(_conv(x, filters, 1, f"{name}_1", l2, strides), f"{name}_1"), f"{name}_1_relu")
    x = _relu(_norm(_conv(x, filters, 3, f"{name}_2", l2, padding="same"), f"{name}_2"), f"{name}_2_relu")
    x = _norm(_conv(x, 4 * filters, 1, f"{name}_3", l2), f"{name}_3")
    return _relu(tf.keras.layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def basic(x: Any, filters: int, strides: int, project: bool, name: str, l2: float) -> Any:
    """Two 3 x 3 convolutions, added to the input (projected where it changes)."""
    shortcut = _norm(_conv(x, filters, 1, f"{name}_0", l2, strides), f"{name}_0") if project else x
    x = _relu(_norm(_conv(x, filters, 3, f"{name}_1", l2, strides, "same"), f"{name}_1"), f"{name}_1_relu")
    x = _norm(_conv(x, filters, 3, f"{name}_2", l2, padding="same"), f"{name}_2")
    return _relu(tf.keras.layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def resnet(image: Any, block: Block, depths: Sequence[int], width: int, l2: float) -> FeatureMaps:
    """Builds the backbone: a 7 x 7 convolution, pooling, and stages of blocks.

    Args:
        image: [batch, rows, columns, channels].
        block: `basic` or `bottleneck`.
        depths: blocks of each stage.
        width: filters of the first stage, doubled from stage to stage.
        l2: factor of the squared norm of the kernels.

    Returns:
        feature maps by stage, "conv2" the finest (stride 4), the last one the coarsest (stride 32 after four stages).
    """
    x = tf.keras.layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = _relu(_norm(_conv(x, width, 7, "conv1", l2, strides=2), "conv1"), "conv1_relu")
    x = tf.keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = tf.keras.layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    maps: FeatureMaps = {}
    for stage, depth in enumerate(depths, start=2):
        for number in range(1, depth + 1):
            strides = 2 if number == 1 and stage > 2 else 1
            filters = width * 2 ** (stage - 2)
            project = strides > 1 or (number == 1 and block is bottleneck)
            x = block(x, filters, strides, project, f"conv{stage}_block{number}", l2)
        maps[f"conv{stage}"] = x
    return maps


def resnet18(image: Any, l2: float) -> FeatureMaps:
    """18 layers of basic blocks, 11.2 million weights."""
    return resnet(image, basic, (2, 2, 2, 2), 64, l2)


def resnet50(image: Any, l2: float) -> FeatureMaps:
    """50 layers, 23.6 million weights."""
    return resnet(image, bottleneck, (3, 4, 6, 3), 64, l2)


def tiny(image: Any, l2: float) -> FeatureMaps:
    """For tests: every kind of layer of the others in 6,000 weights."""
    return resnet(image, bottleneck, (1, 1), 8, l2)
