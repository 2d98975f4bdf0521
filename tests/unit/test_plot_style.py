"""What a drawing may use where it goes: a pipe, a file, a terminal, a dumb one."""

from __future__ import annotations

import io
import sys

import pytest

from melt.cli._plot import style_of_stdout


class Out(io.TextIOWrapper):
    """A stdout that is a terminal or not."""

    def __init__(self, encoding: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "term", "encoding", "no_color", "colour", "unicode"),
    [
        (True, "xterm-256color", "utf-8", "", True, True),
        (True, "xterm-256color", "utf-8", "1", False, True),
        (True, "xterm", "iso-8859-1", "", True, False),
        (True, "dumb", "utf-8", "", False, False),
        (True, "", "utf-8", "", False, False),
        (False, "xterm", "utf-8", "", False, True),
        (False, "dumb", "UTF-8", "", False, True),
        (False, "dumb", "ascii", "", False, False),
    ],
)
def test_what_stdout_can_show(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    term: str,
    encoding: str,
    no_color: str,
    colour: bool,
    unicode: bool,
) -> None:
    monkeypatch.setattr(sys, "stdout", Out(encoding, terminal))
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("COLUMNS", "97")
    style = style_of_stdout()
    assert (style.width, style.colour, style.unicode) == (97, colour, unicode)
