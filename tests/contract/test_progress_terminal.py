"""The display of a sweep in a terminal of its own: what is painted, what stays, what a change of its size does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminals import Terminal

pytestmark = pytest.mark.slow

PLAYER = Path(__file__).parent / "progress_play.py"
_TESTS = PLAYER.parent.parent
_IMPORTS = os.pathsep.join((str(_TESTS), str(_TESTS / "unit")))


@contextmanager
def terminal(columns: int, rows: int, n_devices: int, **env: str) -> Iterator[Terminal]:
    argv = [sys.executable, str(PLAYER), str(n_devices)]
    opened = Terminal(
        columns,
        rows,
        argv,
        {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONPATH": _IMPORTS, **env},
    )
    try:
        yield opened
    finally:
        opened.close()


def test_twenty_devices_stay_in_place_on_a_small_screen_and_leave_what_each_did() -> None:
    with terminal(80, 24, 20) as it:
        it.wait_for("the table", lambda: any("+ 3 more: 1 waiting, 2 done" in line for line in it.lines))
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
        assert not {code for code in it.raw.split(b"\x1b[")[1:] if code[:3] in (b"31m", b"32m", b"35m")}


def test_a_dumb_terminal_gets_lines() -> None:
    with terminal(80, 24, 3, TERM="dumb") as it:
        it.wait_for("the lines", lambda: b"connecting" in it.raw)
        it.tell("note \x1b[2Jhello")
        it.finish()
        assert b"\x1b" not in it.raw
        assert b"note: [2Jhello" in it.raw
