"""What the agent is asked to read and when, made of a discovery; the same discovery always gives the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from melt.telemetry.base import Discovery, FileSource, LineSource

FIRST_SID = 2
"""Streams are numbered from here: 0 and 1 are the runner's stdout and stderr."""


@dataclass(frozen=True, slots=True)
class ScheduledFile:
    """A file and its number in the job."""

    cid: int
    source: FileSource

    @property
    def path(self) -> str:
        """The file on the device; `{pid}` stands for the runner."""
        return self.source.path

    @property
    def max_bytes(self) -> int:
        """How much of it is read."""
        return self.source.max_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one collector, read one after the other at each tick."""

    gid: int
    collector: str
    period_ns: int
    files: tuple[ScheduledFile, ...]


@dataclass(frozen=True, slots=True)
class ScheduledStream:
    """A program and its number in the job."""

    sid: int
    source: LineSource

    @property
    def argv(self) -> tuple[str, ...]:
        """The command."""
        return self.source.argv


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything the job file says about sampling."""

    groups: tuple[Group, ...]
    streams: tuple[ScheduledStream, ...]

    def trips(self, limit_c: float | None) -> tuple[tuple[int, int], ...]:
        """Return (cid, raw limit) of every file that can end the run when its chip gets hotter than `limit_c`."""
        if limit_c is None:
            return ()
        scales = ((file.cid, file.source.trip_per_c) for group in self.groups for file in group.files)
        return tuple((cid, math.floor(limit_c * per_c)) for cid, per_c in scales if per_c is not None)


def make_schedule(discovery: Discovery) -> Schedule:
    """Number the files and streams of a discovery. A group is a collector: one clock, one rate.

    Raises ValueError when a platform gave one collector two rates, or two programs one collector.
    """
    collectors: dict[str, list[ScheduledFile]] = {}
    for cid, source in enumerate(discovery.files):
        collectors.setdefault(source.streams[0].collector, []).append(ScheduledFile(cid, source))
    groups = tuple(
        Group(gid, collector, _period_ns(collector, files), tuple(files))
        for gid, (collector, files) in enumerate(collectors.items())
    )
    streams = tuple(ScheduledStream(sid, source) for sid, source in enumerate(discovery.lines, FIRST_SID))
    names = [*collectors, *(stream.source.streams[0].collector for stream in streams)]
    if len(set(names)) < len(names):
        raise ValueError(f"one collector has several clocks: {sorted(names)}")
    return Schedule(groups, streams)


def _period_ns(collector: str, files: list[ScheduledFile]) -> int:
    rates = {file.source.rate_hz for file in files}
    if len(rates) > 1:
        raise ValueError(f"collector {collector} has several rates: {sorted(rates)}")
    return round(1e9 / rates.pop())
