"""Ctrl-C in two steps: the first asks for an orderly end, the second leaves at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event


@contextmanager
def stop_on_interrupt(promise: str) -> Iterator[Event]:
    """Yield what the first SIGINT or SIGTERM sets, after printing how the work ends (`promise`); a second raises."""
    stop = Event()

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print(f"melt: {promise}; press again to leave at once", file=sys.stderr)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
