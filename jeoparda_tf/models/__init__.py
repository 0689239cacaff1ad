"""Models by name. Each takes raw digital numbers and gives scores; all that defines one stands in its ModelSpec."""

from __future__ import annotations

from typing import Any, Callable, Optional, get_args

from tfrecords_tools.errors import UsageError

from .spec import ModelSpec, Name

NAMES: tuple[str, ...] = get_args(Name)


def build(spec: ModelSpec, norm: Optional[Callable[[str], Any]] = None) -> Any:
    """Builds a model with fresh weights.

    Args:
        spec: what to build.
        norm: makes a normalisation layer of a given name; None for Keras' batch normalisation.

    Returns:
        tf.keras.Model: takes a dict of [batch, *shape] by feature name, raw digital numbers; gives sigmoid scores,
        float32 [batch, classes]. The layer "logits" holds them before the sigmoid.

    Raises:
        UsageError: unknown name.
    """
    from ..stack import tf
    from . import head, layers

    if spec.name not in NAMES:
        raise UsageError(f"unknown model {spec.name!r}", remedy=f"known are: {', '.join(NAMES)}")
    style = layers.Style(spec.l2, norm or layers.batch_norm, spec.dropout, spec.seed)
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(spec.precision)
    try:
        arrays, features = _features(spec, style)
        scores = head.classifier(features, len(spec.nomenclature.classes), style)
        return tf.keras.Model(arrays, scores, name=spec.name)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _features(spec: ModelSpec, style: Any) -> tuple[dict[str, Any], Any]:
    """Returns the model's inputs by feature name, and the vector [batch, n] that the last layer classifies."""
    from . import head, inputs, kbranch, resnet, shallow

    if spec.name == "kbranch":
        arrays, images = inputs.native_images(spec)
        return arrays, kbranch.features(images, style)
    arrays, image = inputs.image(spec)
    if spec.name == "shallow":
        return arrays, shallow.features(image, style)
    maps = resnet.BACKBONES[spec.name](image, style)
    return arrays, head.pool(list(maps.values())[-1])
