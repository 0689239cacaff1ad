"""Models by name. Each takes raw digital numbers and gives scores; all that defines one stands in its ModelSpec."""

from __future__ import annotations

from typing import Any

from tfrecords_tools.errors import UsageError

from .spec import ModelSpec

NAMES = ("resnet18", "resnet50", "tiny")


def build(spec: ModelSpec) -> Any:
    """Builds a model with fresh weights.

    Args:
        spec: what to build.

    Returns:
        tf.keras.Model: takes a dict of [batch, *shape] by feature name, raw digital numbers; gives sigmoid scores,
        float32 [batch, classes]. The layer "logits" holds them before the sigmoid.

    Raises:
        UsageError: unknown name.
    """
    from ..stack import tf
    from . import head, inputs, resnet

    backbones = {"resnet18": resnet.resnet18, "resnet50": resnet.resnet50, "tiny": resnet.tiny}
    if spec.name not in backbones:
        raise UsageError(f"unknown model {spec.name!r}", remedy=f"known are: {', '.join(NAMES)}")
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(spec.precision)
    try:
        arrays, image = inputs.image(spec)
        maps = backbones[spec.name](image, spec.l2)
        coarsest = list(maps.values())[-1]
        scores = head.classifier(coarsest, len(spec.nomenclature.classes), spec.dropout, spec.seed)
        return tf.keras.Model(arrays, scores, name=spec.name)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
