"""Weights from elsewhere: which layers of a model they fill, and how the first convolution is fitted to other bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .spec import ModelSpec
from .superres_spec import PREFIX

# Arrays of each layer that has any, in the order in which Keras keeps them.
Weights = Mapping[str, Sequence[np.ndarray]]
HEAD = "logits"


class Transfer(NamedTuple):
    """The layers of a model by what became of them, in their order."""

    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]


def backbone(model: Any) -> list[Any]:
    """Returns all layers with weights but the last one; dropout, which only counts its calls, is none of them.

    Nor is super-resolution: it has weights from where it was trained (`fit --superres`).
    """
    return [
        layer
        for layer in model.layers
        if layer.name != HEAD
        and not layer.name.startswith(PREFIX)
        and any(weight.dtype.is_floating for weight in layer.weights)
    ]


def weights_of(model: Any) -> dict[str, list[np.ndarray]]:
    """Returns the weights of a model's backbone and of its last layer, by layer."""
    return {layer.name: layer.get_weights() for layer in [*backbone(model), model.get_layer(HEAD)]}


def first_layers(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Returns the bands that each convolution on the image itself sees, in the order of its channels."""
    if spec.name != "kbranch":
        return {"conv1_conv": spec.bands}
    branches: dict[str, tuple[str, ...]] = {}
    for feature in spec.features:
        own = tuple(band for band in spec.bands if band in feature.band_names)
        name = f"branch{feature.gsd}_conv1_conv"
        branches[name] = branches.get(name, ()) + own
    return branches


def fill(
    model: Any,
    spec: ModelSpec,
    source: Weights,
    source_bands: Mapping[str, Sequence[str]],
    *,
    head: bool = False,
) -> Transfer:
    """Overwrites the weights of all layers that the source has in the same shape.

    Args:
        model: of `models.build`.
        spec: of it.
        source: weights by the names of layers.
        source_bands: the bands of the source's first convolutions, by the names of layers.
        head: whether to take the last layer too: of the same classes.

    Returns:
        the layers taken as they are, those fitted to other bands, and those left with their fresh weights.
    """
    bands = first_layers(spec)
    taken: list[str] = []
    adapted: list[str] = []
    new: list[str] = []
    for layer in [*backbone(model), model.get_layer(HEAD)]:
        arrays = list(source.get(layer.name, ())) if head or layer.name != HEAD else []
        fitted = False
        if layer.name in bands and layer.name in source_bands and arrays:
            fitted = tuple(bands[layer.name]) != tuple(source_bands[layer.name])
            if fitted:
                arrays[0] = fit_kernel(arrays[0], source_bands[layer.name], bands[layer.name])
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if not arrays or [array.shape for array in arrays] != shapes:
            new.append(layer.name)
            continue
        layer.set_weights(arrays)
        (adapted if fitted else taken).append(layer.name)
    return Transfer(tuple(taken), tuple(adapted), tuple(new))


def fit_kernel(kernel: np.ndarray, before: Sequence[str], now: Sequence[str]) -> np.ndarray:
    """Returns a convolution's kernel for other bands.

    A band that was there keeps its kernel, another one gets the mean of all there were; all are multiplied by the old
    number of bands over the new, as Carreira and Zisserman (2017, arXiv:1705.07750, section 2) inflate kernels in time:
    bands that show the same give the response that they gave before.

    Args:
        kernel: [rows, columns, bands, filters].
        before: its bands, in the order of the channels.
        now: likewise of the result.
    """
    mean = kernel.mean(2)
    parts = [kernel[:, :, before.index(band)] if band in before else mean for band in now]
    if tuple(sorted(before)) == tuple(sorted(now)):
        return np.stack(parts, 2)
    return (np.stack(parts, 2) * (len(before) / len(now))).astype(kernel.dtype)
