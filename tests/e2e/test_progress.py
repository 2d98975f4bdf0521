"""What `melt run` shows on stderr while it measures on this machine, in a log and in a terminal."""

from __future__ import annotations

import json
import re

import pytest
from melt_rig import SMALL, Melt
from terminals import Terminal

pytestmark = pytest.mark.slow


def test_a_log_holds_dated_lines_of_text(melt: Melt) -> None:
    done = melt("run", *SMALL, "--quant", "q8_0", "-o", "json")
    assert json.loads(done.stdout)
    assert not re.search(r"[^\n -~°µ…→]", done.stderr), done.stderr
    lines = [line for line in done.stderr.splitlines() if re.match(r"\d\d:\d\d:\d\d local: ", line)]
    assert lines[0].endswith("local: connecting")
    assert len(lines) == len(set(lines))
    assert [word for line in lines for word in re.findall(r"\[\d/\d\]", line)] == ["[1/2]", "[2/2]"]


def test_a_terminal_shows_the_device_at_work_and_keeps_what_it_did(melt: Melt) -> None:
    words = ("run", *SMALL, "--quant", "q8_0", "-r", "20", "-o", "json")
    it = Terminal(80, 24, melt.argv(words), {**melt.env, "TERM": "xterm", "LC_ALL": "C.UTF-8"})
    try:
        it.wait_for(
            "a row with its phase",
            lambda: any(re.search(r"^local.*(load|warm-up|decode|prefill) ", line) for line in it.lines),
        )
        assert sum(line.startswith("device ") for line in it.lines) == 1
        assert json.loads(it.finish())
        table = it.lines[next(n for n, line in enumerate(it.lines) if line.startswith("device ")) :]
        assert re.search(r"^local .* 2/2 .* done$", table[1])
        assert [line for line in it.scrolled_away if line.startswith("device ")] == []
    finally:
        it.close()
