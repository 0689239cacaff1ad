"""Weights that keras.applications' ResNets learned on ImageNet, from files that are at hand: nothing is downloaded.

The published networks see blue, green and red of 0 to 255 with the channels' means taken off (Caffe's preprocessing);
our models see bands in units of their standard deviation. So each kernel of the first convolution is multiplied by its
channel's deviation on ImageNet over the mean of the three, and that mean is taken out of the bias and of the BatchNorm
that follows. A standardised image then gives the features that the published network has of the image of the same
standardised values on ImageNet's scale, and the kernels keep the size and the gradients that they were trained with.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tfrecords_tools.errors import DataError, UsageError

from .layers import EPSILON
from .transfer import Weights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
# By our names for them: the classes of keras.applications, and the channels of what the networks were trained on.
NETWORKS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}
BANDS = {"conv1_conv": ("B02", "B03", "B04")}
# Standard deviations of ImageNet's blue, green and red (torchvision.models, 0.225, 0.224, 0.229 of 255).
DEVIATIONS = 255 * np.array([0.225, 0.224, 0.229])
_TOP = "predictions"


def find(name: str) -> Path:
    """Returns Keras' own file of the weights of a network, where the cache of Keras has it.

    Args:
        name: of the model.

    Raises:
        UsageError: Keras has none of this model; or the file is not there, with the way to get it.
    """
    if name not in NETWORKS:
        raise UsageError(
            f"Keras has no ImageNet weights of {name}",
            remedy=f"it has those of {', '.join(NETWORKS)}; or give --init FILE.npz",
        )
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    files = [f"{name}_weights_tf_dim_ordering_tf_kernels{end}.h5" for end in ("_notop", "")]
    for file in files:
        if (folder / file).is_file():
            return folder / file
    raise UsageError(
        f"no ImageNet weights of {name} there",
        path=folder / files[0],
        remedy=f"download {URL}{files[0]} where there is internet, put it there, or name it: --init FILE",
    )


def read(path: Path, name: str) -> Weights:
    """Returns the weights in a file, ready for our inputs.

    Args:
        path: .h5 or .weights.h5 as Keras saves the weights of its applications, with or without the last layer; or
            .npz, whose arrays are called `layer/0`, `layer/1`, ... in Keras' names and order of layers and weights. All
            hold arrays only: whatever else is in a file is neither read nor run.
        name: of the model.

    Raises:
        UsageError: another kind of file.
        DataError: it is damaged, or of another network.
    """
    if path.suffix == ".npz":
        weights = _arrays(path)
    elif path.suffix in (".h5", ".hdf5"):
        weights = _keras(path, name)
    else:
        raise UsageError("weights are read from .h5, .weights.h5 and .npz", path=path)
    first, norm = (weights.get(layer, []) for layer in ("conv1_conv", "conv1_bn"))
    if (len(first), len(norm)) != (2, 4) or first[0].shape[2:3] != (3,):
        problem = "holds no conv1_conv of three channels, with its bias, and conv1_bn"
        raise DataError(problem, path=path, remedy=_way_out(name))
    return _for_standardised(weights)


def _way_out(name: str) -> str:
    return f"give weights of {name} as keras.applications lays it out"


def _arrays(path: Path) -> dict[str, list[np.ndarray]]:
    weights: dict[str, dict[int, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                layer, _, number = key.rpartition("/")
                weights.setdefault(layer, {})[int(number)] = arrays[key]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        remedy = "its arrays must be called layer/0, layer/1, ..., and hold numbers"
        raise DataError(f"cannot be read: {error}", path=path, remedy=remedy) from error
    return {layer: [numbered[i] for i in sorted(numbered)] for layer, numbered in weights.items()}


def _keras(path: Path, name: str) -> dict[str, list[np.ndarray]]:
    """Has Keras fill its own network, as it knows the order of layers in its files, and reads arrays alone of them."""
    from ..stack import tf

    if name not in NETWORKS:
        raise UsageError(f"Keras has no {name} to read this into", path=path, remedy="give a .npz instead")
    network = getattr(tf.keras.applications, NETWORKS[name])
    problem: Optional[Exception] = None
    for top in (False, True):
        try:
            model: Any = network(include_top=top, weights=str(path))
        except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            problem = problem or error
            continue
        return {
            layer.name: layer.get_weights() for layer in model.layers if layer.weights and layer.name != _TOP
        }
    raise DataError(
        f"cannot be read as weights of {name}: {str(problem).splitlines()[0]}",
        path=path,
        remedy=_way_out(name),
    ) from problem


def _for_standardised(weights: dict[str, list[np.ndarray]]) -> Weights:
    """Has the first convolution and its BatchNorm expect inputs of mean 0 and deviation 1."""
    kernel, bias = weights["conv1_conv"]
    gamma, beta, mean, variance = weights["conv1_bn"]
    scale = DEVIATIONS.mean()
    kernel = kernel * (DEVIATIONS / scale)[None, None, :, None]
    # (variance + epsilon) / scale^2 = scaled + epsilon; where a filter hardly varies, gamma makes up for the rest.
    wanted = (variance + EPSILON) / scale**2
    scaled = np.maximum(wanted - EPSILON, 0)
    gamma = gamma * np.sqrt((scaled + EPSILON) / wanted)
    first = [array.astype(np.float32) for array in (kernel, bias / scale)]
    norm = [array.astype(np.float32) for array in (gamma, beta, mean / scale, scaled)]
    return {**weights, "conv1_conv": first, "conv1_bn": norm}
