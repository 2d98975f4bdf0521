"""Any meter that a program can read: it prints a line of numbers per sample, and `columns` says what they are.

The program is a process of its own, so it may be of any language and licence. It must not keep its lines back: a
program whose output is a pipe does so unless it is told not to.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Protocol

import numpy as np

from melt.errors import UsageError
from melt.telemetry.meters.base import READ_S, Batch, ClockReading, MeterError, MeterFacts
from melt.telemetry.meters.linecolumns import line_format, parse_lines
from melt.telemetry.meters.options import Options

LINE_OPTIONS = ("columns", "separator", "rate_hz", "latency_s", "accuracy", "calibration")
_KNOWN = ("command", "clock", *LINE_OPTIONS)
_LATENCY_S = 0.02
"""How long the fastest of many lines may be on its way if nobody says: a USB serial converter waits 16 ms for more."""
_GATHER_S = 0.05
"""Lines that carry their own time are read so seldom: one by one, thousands a second would keep a CPU busy."""
_CHUNK_BYTES = 1 << 16
_GATHER_BYTES = 1 << 20
"""Who sends faster than it is read is read a part at a time: it never pauses."""
_LONGEST_LINE_BYTES = 1 << 16
_FIRST_LINE_S = 10.0
_END_S = 2.0


class LineSource(Protocol):
    """Where lines come from."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    def open(self) -> None:
        """Begin. Raises MeterError, UsageError."""
        ...

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what came, None where nothing did in time. Raises MeterError at the end."""
        ...

    def close(self) -> None:
        """End, and never raise."""
        ...


class LineMeter:
    """Lines from anywhere as a power meter. `exact`: their times are those of this computer's monotonic clock."""

    def __init__(self, source: LineSource, options: Options, *, exact: bool = False) -> None:
        self._source = source
        self._form = line_format(options)
        self._exact = exact
        if exact and not self._form.has_time:
            raise options.wrong("clock: without a column of times there is no clock to speak of")
        self._latency_ns = round(options.number("latency_s", _LATENCY_S) * 1e9)
        self._facts = MeterFacts(
            name=source.name,
            columns=self._form.columns,
            rate_hz=options.number("rate_hz"),
            accuracy=options.share("accuracy"),
            calibration=options.text("calibration") if options.has("calibration") else None,
        )
        self._pending = b""
        self._joined_inside = True

    def open(self) -> MeterFacts:
        """Start the source and wait for its first line of the format. Raises MeterError, UsageError."""
        self._source.open()
        deadline = time.monotonic() + _FIRST_LINE_S
        unread = 0
        while time.monotonic() < deadline:
            batch = self.read()
            if batch is not None and len(batch.t_ns):
                return self._facts
            unread += batch.unread if batch is not None else 0
        said = f"{unread} lines came that are not of its `columns`" if unread else "no line came"
        raise MeterError(f"{self._source.name}: {said} in {_FIRST_LINE_S:.0f} s")

    def start(self) -> None:
        """Pass over what came until now."""
        deadline = time.monotonic() + READ_S
        while self._source.receive(0.0) and time.monotonic() < deadline:
            self._pending, self._joined_inside = b"", True

    def read(self) -> Batch | None:
        """Return the lines that came. Raises MeterError at the end of them."""
        data = self._source.receive(READ_S)
        if data is None:
            return None
        arrived_ns = time.monotonic_ns()
        fresh = self._whole_lines(data)
        more = self._whole_lines(self._gathered()) if self._form.has_time else []
        too_long = len(self._pending) > _LONGEST_LINE_BYTES
        if too_long:
            self._pending, self._joined_inside = b"", True
        first, rest = (parse_lines(lines, self._form, arrived_ns) for lines in (fresh, more))
        # What is gathered lay about for a while: always as long where the meter sends in portions.
        clock = self._clock(int(first.t_ns[-1]), arrived_ns) if len(first.t_ns) else None
        return Batch(
            np.concatenate((first.t_ns, rest.t_ns)),
            np.concatenate((first.values, rest.values)),
            clock,
            unread=first.unread + rest.unread + too_long,
        )

    def _gathered(self) -> bytes:
        """Wait a moment and return what came meanwhile."""
        time.sleep(_GATHER_S)
        parts: list[bytes] = []
        while sum(map(len, parts)) < _GATHER_BYTES and (more := self._source.receive(0.0)):
            parts.append(more)
        return b"".join(parts)

    def _whole_lines(self, data: bytes) -> list[str]:
        """Return the lines that end in what came; the begin of another one is kept."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if self._joined_inside and lines:
            # Half a line may read like a whole one, with another time.
            lines, self._joined_inside = lines[1:], False
        return [line.decode(errors="replace") for line in lines]

    def _clock(self, there_ns: int, arrived_ns: int) -> ClockReading:
        if self._exact:
            return ClockReading(there_ns, there_ns, there_ns)
        return ClockReading(arrived_ns - self._latency_ns, there_ns, arrived_ns, one_way=True)

    def switch(self, on: bool) -> None:
        """Refuse: lines only come."""
        raise UsageError(f"{self._source.name} only tells what it measures: switch its output {_word(on)} by hand")

    def close(self) -> None:
        """End the source."""
        self._source.close()


class Command:
    """A program on this computer."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The program, and what it was told first: an interpreter alone says little."""
        return " ".join(PurePath(word).name for word in self._argv[:2])

    def open(self) -> None:
        """Start it, in a process group of its own."""
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise UsageError(
                f"the meter's program {self._argv[0]} is not there: install it, or write its path"
            ) from error
        except OSError as error:
            raise UsageError(f"the meter's program {self.name} cannot be run: {error.strerror}") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what it printed. Raises MeterError when it has ended."""
        if self._process is None or self._process.stdout is None:
            raise MeterError(f"{self.name} was not started")
        out = self._process.stdout.fileno()
        if not select.select([out], [], [], timeout_s)[0]:
            return None
        data = os.read(out, _CHUNK_BYTES)
        if not data:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            raise MeterError(f"the meter's program {self.name} ended (exit code {self._process.returncode})")
        return data

    def close(self) -> None:
        """End it and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        for word in (signal.SIGTERM, signal.SIGKILL):
            with suppress(OSError):
                os.killpg(process.pid, word)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
                break
        if process.stdout is not None:
            process.stdout.close()


def make(given: Mapping[str, object], where: str) -> LineMeter:
    """Return the meter that a profile describes. Raises UsageError."""
    options = Options(where, given, _KNOWN)
    clock = options.text("clock", "its own")
    if clock not in ("its own", "computer"):
        raise options.wrong(
            f"clock: expected `its own`, or `computer` for this computer's monotonic one, found {clock!r}"
        )
    return LineMeter(Command(options.words("command")), options, exact=clock == "computer")


def _word(on: bool) -> str:
    return "on" if on else "off"
