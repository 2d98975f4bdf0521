"""Ctrl-C comes at any instant: while the main thread takes a lock, while it writes, as it begins to wait."""

from __future__ import annotations

import importlib
import io
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from melt.cli._interrupt import stop_on_interrupt
from melt.cli.main import main

# What waits for itself waits for ever; the signal that ends a test reaches it all the same.
pytestmark = pytest.mark.timeout(60)


def _wait_and_press(stop: threading.Event, at: int) -> int:
    """Wait a moment, press Ctrl-C at the step with that number, and return how many steps there were."""
    steps = 0

    def step(frame: FrameType, _event: str, _arg: object) -> Any:
        nonlocal steps
        if frame.f_code.co_filename != threading.__file__:
            return None
        steps += 1
        if steps == at:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        stop.wait(0.001)
    finally:
        sys.settrace(before)
    return steps


def test_one_at_any_instant_of_a_wait_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    n_steps = _wait_and_press(threading.Event(), 0)
    assert n_steps > 10
    for at in range(1, n_steps + 1):
        with stop_on_interrupt("stopping") as stop:
            _wait_and_press(stop, at)
            assert stop.wait(20), f"at step {at}"
        assert capsys.readouterr().err == "melt: stopping; press again to leave at once\n"


class _PressedWhileWriting(io.RawIOBase):
    """What a stream writes to: Ctrl-C comes in the middle of the first time."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.written:
            signal.raise_signal(signal.SIGINT)
        self.written += bytes(data)
        return len(data)


def test_one_in_the_middle_of_a_line_leaves_the_line_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _PressedWhileWriting()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    with stop_on_interrupt("stopping") as stop:
        print("a note", file=sys.stderr)
        assert stop.wait(20)
    assert raw.written.decode() == "a note\nmelt: stopping; press again to leave at once\n"


PROGRAM = """
from melt.cli._interrupt import stop_on_interrupt

with stop_on_interrupt("stopping") as stop:
    print("ready", flush=True)
    stop.wait()
    print("stopped", flush=True)
    while True:
        pass
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_leaves_at_once(first: signal.Signals) -> None:
    words = (sys.executable, "-c", PROGRAM)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(first)
            assert process.stdout.readline() == "stopped\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert err.startswith("melt: stopping; press again to leave at once\n")
    assert err.endswith("KeyboardInterrupt\n")


def test_afterwards_a_signal_does_what_it_did_before() -> None:
    def handler(_number: int, _frame: object) -> None:
        got.append(True)

    got: list[bool] = []
    before = signal.signal(signal.SIGINT, handler)
    try:
        with stop_on_interrupt("stopping") as stop:
            pass
        signal.raise_signal(signal.SIGINT)
        assert (got, stop.is_set()) == ([True], False)
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_while_melt_starts_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err == "melt: interrupted\n"
