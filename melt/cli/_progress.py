"""Show a sweep on stderr: a table in place on a terminal, plain lines everywhere else. stdout is for results."""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from threading import Event as Flag
from threading import Lock, Thread
from typing import TextIO

from melt.cli._progress_layout import View
from melt.cli._progress_lines import Lines
from melt.cli._progress_screen import Screen
from melt.cli._progress_state import SweepState
from melt.cli._progress_table import live, summary
from melt.cli._progress_text import knows_unicode
from melt.events import Event, Observer

_PAINT_EVERY_S = 0.5
"""Slow enough to be no load on a machine that may be measuring itself."""


@contextmanager
def progress(history: Mapping[str, float] | None = None) -> Iterator[Observer]:
    """Yield an observer for a sweep; threads may call it.

    `history` maps a cell's key to the seconds that a repetition of it took in earlier sweeps.
    """
    out = sys.stderr
    state = SweepState(time.monotonic, history)
    unicode = knows_unicode(out.encoding)
    if _moves_its_cursor(out):
        with _table(state, out, unicode=unicode) as observe:
            yield observe
        return
    lines, lock = Lines(state, out, unicode=unicode), Lock()

    def see(event: Event) -> None:
        with lock:
            state.see(event)
            lines.see(event)

    yield see


def _moves_its_cursor(out: TextIO) -> bool:
    return out.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@contextmanager
def _table(state: SweepState, out: TextIO, *, unicode: bool) -> Iterator[Observer]:
    """Paint on a thread of its own what the observer was told until then; leave a summary at the end."""
    screen, lock, ended, said = Screen(out), Lock(), Flag(), _Said()

    def see(event: Event) -> None:
        with lock:
            state.see(event)

    def paint() -> None:
        while not ended.wait(_PAINT_EVERY_S):
            with lock:
                said.give(state)
                lines = live(state, View(*screen.size(), unicode))
            screen.paint(lines)

    painter = Thread(target=paint, daemon=True)
    painter.start()
    try:
        # What anybody else writes there would be painted over: it becomes a note.
        with redirect_stderr(said):
            yield see
    finally:
        ended.set()
        painter.join()
        said.give(state)
        screen.leave(summary(state, View(*screen.size(), unicode)))


class _Said(io.TextIOBase):
    """A stderr that keeps what is written. It takes no lock: what writes there may be on any thread."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._texts.append(text)
        return len(text)

    def give(self, state: SweepState) -> None:
        """Turn whole lines into notes; the one that is being written waits."""
        text = "".join(self._texts.popleft() for _ in range(len(self._texts)))
        whole, newline, rest = text.rpartition("\n")
        if rest:
            self._texts.appendleft(rest)
        for line in (whole + newline).splitlines():
            if line.strip():
                state.note(line.removeprefix("melt: "))
