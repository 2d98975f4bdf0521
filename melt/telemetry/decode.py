"""From a journal's raw bytes to traces: one wide table per collector. Equal bytes are parsed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np

from melt.records import Stream
from melt.telemetry.base import Parser
from melt.telemetry.derive import with_derived
from melt.telemetry.journal import Journal, Line, Tick
from melt.telemetry.renewal import with_renewals
from melt.telemetry.schedule import Group, Schedule, ScheduledPoll, ScheduledStream
from melt.traces import Times, Trace, Values


def decode(journal: Journal, schedule: Schedule) -> list[Trace]:
    """Return a trace per collector of the schedule, also where nothing was read, in the schedule's order.

    Counters stay cumulative as the device gave them; what follows from them (`derive`) comes behind. Rows are in the
    order of time. A tick that does not have as many contents as its group has files belongs to another schedule and is
    passed over.
    """
    ticks: dict[int, list[Tick]] = {group.gid: [] for group in schedule.groups}
    widths = {group.gid: len(group.files) for group in schedule.groups}
    lines: dict[int, list[Line]] = {program.sid: [] for program in schedule.programs}
    for record in journal.records:
        if isinstance(record, Tick):
            if widths.get(record.gid) == len(record.contents):
                ticks[record.gid].append(record)
        elif isinstance(record, Line) and record.source in lines:
            lines[record.source].append(record)
    traces = [_group_trace(group, ticks[group.gid]) for group in schedule.groups]
    traces += [_program_trace(program, lines[program.sid]) for program in schedule.programs]
    return [with_renewals(with_derived(trace)) for trace in traces]


def _group_trace(group: Group, ticks: Sequence[Tick]) -> Trace:
    t_ns = np.fromiter((tick.t_ns for tick in ticks), np.int64, len(ticks))
    contents = [tick.contents for tick in ticks]
    columns: dict[str, Values] = {}
    streams: list[Stream] = []
    for index, file in enumerate(group.files):
        raws = map(itemgetter(index), contents)
        columns.update(_columns(raws, len(ticks), file.source.parse, file.source.streams))
        streams += file.source.streams
    return _ordered(group.collector, t_ns, columns, tuple(streams))


def _program_trace(program: ScheduledStream | ScheduledPoll, lines: Sequence[Line]) -> Trace:
    whole = _join(lines)
    streams = program.source.streams
    t_ns = np.fromiter((t for t, _ in whole), np.int64, len(whole))
    columns = _columns((data for _, data in whole), len(whole), program.source.parse, streams)
    # A heading or an empty line measured nothing: it is no row.
    measured = np.zeros(len(whole), np.bool_)
    for column in columns.values():
        measured |= ~np.isnan(column)
    columns = {name: column[measured] for name, column in columns.items()}
    return _ordered(streams[0].collector, t_ns[measured], columns, streams)


def _columns(raws: Iterable[bytes | None], count: int, parse: Parser, streams: tuple[Stream, ...]) -> dict[str, Values]:
    numbers = _Numbers()
    index = np.fromiter(map(numbers.__getitem__, raws), np.intp, count)
    unmeasured = (np.nan,) * len(streams)
    rows = [unmeasured if raw is None else parse(raw) for raw in numbers]
    table = np.array(rows, np.float64).reshape(len(rows), len(streams))
    return {stream.name: table[index, i] for i, stream in enumerate(streams)}


class _Numbers(dict[bytes | None, int]):
    """Gives each new content the next number, so that a column is an index into the few contents that differ."""

    def __missing__(self, raw: bytes | None) -> int:
        self[raw] = number = len(self)
        return number


def _join(lines: Sequence[Line]) -> list[tuple[int, bytes]]:
    """Put the pieces of lines together that the agent had to cut; the time is that of the first piece."""
    whole: list[tuple[int, bytes]] = []
    pieces: list[Line] = []
    for line in lines:
        pieces.append(line)
        if not line.cut:
            whole.append((pieces[0].t_ns, line.data if len(pieces) == 1 else b"".join(p.data for p in pieces)))
            pieces = []
    return whole


def _ordered(collector: str, t_ns: Times, columns: dict[str, Values], streams: tuple[Stream, ...]) -> Trace:
    if len(t_ns) > 1 and bool((np.diff(t_ns) < 0).any()):
        order = np.argsort(t_ns, kind="stable")
        t_ns, columns = t_ns[order], {name: column[order] for name, column in columns.items()}
    return Trace(collector=collector, t_ns=t_ns, columns=columns, streams=streams)
