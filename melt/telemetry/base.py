"""What a channel is: a file that the agent reads, or a program whose lines it stamps, and how to make numbers of it.

A platform module (platforms/linux.py, ...) names the globs worth reading and turns one snapshot of their contents into
`Discovery`: pure functions, tested on captured snapshots. The agent then returns raw bytes per tick, and `parse`
makes the numbers on the host, so that a better decoder can be run again over an old journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from melt.records import Calibration, Stream
from melt.targets.probe import Snapshot as Snapshot

STREAMS, PYTHON = "{streams}", "{python}"

Parser = Callable[[bytes], tuple[float, ...]]
"""Raw content -> one float per declared stream, NaN where a value is not there. Never raises on odd content."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A limit above which a device suffers, whatever is asked for. `per_unit` of what is read make one of `unit`.

    `basis` says why it is there. Of a program's output the number is the one behind `before`, on the last line that
    holds `besides` too.
    """

    site: str
    limit: float
    basis: str
    unit: str = "c"
    per_unit: float = 1.0
    before: str = ""
    besides: str = ""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file read at `rate_hz`. `{pid}` in the path stands for the runner. `streams` and the parser's result agree.

    `trip_per_c` is set where the file begins with the integer temperature of a chip that must not get too hot: so many
    of its units make one degree Celsius. `guard` is a limit of its own.
    """

    path: str
    rate_hz: float
    streams: tuple[Stream, ...]
    parse: Parser
    max_bytes: int = 4096
    trip_per_c: float | None = None
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class LineSource:
    """A program whose stdout the agent stamps and keeps. A line without values gives all NaN.

    Without `period_s` it is kept running and each of its lines is one reading. With it, it is run anew every so many
    seconds, and all that it printed is one reading, newlines included (`dumpsys battery`).

    `guards` are limits for numbers that one prints that is run anew; `chips` say where it prints the temperatures of
    chips, which have the limit that is asked for.

    `once` is how a program that is kept running is asked for a single reading, where it can be: a gate looks so.

    In `argv`, STREAMS stands for the folder on the device where the programs of agents/streams lie, which are
    brought there when a run needs them, and PYTHON for the interpreter of melt's own environment there.
    """

    name: str
    argv: tuple[str, ...]
    streams: tuple[Stream, ...]
    parse: Parser
    period_s: float | None = None
    once: tuple[str, ...] | None = None
    guards: tuple[Guard, ...] = ()
    chips: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a target offers. `missing` are sentences, each said once: what is not there and what would make it so."""

    files: tuple[FileSource, ...] = ()
    lines: tuple[LineSource, ...] = ()
    missing: tuple[str, ...] = ()
    calibrations: tuple[Calibration, ...] = ()

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Every declared stream, in order."""
        sources: tuple[FileSource | LineSource, ...] = (*self.files, *self.lines)
        return tuple(stream for source in sources for stream in source.streams)
