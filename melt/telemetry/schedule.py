"""What the agent is asked to read and when, made of a discovery; the same discovery always gives the same numbers.

The parts of a schedule are those of a job, each with its source, which says what the bytes mean that come back.
"""

from __future__ import annotations

from dataclasses import dataclass

from melt.targets import jobfile
from melt.telemetry.base import Discovery, FileSource, LineSource

FIRST_SID = 2
"""Streams are numbered from here: 0 and 1 are the runner's stdout and stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFile(jobfile.File):
    """A file of a job and what is in it."""

    source: FileSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(jobfile.Group):
    """The files of one collector."""

    collector: str
    files: tuple[ScheduledFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStream(jobfile.StreamCommand):
    """A program of a job and what its lines hold."""

    source: LineSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledPoll(jobfile.Poll):
    """A program that is run anew again and again, and what it prints each time."""

    source: LineSource


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything the job file says about sampling."""

    groups: tuple[Group, ...]
    streams: tuple[ScheduledStream, ...]
    polls: tuple[ScheduledPoll, ...] = ()

    @property
    def programs(self) -> tuple[ScheduledStream | ScheduledPoll, ...]:
        """Every program, whichever way it is run."""
        return (*self.streams, *self.polls)


def make_schedule(discovery: Discovery) -> Schedule:
    """Number the files and streams of a discovery. A group is a collector: one clock, one rate.

    Raises ValueError when a platform gave one collector two rates, or two programs one collector.
    """
    collectors: dict[str, list[ScheduledFile]] = {}
    for cid, source in enumerate(discovery.files):
        file = ScheduledFile(cid, source.path, source.max_bytes, source=source)
        collectors.setdefault(source.streams[0].collector, []).append(file)
    groups = tuple(
        Group(gid=gid, period_ns=_period_ns(collector, files), files=tuple(files), collector=collector)
        for gid, (collector, files) in enumerate(collectors.items())
    )
    numbered = list(enumerate(discovery.lines, FIRST_SID))
    schedule = Schedule(
        groups,
        tuple(ScheduledStream(sid, line.argv, source=line) for sid, line in numbered if line.period_s is None),
        tuple(
            ScheduledPoll(sid, round(line.period_s * 1e9), line.argv, source=line)
            for sid, line in numbered
            if line.period_s is not None
        ),
    )
    names = [*collectors, *(program.source.streams[0].collector for program in schedule.programs)]
    if len(set(names)) < len(names):
        raise ValueError(f"one collector has several clocks: {sorted(names)}")
    return schedule


def _period_ns(collector: str, files: list[ScheduledFile]) -> int:
    rates = {file.source.rate_hz for file in files}
    if len(rates) > 1:
        raise ValueError(f"collector {collector} has several rates: {sorted(rates)}")
    return round(1e9 / rates.pop())
