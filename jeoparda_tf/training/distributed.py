"""The only importer of Horovod. Without it, or without a launcher, this process is rank 0 of 1 and all is local."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tfrecords_tools import cli
from tfrecords_tools.errors import DataError, PeerError, UserError

from ..stack import tf

_hvd: Any = None


def start(stall_limit: float = 0) -> None:
    """Joins the other ranks, and shares this machine's cores and GPUs out among those that run on it.

    Args:
        stall_limit: seconds that a rank may be silent; 0 leaves it to Horovod.

    Raises:
        DataError: several processes were launched, but Horovod is not installed: each would train alone.
    """
    global _hvd
    launched = cli.launched()
    if _hvd is None and launched > 1:
        try:
            import horovod.tensorflow as hvd
        except ImportError as error:
            problem = f"{launched} processes were launched, but Horovod cannot be imported ({error})"
            raise DataError(
                problem, remedy="install the extra jeoparda_tf[horovod], or start one process"
            ) from error
        if stall_limit:
            # Else Gloo itself gives a silent rank up after 30 s.
            os.environ.setdefault("HOROVOD_GLOO_TIMEOUT_SECONDS", str(int(stall_limit) + 60))
        if not tf.config.list_physical_devices("GPU"):
            # Else Horovod asks every rank each millisecond what is ready, on the cores that compute.
            os.environ.setdefault("HOROVOD_CYCLE_TIME", "20")
        hvd.init()
        _hvd = hvd
    _share_machine()


def is_available() -> bool:
    """Whether Horovod is installed."""
    import importlib.util

    return importlib.util.find_spec("horovod") is not None


def _share_machine() -> None:
    """One GPU a rank, and an equal share of the cores; TensorFlow takes them all for every process otherwise."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Under a launcher that shows each rank one GPU only, that one is number 0.
        gpu = gpus[local_rank() % len(gpus)]
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
    if local_size() > 1:
        _take_cores()
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads())
            # The allreduce waits in a thread of Horovod's; two operations on one core push each other out of its cache.
            tf.config.threading.set_inter_op_parallelism_threads(min(2, threads()))
        except RuntimeError:  # TensorFlow has begun to compute in this process; its threads stay as they are
            pass


def _take_cores() -> None:
    """Keeps this process to its share of the cores, unless the launcher has bound it to some already.

    Threads that wander between cores find cold caches there, and those of Horovod, which run already, would take turns
    with the other ranks' computing. mpirun and srun may bind; then a rank may use fewer cores than the process that
    started it.
    """
    cores, ranks = sorted(os.sched_getaffinity(0)), local_size()
    bound = len(cores) < len(os.sched_getaffinity(os.getppid()))
    if not bound and len(cores) >= ranks:
        first, end = (len(cores) * number // ranks for number in (local_rank(), local_rank() + 1))
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), cores[first:end])


def threads() -> int:
    """Returns how many cores this rank has for itself, at least 1."""
    cores = len(os.sched_getaffinity(0))
    alone = cores < len(os.sched_getaffinity(os.getppid()))
    return cores if alone else max(1, cores // local_size())


def rank() -> int:
    """Returns the number of this process among all, from 0."""
    return int(_hvd.rank()) if _hvd else 0


def size() -> int:
    """Returns the number of all processes."""
    return int(_hvd.size()) if _hvd else 1


def local_rank() -> int:
    """Returns the number of this process among those of its machine."""
    return int(_hvd.local_rank()) if _hvd else 0


def local_size() -> int:
    """Returns the number of processes on this machine."""
    return int(_hvd.local_size()) if _hvd else 1


def mean_gradients(gradients: list[Any], fp16: bool = False) -> list[Any]:
    """Returns the means over all ranks of dense gradients, each sent as soon as it is there.

    Args:
        gradients: tensors, in the same order on every rank.
        fp16: whether they travel in half precision.
    """
    if not _hvd:
        return gradients
    compression = _hvd.Compression.fp16 if fp16 else _hvd.Compression.none
    return [
        _hvd.allreduce(gradient, op=_hvd.Average, compression=compression, name=f"gradient_{number}")
        for number, gradient in enumerate(gradients)
    ]


def mean(tensor: Any, name: str) -> Any:
    """Returns the mean of a tensor over all ranks; gradients flow back through it to all of them.

    Args:
        tensor: of the same shape on every rank.
        name: unique among the collectives of a step.
    """
    return _hvd.allreduce(tensor, op=_hvd.Average, name=name) if _hvd else tensor


def broadcast(variables: list[Any]) -> None:
    """Overwrites variables by those of rank 0."""
    if _hvd:
        _hvd.broadcast_variables(variables, root_rank=0)


def average(variables: list[Any]) -> None:
    """Overwrites float variables by their means over the ranks, which then agree to the last bit."""
    if not _hvd or not variables:
        return
    flat = tf.concat([tf.reshape(tf.cast(v, tf.float32), [-1]) for v in variables], 0)
    mean = _hvd.allreduce(flat, op=_hvd.Average, name="average")
    start_at = 0
    for variable in variables:
        count = int(np.prod(variable.shape))
        variable.assign(
            tf.cast(tf.reshape(mean[start_at : start_at + count], variable.shape), variable.dtype)
        )
        start_at += count


def gather(array: np.ndarray) -> np.ndarray:
    """Returns the arrays of all ranks, joined along the first axis in the order of the ranks, on every rank.

    Args:
        array: [n, ...]; n may differ from rank to rank and be 0, all else is equal.
    """
    if not _hvd:
        return array
    return np.asarray(_hvd.allgather(tf.constant(array), name="gather").numpy())


def agree(error: Optional[UserError]) -> None:
    """Raises on every rank if any has an error: the lowest such rank its own, all others a silent `PeerError`.

    A rank that failed alone would leave the others waiting for it in the next collective.

    Args:
        error: of this rank, or None.
    """
    failed = gather(np.array([0 if error is None else error.exit_code], np.int32))
    ranks = np.flatnonzero(failed)
    if len(ranks) == 0:
        return
    if error is not None and rank() == ranks[0]:
        raise error
    raise PeerError(int(failed[ranks[0]]))


def is_peer_failure(error: BaseException) -> bool:
    """Whether a collective failed because another rank is gone."""
    # Horovod's operations raise these two, not always with its name; those of TensorFlow that read and compute do not.
    raised = isinstance(error, (tf.errors.UnknownError, tf.errors.AbortedError)) or "Horovod" in str(error)
    return bool(_hvd) and raised
