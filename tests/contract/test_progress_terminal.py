"""The display of a sweep in a terminal: a process of its own, a pseudo-terminal, and an emulator that reads it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte

PLAYER = Path(__file__).parent / "progress_play.py"
_TESTS = PLAYER.parent.parent
_IMPORTS = os.pathsep.join((str(_TESTS), str(_TESTS / "unit")))
_PATIENCE_S = 60.0


class Terminal:
    """A terminal of some size, and the process whose stderr it is."""

    def __init__(self, columns: int, rows: int, n_devices: int, env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=500)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            [sys.executable, str(PLAYER), str(n_devices)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONPATH": _IMPORTS, **env},
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
        """Let the sweep end, read the rest and return stdout."""
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


@contextmanager
def terminal(columns: int, rows: int, n_devices: int, **env: str) -> Iterator[Terminal]:
    opened = Terminal(columns, rows, n_devices, env)
    try:
        yield opened
    finally:
        opened.close()


def test_twenty_devices_stay_in_place_on_a_small_screen_and_leave_what_each_did() -> None:
    with terminal(80, 24, 20) as it:
        it.wait_for("the table", lambda: any("+ 3 more done" in line for line in it.lines))
        for number in range(3):
            it.tell(f"note {number} {'long ' * 40}")
            it.wait_for("the note", lambda n=number: any(line.startswith(f"note: {n} ") for line in it.lines))
        it.tell("warn")
        it.wait_for("what was written meanwhile", lambda: any("note: stopping after" in line for line in it.lines))
        assert it.scrolled_away == []
        assert len(it.lines) == 23, "one row is left for the cursor"
        assert it.lines[0].startswith("15/120 runs | ")
        assert it.lines[1].startswith("device ")
        assert sum(line.startswith("device ") for line in it.lines) == 1
        assert it.finish() == b'{"data": 1}\n'
        assert it.lines[1].startswith("15/120 runs | ")
        assert it.lines[2].startswith("device ")
        assert it.lines[6].split()[:2] == ["R5CT1111X", "0/6"]
        assert it.lines[7].endswith("done, 1 oom")
        assert len(it.lines) == 3 + 20
        said = [line for line in [*it.scrolled_away, it.lines[0]] if line.startswith("note: ")]
        assert len(said) == len(set(said)) == 8, said
        assert not any(line.startswith("device ") for line in it.scrolled_away), "no old frame is left"


def test_a_screen_that_changes_its_size_is_painted_anew() -> None:
    with terminal(120, 40, 20) as it:
        it.wait_for("the table", lambda: any("R5CT1703X" in line for line in it.lines))
        for columns, rows in ((60, 16), (100, 30)):
            it.resize(columns, rows)
            it.wait_for(
                "the new frame",
                lambda r=rows: (
                    it.lines[:1] != [] and it.lines[0].startswith("15/120") and len(it.lines) == min(r - 1, 27)
                ),
            )
            it.wait_for("one header", lambda: sum(line.startswith("device ") for line in it.lines) == 1)
        assert it.finish() == b'{"data": 1}\n'


def test_a_terminal_without_unicode_or_colours_gets_none() -> None:
    with terminal(80, 24, 3, LC_ALL="C", NO_COLOR="1") as it:
        it.wait_for("the table", lambda: any("41 -> 38 C" in line for line in it.lines))
        it.finish()
        assert it.raw.isascii()
        assert not {code for code in it.raw.split(b"\x1b[")[1:] if code[:3] in (b"31m", b"32m", b"33m")}


def test_a_dumb_terminal_gets_lines() -> None:
    with terminal(80, 24, 3, TERM="dumb") as it:
        it.wait_for("the lines", lambda: b"connecting" in it.raw)
        it.tell("note \x1b[2Jhello")
        it.finish()
        assert b"\x1b" not in it.raw
        assert b"note: [2Jhello" in it.raw
