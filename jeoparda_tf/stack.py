"""The one place that knows which TensorFlow and Keras are there: it asks for features, never for versions.

Import `tf` from here and nowhere else. Where TensorFlow comes with Keras 3, which Horovod cannot drive, Keras 2 is
taken from the package tf_keras; that has to be said before TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
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


def keep_freed_memory() -> None:
    """Makes glibc keep the memory of one batch for the next, unless the environment says what malloc is to do.

    By default it hands large blocks back to the kernel and gets them again as fresh pages, each of which has to be
    faulted in and zeroed: that cost up to four times as much as copying the data. One arena instead of one a thread, so
    that what one thread frees serves the others. Other C libraries have no such settings and stay as they are.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    for parameter, value in _MALLOC.values():
        mallopt(parameter, value)


# Number of each parameter in malloc.h, and its value; see mallopt(3).
_MALLOC = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_MAX": (-4, 0),  # no block is mapped by itself
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),  # the heap's end is not given back below this many free bytes
    "M_TOP_PAD": (-2, 64 << 20),  # the heap grows by so many bytes at a time
}
keep_freed_memory()
with quiet():
    import tensorflow as tf


def require_keras_2() -> None:
    """Raises a UsageError unless `tf.keras` is Keras 2."""
    if not hasattr(tf.keras.optimizers, "legacy") or hasattr(tf.keras, "ops"):
        raise UsageError(
            "this TensorFlow brings Keras 3, which Horovod 0.28 cannot drive",
            remedy="pip install tf_keras of the same version as TensorFlow",
        )
