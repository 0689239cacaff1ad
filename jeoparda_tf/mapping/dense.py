"""A classifier made fully convolutional: its last layer at every place of the feature map, with the same weights."""

from __future__ import annotations

from typing import Any

from tfrecords_tools.errors import UsageError

from ..stack import tf

STRIDES = (32, 16, 8)


class _Dilated(tf.keras.layers.Conv2D):
    """A convolution whose stride was taken away: the old outputs are its outputs at every `removed`-th place.

    Args:
        before: rows and columns of zeros that were put above and to the left, in pixels of the old grid.
    """

    def __init__(self, *args: Any, before: int, **kwargs: Any):
        super().__init__(*args, padding="valid", **kwargs)
        self.before = before

    def call(self, x: Any) -> Any:
        step, reach = self.dilation_rate[0], self.dilation_rate[0] * (self.kernel_size[0] - 1)
        low = self.before * step
        return super().call(tf.pad(x, [[0, 0], [low, reach - low], [low, reach - low], [0, 0]]))


def logits_map(model: Any, stride: int) -> Any:
    """Returns a model of the same inputs that gives logits, float32 [batch, rows, columns, classes].

    Where the classifier averages the feature map and multiplies, this multiplies at every place: at the classifier's
    own stride the mean of its logits over the map is the classifier's logit, as averaging and a linear layer commute.
    Strides beyond `stride` are taken away and the convolutions after them dilated (Chen et al. 2015, arXiv:1412.7062),
    so that every `32 / stride`-th place holds what the classifier's own map has there.

    Args:
        model: of `models.build`: a chain of convolutions, global average pooling ("avg_pool") and a dense "logits".
        stride: pixels of the finest grid between two places; 32, 16 or 8. No finer than the model's own.

    Raises:
        UsageError: the model has another end.
    """
    names = [layer.name for layer in model.layers]
    if "avg_pool" not in names or not isinstance(model.get_layer("logits"), tf.keras.layers.Dense):
        raise UsageError(f"{model.name} does not end in average pooling and one layer: it gives no map")
    features = tf.keras.Model(model.inputs, model.get_layer("avg_pool").input)
    changes = _changes(features, stride)

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in changes:
            return type(layer).from_config(config)
        del config["padding"]
        changed = {key: changes[layer.name][key] for key in ("strides", "dilation_rate", "before")}
        return _Dilated(**{**config, **changed})

    dense = tf.keras.models.clone_model(features, clone_function=clone)
    dense.set_weights(features.get_weights())
    head = model.get_layer("logits")
    convolution = tf.keras.layers.Conv2D(head.units, 1, name="logits", dtype="float32")
    result = tf.keras.Model(dense.inputs, convolution(dense.outputs[0]), name=model.name)
    kernel, bias = head.get_weights()
    convolution.set_weights([kernel[None, None], bias])
    return result


def _changes(features: Any, wanted: int) -> dict[str, dict[str, int]]:
    """Returns what becomes of the convolutions of "same" padding or size 1 behind or at a stride to take away."""
    strides: dict[str, int] = {}
    removed: dict[str, int] = {}
    changes: dict[str, dict[str, int]] = {}
    for layer in features.layers:
        sources = tf.nest.flatten([node.inbound_layers for node in layer.inbound_nodes])
        stride = max((strides[source.name] for source in sources), default=1)
        gone = max((removed[source.name] for source in sources), default=1)
        own = layer.strides[0] if hasattr(layer, "strides") else 1
        if isinstance(layer, tf.keras.layers.Conv2D) and (gone > 1 or stride * own > wanted):
            size, step = layer.input_shape[1], layer.kernel_size[0]
            padding = max((-(-size // own) - 1) * own + step - size, 0) if layer.padding == "same" else 0
            changes[layer.name] = {"strides": 1, "dilation_rate": gone, "before": padding // 2}
            gone, own = gone * own, 1
        strides[layer.name], removed[layer.name] = stride * own, gone
    return changes
