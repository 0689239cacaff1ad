"""The one place that knows which TensorFlow and Keras are there: it asks for features, never for versions.

Import `tf` from here and nowhere else. Where TensorFlow comes with Keras 3, which Horovod cannot drive, Keras 2 is
taken from the package tf_keras; that has to be said before TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from tfrecords_tools.errors import UsageError

# TensorFlow logs its plugins' double registration as errors; what goes wrong comes as exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if importlib.util.find_spec("tf_keras") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what libraries write to stderr, whatever the log level; shows it on failure."""
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+") as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            notes.seek(0)
            shutil.copyfileobj(notes, sys.stderr)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with quiet():
    import tensorflow as tf


def require_keras_2() -> None:
    """Raises a UsageError unless `tf.keras` is Keras 2."""
    if not hasattr(tf.keras.optimizers, "legacy") or hasattr(tf.keras, "ops"):
        raise UsageError(
            "this TensorFlow brings Keras 3, which Horovod 0.28 cannot drive",
            remedy="pip install tf_keras of the same version as TensorFlow",
        )
