"""Steps about what was sampled: each collector, each program, the agent itself, power and memory."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping

from melt.analysis.burst_checks import check_memory, check_power
from melt.analysis.channel_checks import MIN_PROGRAM_RATE_SHARE, check_collector
from melt.analysis.overhead import overhead
from melt.analysis.selftest import Finding, absent, verdict
from melt.fleet.selftest.course import Course
from melt.fleet.selftest.sampling import BUFFER_BYTES, Sampled
from melt.records import Stream
from melt.telemetry.base import Parser
from melt.telemetry.journal import Line, Tick
from melt.telemetry.schedule import Group, ScheduledPoll, ScheduledStream
from melt.traces import Trace

MAX_AGENT_CPU = 0.10
"""Of one CPU. What watches must not be what is measured: docs/performance.md has a few per mille."""
MAX_MISSED = 0.05
"""More than a run may miss: here every CPU is kept busy on purpose."""
_RAW_CELLS = 160
_RAW_PROGRAM_CELLS = 4000
_SUBJECT = re.compile(r"([^:;,]{3,24}?) (?:is|are) ")
"""What a sentence on a channel that is missing begins with, where that is short enough for a name."""
_ENDINGS = ("stream_ended", "poll_failed")


def check_channels(course: Course, seen: Sampled) -> None:
    """Judge everything that the job brought home."""
    traces = {trace.collector: trace for trace in seen.traces}
    for sentence in seen.discovery.missing:
        subject = _SUBJECT.match(sentence)
        course.found("channels", subject[1] if subject else "remark", absent(sentence))
    for group in seen.schedule.groups:
        course.found("channels", group.collector, _group(group, traces[group.collector], seen))
    for program in seen.schedule.programs:
        trace = traces[program.source.streams[0].collector]
        course.found("programs", program.source.name, _program(program, trace, seen))
    course.found("observer", "cost of watching", _observer(seen))
    course.found("energy", "rest and burst", check_power(seen.traces, seen.rest, seen.burst))
    course.found("memory", "a known buffer", check_memory(seen.traces, BUFFER_BYTES, seen.peak_bytes))


def _group(group: Group, trace: Trace, seen: Sampled) -> Finding:
    ticks = [record for record in seen.journal.records if isinstance(record, Tick) and record.gid == group.gid]
    of_runner = all("{pid}" in file.path for file in group.files)
    if of_runner:
        began_ns, ended_ns = seen.burst
        ticks = [tick for tick in ticks if began_ns <= tick.t_ns <= ended_ns]
    errors: dict[str, str] = {}
    lines = []
    for index, file in enumerate(group.files):
        refused = Counter(tick.errnos[index] for tick in ticks if index in tick.errnos)
        if refused:
            why = os.strerror(refused.most_common(1)[0][0])
            errors |= {stream.source: why for stream in file.source.streams}
        first = next((raw for tick in ticks if (raw := tick.contents[index]) is not None), None)
        lines.append(f"{file.path}: {_read(first, file.source.parse, file.source.streams, _RAW_CELLS)}")
    measured = _measured(trace, [stream for file in group.files for stream in file.source.streams])
    return check_collector(measured, seen.burst if of_runner else seen.whole, errors, "\n".join(lines))


def _program(program: ScheduledStream | ScheduledPoll, trace: Trace, seen: Sampled) -> Finding:
    source = program.source
    said = [record for record in seen.journal.records if isinstance(record, Line) and record.source == program.sid]
    first = next((line.data for line in said if _values(line.data, source.parse, source.streams)), None)
    ends = [event for event in seen.events if event.name in _ENDINGS and event.data.get("sid") == program.sid]
    raw = [f"$ {' '.join(program.argv)}"]
    if first is None and said:
        raw.append(f"no value in {len(said)} lines, the first: {_shown(said[0].data, _RAW_PROGRAM_CELLS)}")
    elif first is not None:
        raw.append(_read(first, source.parse, source.streams, _RAW_PROGRAM_CELLS))
    raw += [f"{event.name}: {dict(event.data)}" for event in ends]
    measured = _measured(trace, source.streams)
    found = check_collector(measured, seen.whole, raw="\n".join(raw), min_rate_share=MIN_PROGRAM_RATE_SHARE)
    if not ends:
        return found
    complaint = str(ends[-1].data.get("stderr") or "").strip() or f"exit code {ends[-1].data.get('exit_code')}"
    return verdict(False, f"ended {len(ends)} times: {complaint}; {found.said}", found.figures, found.raw)


def _measured(trace: Trace, streams: list[Stream] | tuple[Stream, ...]) -> Trace:
    """Return the trace without the columns that were derived from others."""
    columns = {stream.name: trace.columns[stream.name] for stream in streams}
    return Trace(collector=trace.collector, t_ns=trace.t_ns, columns=columns, streams=tuple(streams))


def _observer(seen: Sampled) -> Finding:
    own = overhead(seen.events)
    figures: Mapping[str, float | None] = {
        "cpu_ratio": own.cpu_ratio,
        "rss_bytes": own.rss_bytes,
        "ticks": own.ticks,
        "missed": own.missed,
    }
    if own.cpu_ratio is None or own.missed_share is None:
        quiet = own.cpu_ratio is not None and own.cpu_ratio <= MAX_AGENT_CPU
        return verdict(quiet, "the agent had no file to read", figures)
    said = (
        f"{own.cpu_ratio:.2%} of one CPU, {own.missed_share:.2%} of {(own.ticks or 0) + (own.missed or 0)} ticks missed"
    )
    return verdict(own.cpu_ratio <= MAX_AGENT_CPU and own.missed_share <= MAX_MISSED, said, figures)


def _read(raw: bytes | None, parse: Parser, streams: tuple[Stream, ...], cells: int) -> str:
    """Write what a source said first and what was read out of it."""
    if raw is None:
        return "never readable"
    return f"{_shown(raw, cells)} -> {', '.join(_values(raw, parse, streams)) or 'no value'}"


def _values(raw: bytes, parse: Parser, streams: tuple[Stream, ...]) -> list[str]:
    pairs = zip(streams, parse(raw), strict=True)
    return [f"{stream.name} {value:.6g}" for stream, value in pairs if value == value]


def _shown(raw: bytes, cells: int) -> str:
    text = raw.decode(errors="backslashreplace").rstrip("\n")
    text = text.replace("\r", "\\r").replace("\0", "\\0").replace("\n", "\\n" if cells == _RAW_CELLS else "\n")
    return text if len(text) <= cells else f"{text[:cells]}… ({len(raw)} bytes)"
