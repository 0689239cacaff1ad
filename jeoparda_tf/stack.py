"""The one place that knows which TensorFlow and Keras are there: it asks for features, never for versions.

Import `tf` from here and nowhere else. Where TensorFlow comes with Keras 3, which Horovod cannot drive, Keras 2 is
taken from the package tf_keras; that has to be said before TensorFlow is imported.
"""

from __future__ import annotations

import importlib.util
import os

# TensorFlow logs its plugins' double registration as errors; what goes wrong comes as exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if importlib.util.find_spec("tf_keras") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf

from tfrecords_tools.errors import UsageError


def require_keras_2() -> None:
    """Raises a UsageError unless `tf.keras` is Keras 2."""
    if not hasattr(tf.keras.optimizers, "legacy") or hasattr(tf.keras, "ops"):
        raise UsageError(
            "this TensorFlow brings Keras 3, which Horovod 0.28 cannot drive",
            remedy="pip install tf_keras of the same version as TensorFlow",
        )
