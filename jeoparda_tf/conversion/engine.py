"""Runs one function over many jobs in worker processes: the only file that knows how."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from typing import Callable, TypeVar

from tfrecords_tools.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result, None, None]:
    """Yields the results of `work(job)` as they come; jobs are made only when a worker is about to want them.

    With one worker everything happens in this process. The first error, or closing the iterator, stops the workers
    at once: what they were writing is left under temporary names.

    Raises:
        DataError: a worker was killed; and whatever `work` raises.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    others = set(multiprocessing.active_children())
    with executor(workers) as pool:
        try:
            yield from _as_completed(pool, work, jobs, ahead=2 * workers)
        except BrokenProcessPool:
            remedy = (
                "when memory runs out, the system kills the largest process: take fewer --workers; "
                "the same command continues with the shards that are missing"
            )
            raise DataError("a worker process was killed", remedy=remedy) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def executor(workers: int) -> Executor:
    """Returns a pool of processes. They are spawned, not forked: gdal and threads do not survive a fork."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)


def _as_completed(
    pool: Executor, work: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Iterator[Result]:
    waiting = iter(jobs)
    running: set[Future[Result]] = {pool.submit(work, job) for job in islice(waiting, ahead)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(work, job) for job in islice(waiting, len(done))}
        for future in done:
            yield future.result()


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
