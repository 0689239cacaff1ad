"""Residual networks (He et al. 2016, arXiv:1512.03385) with the layers and names of keras.applications.

The same names, so that published weights load by name; the stride stands in the first 1 x 1 convolution of a stage,
as it does there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from ..stack import tf
from .layers import Style, relu

FeatureMaps = dict[str, Any]
# (input, filters, strides, project, name, style) -> output
Block = Callable[[Any, int, int, bool, str, Style], Any]
PLAIN = Style()


def _conv_norm(
    x: Any, filters: int, size: int, name: str, style: Style, strides: int = 1, padding: str = "valid"
) -> Any:
    return style.normalise(style.conv(x, filters, size, name, strides=strides, padding=padding), name)


def bottleneck(x: Any, filters: int, strides: int, project: bool, name: str, style: Style) -> Any:
    """1 x 1, 3 x 3, 1 x 1 convolutions to 4 * filters channels, added to the input (projected where it changes)."""
    shortcut = _conv_norm(x, 4 * filters, 1, f"{name}_0", style, strides) if project else x
    x = relu(_conv_norm(x, filters, 1, f"{name}_1", style, strides), f"{name}_1_relu")
    x = relu(_conv_norm(x, filters, 3, f"{name}_2", style, padding="same"), f"{name}_2_relu")
    x = _conv_norm(x, 4 * filters, 1, f"{name}_3", style)
    return relu(tf.keras.layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def basic(x: Any, filters: int, strides: int, project: bool, name: str, style: Style) -> Any:
    """Two 3 x 3 convolutions, added to the input (projected where it changes)."""
    shortcut = _conv_norm(x, filters, 1, f"{name}_0", style, strides) if project else x
    x = relu(_conv_norm(x, filters, 3, f"{name}_1", style, strides, "same"), f"{name}_1_relu")
    x = _conv_norm(x, filters, 3, f"{name}_2", style, padding="same")
    return relu(tf.keras.layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def resnet(image: Any, block: Block, depths: Sequence[int], width: int, style: Style) -> FeatureMaps:
    """Builds the backbone: a 7 x 7 convolution, pooling, and stages of blocks.

    Args:
        image: [batch, rows, columns, channels].
        block: `basic` or `bottleneck`.
        depths: blocks of each stage.
        width: filters of the first stage, doubled from stage to stage.
        style: of the layers.

    Returns:
        feature maps by stage, "conv2" the finest (stride 4), the last one the coarsest (stride 32 after four stages).
    """
    x = tf.keras.layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = relu(_conv_norm(x, width, 7, "conv1", style, strides=2), "conv1_relu")
    x = tf.keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = tf.keras.layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    maps: FeatureMaps = {}
    for stage, depth in enumerate(depths, start=2):
        for number in range(1, depth + 1):
            strides = 2 if number == 1 and stage > 2 else 1
            filters = width * 2 ** (stage - 2)
            project = strides > 1 or (number == 1 and block is bottleneck)
            x = block(x, filters, strides, project, f"conv{stage}_block{number}", style)
        maps[f"conv{stage}"] = x
    return maps


def resnet18(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """18 layers of basic blocks, 11.2 million weights."""
    return resnet(image, basic, (2, 2, 2, 2), 64, style)


def resnet34(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """34 layers of basic blocks, 21.3 million weights."""
    return resnet(image, basic, (3, 4, 6, 3), 64, style)


def resnet50(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """50 layers, 23.6 million weights."""
    return resnet(image, bottleneck, (3, 4, 6, 3), 64, style)


def resnet101(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """101 layers, 42.7 million weights."""
    return resnet(image, bottleneck, (3, 4, 23, 3), 64, style)


def resnet152(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """152 layers, 58.4 million weights."""
    return resnet(image, bottleneck, (3, 8, 36, 3), 64, style)


def tiny(image: Any, style: Style = PLAIN) -> FeatureMaps:
    """For tests: every kind of layer of the others in 6,000 weights."""
    return resnet(image, bottleneck, (1, 1), 8, style)


# What `--model` may name.
BACKBONES: dict[str, Callable[[Any, Style], FeatureMaps]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "tiny": tiny,
}
