"""Runs one function over many jobs on a `concurrent.futures.Executor`: worker processes, or MPI's ranks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from typing import Any, Callable, NamedTuple, TypeVar

from tfrecords_tools.errors import DataError, UsageError

Job = TypeVar("Job")
Result = TypeVar("Result")
MPI_COMMAND = "mpirun -n 64 python -m mpi4py.futures -m jeoparda_tf.convert ARCHIVE OUT ... --executor mpi"


class Pool(NamedTuple):
    """An executor and how many jobs it takes to keep all of its workers busy."""

    executor: Executor
    ahead: int


def run(work: Callable[[Job], Result], jobs: Iterable[Job], pool: Pool) -> Generator[Result, None, None]:
    """Yields the results of `work(job)` as they come; jobs are made only when a worker is about to want them.

    Raises:
        BaseException: whatever `work` raises; the pool's context then stops the other workers.
    """
    waiting = iter(jobs)
    running: set[Future[Result]] = set()
    while True:
        running |= {pool.executor.submit(work, job) for job in islice(waiting, pool.ahead - len(running))}
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


class _Here(Executor):
    """Runs a job in this process when it is submitted: nothing to start, and errors come as they are."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def processes(workers: int) -> Iterator[Pool]:
    """A pool of worker processes of this machine; with one worker, this process.

    An error inside the block stops the workers at once: what they were writing is left under temporary names.

    Raises:
        DataError: a worker was killed.
    """
    if workers == 1:
        yield Pool(_Here(), 1)
        return
    others = set(multiprocessing.active_children())
    # Spawned, not forked: gdal and threads do not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as executor:
        try:
            yield Pool(executor, 2 * workers)
        except BrokenProcessPool:
            remedy = (
                "when memory runs out, the system kills the largest process: take fewer --workers; "
                "the same command continues with the shards that are missing"
            )
            raise DataError("a worker process was killed", remedy=remedy) from None
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def mpi_futures() -> Any:
    """Returns the module mpi4py.futures, once it is seen that this process can hand out jobs to other ranks.

    Raises:
        UsageError: mpi4py is missing, or this is not the first rank of `python -m mpi4py.futures`.
    """
    try:
        from mpi4py import futures
    except ImportError as error:
        remedy = "pip install mpi4py, with the MPI of this cluster's modules loaded"
        raise UsageError(f"--executor mpi, but mpi4py cannot be imported: {error}", remedy=remedy) from error
    # Without this module in front, an executor would try to start further ranks, which clusters forbid, and each rank
    # of mpirun would convert everything.
    if getattr(getattr(futures, "_core", None), "SharedPool", None) is None:
        raise UsageError(
            "--executor mpi was not started by mpi4py.futures", remedy=f"start it so: {MPI_COMMAND}"
        )
    return futures


class Ranks(Executor):
    """Hands jobs to MPI's ranks, where signals can end them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._handed_out: list[Future[Any]] = []
        self.count: int = executor.num_workers  # waits for them to start

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(_stoppable, fn, *args, **kwargs)
        self._handed_out = [*(other for other in self._handed_out if not other.done()), future]
        return future

    @contextmanager
    def pool(self) -> Iterator[Pool]:
        """All of them. An error inside lets them finish the shards they are at: MPI cannot stop one of them."""
        try:
            yield Pool(self, 2 * self.count)
        except BaseException:
            wait([future for future in self._handed_out if not future.cancel()])
            raise


@contextmanager
def mpi() -> Iterator[Ranks]:
    """All ranks of `mpirun` but this one, which hands out the jobs.

    To be entered before anything that takes long: SIGINT and SIGTERM, which launchers send to all ranks and soon follow
    with SIGKILL, end jobs at once inside the block, and no rank, so that the first one can tell how to go on.

    Raises:
        UsageError: as `mpi_futures`.
    """
    with mpi_futures().MPIPoolExecutor(main=False, initializer=_start_rank) as executor:
        yield Ranks(executor)


class _Signals:
    """Of a rank that is given jobs: whether it is at one, and whether a signal has come."""

    working = False
    came = False

    @classmethod
    def take(cls, number: int, frame: Any) -> None:
        """Ends the job, or the next one: between jobs the rank has to live on, for the first one waits for its word."""
        cls.came = True
        if cls.working:
            raise KeyboardInterrupt


def _start_rank() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _Signals.take)


def _stoppable(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        _Signals.working = True
        if _Signals.came:
            raise KeyboardInterrupt
        return work(*args, **kwargs)
    finally:
        _Signals.working = False


def _start_worker() -> None:
    # Ctrl-C goes to all processes of the terminal; the first one decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: it would wait for jobs for ever, and write beside a restarted one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)
