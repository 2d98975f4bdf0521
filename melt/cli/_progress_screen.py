"""The lower part of a terminal, painted again and again in place. Needs a terminal that moves its cursor (ECMA-48)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.text import Text

_FALLBACK = (80, 24)
_ERASE_LINE_REST, _ERASE_BELOW, _HOME_AND_ERASE = "\x1b[K", "\x1b[J", "\x1b[H\x1b[2J"


class Screen:
    """Paints lines over the lines painted before. The cursor rests below them, so that whatever ends there is legible.

    Every frame is one write in which each line is written before its rest is erased: nothing flickers. The cursor is
    not hidden and no mode is set: a process that is killed leaves the terminal as it was.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._console = Console(file=out, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._painted: list[str] = []
        self._written: dict[tuple[str, str], str] = {}
        self._size = self.size()

    def size(self) -> tuple[int, int]:
        """Return columns and rows as they are now."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._out.fileno())
            if columns > 0 and rows > 0:
                return columns, rows
        return _FALLBACK

    def paint(self, lines: Sequence[Text]) -> None:
        """Show these lines instead of those painted before. Each must be narrower than the terminal."""
        size = self.size()
        frame = self._frame(lines)
        if size != self._size:
            # Terminals break lines anew when they get narrower: where the old ones are is not known any more.
            begin = _HOME_AND_ERASE
        elif frame == self._painted:
            return
        else:
            begin = f"\x1b[{len(self._painted)}A\r" if self._painted else "\r"
        self._write(begin + "".join(f"{line}{_ERASE_LINE_REST}\n" for line in frame) + _ERASE_BELOW)
        self._painted, self._size = frame, size

    def leave(self, lines: Sequence[Text]) -> None:
        """Show these lines for good. They may be more than fit and wider: they scroll and wrap."""
        self.paint(())
        self._write("".join(f"{self._ansi(line)}\n" for line in lines))

    def _ansi(self, line: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True, end="")
        return captured.get()

    def _frame(self, lines: Sequence[Text]) -> list[str]:
        """Write lines with their colours; most are those of the frame before."""
        keys = [(line.plain, str(line.style)) for line in lines]
        before = self._written
        self._written = {key: before.get(key) or self._ansi(line) for key, line in zip(keys, lines, strict=True)}
        return [self._written[key] for key in keys]

    def _write(self, text: str) -> None:
        # A terminal that went away (a window closed, a link broken) ends the display, not the sweep.
        with suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()
