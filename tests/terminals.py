"""A terminal that is a program: a pseudo-terminal, the process whose stderr it is, and an emulator that reads it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

_PATIENCE_S = 60.0


class Terminal:
    """A terminal of some size, and the process whose stderr it is. `env` says what terminal it is: TERM, LC_ALL."""

    def __init__(self, columns: int, rows: int, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=500)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=env,
        )
        os.close(theirs)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the empty lines at its end."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def scrolled_away(self) -> list[str]:
        """What left the screen at its top."""
        return ["".join(row[x].data for x in sorted(row)).rstrip() for row in self.screen.history.top]

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, what: str, seen: Callable[[], bool]) -> None:
        """Read what comes until the screen shows it."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while not seen():
            assert time.monotonic() < deadline_s, f"{what} did not come:\n" + "\n".join(self.lines)
            if not self._read(1.0):
                assert seen(), f"{what} did not come before the end:\n" + "\n".join(self.lines)

    def finish(self) -> bytes:
        """End its stdin, read the rest and return stdout."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        while self._read(_PATIENCE_S):
            pass
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        assert self.process.wait(_PATIENCE_S) == 0
        return out

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        os.close(self._ours)

    def _read(self, within_s: float) -> bool:
        """Read once; False at the end."""
        if not select.select([self._ours], [], [], within_s)[0]:
            return True
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the other side is closed.
            data = b""
        self.raw += data
        self._stream.feed(data)
        return bool(data)
