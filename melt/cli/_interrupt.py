"""Ctrl-C in two steps: the first asks for an orderly end, the second leaves at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Thread


@contextmanager
def stop_on_interrupt(promise: str) -> Iterator[Event]:
    """Yield what the first SIGINT or SIGTERM sets, after printing how the work ends (`promise`); a second raises.

    A handler runs in the middle of what the main thread does, which may hold the lock of the event or of stderr just
    then: setting the one would wait for ever, writing to the other would fail. Another thread does both; what it is
    told through is made to be interrupted by itself.
    """
    stop, pressed = Event(), SimpleQueue[bool]()

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        pressed.put(True)

    def answer() -> None:
        if pressed.get():
            stop.set()
            with suppress(OSError, ValueError):
                print(f"melt: {promise}; press again to leave at once", file=sys.stderr)

    answering = Thread(target=answer, daemon=True)
    answering.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        pressed.put(False)
        answering.join()
