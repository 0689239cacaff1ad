"""A trained model as files that need none of our code: a SavedModel, and ONNX.

Both take raw digital numbers: normalising and upsampling are layers of the model.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfrecords_tools.errors import UsageError

from .. import models
from ..models.spec import ModelSpec
from ..stack import tf

ONNX_FILE = "model.onnx"
# Einsum, by which bands are upsampled, came with 12; every runtime of the last years reads 17.
_OPSET = 17


def in_float32(model: Any, spec: ModelSpec) -> tuple[Any, ModelSpec]:
    """Returns a model with the same weights that computes in float32: not every runtime knows half precision."""
    if spec.precision == "float32":
        return model, spec
    single = dataclasses.replace(spec, precision="float32")
    copy = models.build(single)
    copy.set_weights(model.get_weights())
    return copy, single


def saved_model(model: Any, spec: ModelSpec, directory: Path) -> None:
    """Writes a SavedModel with one signature, `serving_default`.

    Its inputs are the features by name, [batch, *shape] of the stored dtype (uint16 for Sentinel-2); its outputs
    `scores`, float32 [batch, classes], and `names`, string [classes].

    Args:
        model: as `models.build` makes it, for inference in float32.
        spec: of it.
        directory: written into.
    """
    names = list(spec.nomenclature.classes)

    def serve(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"scores": model(inputs, training=False), "names": tf.constant(names)}

    module = tf.Module()
    # The variables alone: with the model itself its layers would be written too, and reading them needs our classes.
    module.weights = list(model.variables)
    module.serve = tf.function(serve, input_signature=[_signature(spec)])
    tf.saved_model.save(module, str(directory), signatures=module.serve)


def onnx(model: Any, spec: ModelSpec, path: Path) -> None:
    """Writes ONNX with the same inputs and the output `scores`; the names are in its metadata, as JSON under `names`.

    Raises:
        UsageError: tf2onnx cannot be imported.
    """
    try:
        import onnx as format
        import tf2onnx
    except ImportError as error:
        remedy = "pip install 'jeoparda_tf[onnx]' beside TensorFlow 2.15"
        raise UsageError(f"tf2onnx cannot be imported: {error}", remedy=remedy) from error
    signature = _signature(spec)

    def serve(*arrays: Any) -> dict[str, Any]:
        return {"scores": model(dict(zip(signature, arrays)), training=False)}

    specs = tuple(signature.values())
    function = tf.function(serve, input_signature=specs)
    converted, _ = tf2onnx.convert.from_function(function, specs, opset=_OPSET)
    entry = converted.metadata_props.add()
    entry.key, entry.value = "names", json.dumps(spec.nomenclature.classes)
    format.save(converted, str(path))


def _signature(spec: ModelSpec) -> dict[str, Any]:
    return {f.name: tf.TensorSpec((None, *f.shape), tf.as_dtype(f.dtype), f.name) for f in spec.features}
