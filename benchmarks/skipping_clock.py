"""A clock that skips the time in which nobody has anything to do, and no other: work and its contention stay real."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Event, Thread
from unittest.mock import patch

_REAL_UTC_NS = time.time_ns


class SkippingClock:
    """Time for `actors` threads, each of which waits by `sleep_until` alone.

    It runs as `work_ns` does while one of them works, for a lock or a disk too. When all of them sleep it jumps to the
    moment at which the first wants to wake: an hour on a shelf of devices takes as long as the work in it. By default
    work takes real time; `time.process_time_ns` leaves out what other programs of this machine take from it, and the
    waiting for its disk.
    """

    def __init__(self, actors: int, work_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._actors = actors
        self._work_ns = work_ns
        self._begun_ns = time.monotonic_ns() - work_ns()
        self._asleep = 0
        self._skipped_ns = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, Event]] = []
        self._changed = Condition()
        Thread(target=self._keep, daemon=True).start()

    def now_ns(self) -> int:
        """Return the time in nanoseconds, on the scale of the monotonic clock."""
        return self._begun_ns + self._work_ns() + self._skipped_ns

    def sleep_until(self, t_ns: int) -> None:
        """Let the calling actor wait."""
        woken = Event()
        with self._changed:
            heapq.heappush(self._sleepers, (t_ns, next(self._order), woken))
            self._asleep += 1
            if self._asleep == self._actors or self._sleepers[0][2] is woken:
                self._changed.notify()
        woken.wait()

    def leave(self) -> None:
        """Say that an actor has nothing more to do: nobody waits for it."""
        with self._changed:
            self._actors -= 1
            self._changed.notify()

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Make it the clock of this process."""
        with (
            patch("time.monotonic", lambda: self.now_ns() / 1e9),
            patch("time.monotonic_ns", self.now_ns),
            patch("time.time_ns", lambda: _REAL_UTC_NS() + self._skipped_ns),
        ):
            yield

    def _keep(self) -> None:
        with self._changed:
            while True:
                if not self._sleepers:
                    self._changed.wait()
                    continue
                left_ns = self._sleepers[0][0] - self.now_ns()
                if left_ns > 0 and self._asleep >= self._actors:
                    self._skipped_ns += left_ns
                elif left_ns > 0:
                    self._changed.wait(left_ns / 1e9)
                    continue
                while self._sleepers and self._sleepers[0][0] <= self.now_ns():
                    self._asleep -= 1
                    heapq.heappop(self._sleepers)[2].set()
