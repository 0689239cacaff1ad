"""Signals that ask a run to end: noted when they come, obeyed between two steps (`callbacks.StopWhenAsked`)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

# A batch system near the walltime, a batch system or launcher that needs the place, a user at the terminal.
_ASKING = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


class Request:
    """`signal` is the number of the one that asked this process to end, 0 as long as none has."""

    def __init__(self) -> None:
        self.signal = 0

    def note(self, number: int, frame: Optional[FrameType] = None) -> None:
        """Handles a signal; the second SIGINT ends the program at once."""
        if number == signal.SIGINT and self.signal:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def requests() -> Iterator[Request]:
    """Notes the signals that ask for an end while the block runs; those that are ignored stay so."""
    request = Request()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _ASKING}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, request.note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(number: int) -> int:
    """Returns 130 for SIGINT, as shells have it, else 75 (EX_TEMPFAIL of sysexits.h)."""
    return 130 if number == signal.SIGINT else 75
