"""What ends a run before its device suffers: the limit that a plan asks for, and those that a device has of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from melt.records import TripLimit
from melt.targets import jobfile
from melt.telemetry.base import Guard
from melt.telemetry.schedule import Schedule

_ASKED = "as `trip_c` asks"


@dataclass(frozen=True, slots=True)
class Limits:
    """Trips of a job's files, of its polls by their number, and the record of all. `as_asked`: `trip_c` is watched."""

    files: tuple[jobfile.Trip, ...]
    polls: Mapping[int, tuple[jobfile.PollTrip, ...]]
    records: tuple[TripLimit, ...]
    as_asked: bool


def trip_limits(schedule: Schedule, trip_c: float | None, *, defaults: bool = True) -> Limits:
    """Find what can be watched on a device. `trip_c` is for chips; without `defaults` it is the only limit.

    Where no file tells a chip's temperature, what the thermal service prints of it is taken.
    """
    records: list[TripLimit] = []
    files: list[jobfile.Trip] = []
    polls: dict[int, tuple[jobfile.PollTrip, ...]] = {}
    for file in (file for group in schedule.groups for file in group.files):
        source, guards = file.source, []
        if trip_c is not None and source.trip_per_c is not None:
            guards.append(Guard(source.streams[0].site, trip_c, _ASKED, per_unit=source.trip_per_c))
        if defaults and source.guard is not None:
            guards.append(source.guard)
        limits = [_limit(guard, f"cid {file.cid}") for guard in guards]
        files += [jobfile.Trip(file.cid, _raw(limit)) for limit in limits]
        records += limits
    chips_c = None if any(limit.basis == _ASKED for limit in records) else trip_c
    for poll in schedule.polls:
        watched = [*poll.source.guards] if defaults else []
        if chips_c is not None:
            watched += [replace(chip, limit=chips_c, basis=_ASKED) for chip in poll.source.chips]
        limits = [_limit(guard, f"sid {poll.sid}") for guard in watched]
        polls[poll.sid] = tuple(
            jobfile.PollTrip(_raw(limit), guard.before, guard.besides)
            for guard, limit in zip(watched, limits, strict=True)
        )
        records += limits
    return Limits(tuple(files), polls, tuple(records), any(limit.basis == _ASKED for limit in records))


def _limit(guard: Guard, channel: str) -> TripLimit:
    return TripLimit(
        site=guard.site,
        limit=guard.limit,
        unit=guard.unit,
        basis=guard.basis,
        channel=channel,
        per_unit=guard.per_unit,
    )


def _raw(limit: TripLimit) -> int:
    """Return a limit in the agent's numbers, rounded down: it is exceeded by the next one."""
    return math.floor(limit.limit * limit.per_unit)
