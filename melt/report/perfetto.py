"""A run as a trace that Perfetto opens: a counter for each channel, slices for phases, tokens and operators.

All times are on the device's monotonic clock, as in the store; an external meter's have been brought to it. What is
known of the run, of the clock and of the meter stands in the arguments of the slice `run`.

A counter of Perfetto holds its value until the next one: the format has no way to end it. So where nothing was measured
a slice on a track beside the counter says so. Field numbers are those of Perfetto's protos/perfetto/trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melt.analysis.latency import INFERENCES
from melt.analysis.operators import OPERATORS, Profiler
from melt.codec import to_dict
from melt.records import RunStart, Stream, Window
from melt.report.protobuf import double, message, number, text, varint, varint_columns
from melt.traces import RunBundle, Times, Trace, Values

TOKENS = "tokens"
"""The collector whose rows are tokens: they become slices."""

_CLOCK_MONOTONIC = 3
_SLICE_BEGIN, _SLICE_END, _INSTANT, _COUNTER = 1, 2, 3, 4
_BY_NAME = 1
_RUN, _PHASES, _TOKENS, _OPERATORS = 1, 2, 3, 4
_FIRST_FREE = 16
_SEQUENCE = number(10, 1)
_UUID_BYTES, _TIME_BYTES = 3, 9
_ROWS = 1 << 16
"""Samples that are encoded at once: 2 MiB of trace."""

_OF_A_METER = ("facts", "covers", "samples", "lost", "on_device_clock")
"""What of a meter's document is worth reading in a trace."""

Facts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Slice:
    """A span with a name; `t1_ns` None: a moment."""

    name: str
    t0_ns: int
    t1_ns: int | None
    facts: Facts


def perfetto_trace(
    bundle: RunBundle, traces: Iterable[Trace], meter: Facts | None = None, profiler: Profiler | None = None
) -> Iterator[bytes]:
    """Encode a run, piece by piece: a file with all pieces in their order is the trace.

    `traces` are taken one at a time, so that no more than one is in memory. `meter` is what the run keeps of an
    external power meter and its clock, `profiler` what it keeps of a profile beside its trace.
    """
    start = bundle.start
    yield _packet(message(6, message(1, number(1, _CLOCK_MONOTONIC), number(2, 0)), number(2, _CLOCK_MONOTONIC)))
    title = f"{start.spec.label} on {start.device.name} ({start.spec.run_id})"
    yield _packet(number(13, 1), _descriptor(_RUN, title, None, message(3, number(1, 1), text(6, title))))
    yield from _laned("phases", _PHASES, [_phase(window) for window in bundle.windows])
    bounds = [t for window in bundle.windows for t in (window.t0_ns, window.t1_ns)]
    tracks, channels = _Tracks(), list[_Channel]()
    for trace in traces:
        if len(trace.t_ns):
            bounds += [int(trace.t_ns[0]), int(trace.t_ns[-1])]
        if trace.collector == TOKENS:
            yield from _laned("tokens", _TOKENS, _request_slices(trace, "token", "itl_s"))
        elif trace.collector == INFERENCES:
            yield from _laned("inferences", _TOKENS, _request_slices(trace, "inference", "latency_s"))
        elif trace.collector == OPERATORS:
            if profiler is not None:
                yield from _laned("operators", _OPERATORS, _operator_slices(trace, profiler))
        else:
            yield from _counters(trace, tracks, channels)
    span = (min(bounds), max(bounds)) if bounds else (0, 0)
    yield from _unmeasured(channels, tracks, span[1], start.spec.thresholds.gap_periods)
    yield from _slices(_RUN, [_Slice("run", *span, _facts(bundle, meter or {}))])


@dataclass(frozen=True, slots=True)
class _Channel:
    """What tells later where a channel was silent: when it had values, and after which of them a reading gave none."""

    name: str
    group: int
    rate_hz: float
    t_ns: Times
    lacking: NDArray[np.bool_]


class _Tracks:
    """Hands out numbers of tracks, and remembers those of the groups."""

    def __init__(self) -> None:
        self._next = _FIRST_FREE
        self._groups: dict[str, int] = {}

    def new(self) -> int:
        self._next += 1
        return self._next - 1

    def group(self, name: str) -> tuple[int, bytes]:
        """Return the number of a group, and what declares it if it is new."""
        if name in self._groups:
            return self._groups[name], b""
        uuid = self._groups[name] = self.new()
        return uuid, _packet(_descriptor(uuid, name, _RUN))


def _counters(trace: Trace, tracks: _Tracks, channels: list[_Channel]) -> Iterator[bytes]:
    """Encode the channels of a trace, and add them to `channels`."""
    declared = {stream.name: stream for stream in trace.streams}
    for name, values in trace.columns.items():
        stream = declared.get(name)
        group, declaration = tracks.group(trace.collector if stream is None else stream.quantity)
        counter = tracks.new()
        unit = "" if stream is None else stream.unit
        yield declaration + _packet(
            _descriptor(counter, name, group, message(8, text(6, unit)), text(14, _told(trace.collector, stream)))
        )
        measured = np.flatnonzero(np.isfinite(values))
        t_ns = trace.t_ns[measured]
        yield from _samples(counter, t_ns, values[measured])
        lacking = np.diff(measured, append=len(values)) > 1
        channels.append(_Channel(name, group, 0.0 if stream is None else stream.rate_hz, t_ns, lacking))


def _samples(track: int, t_ns: Times, values: Values) -> Iterator[bytes]:
    """Encode what a channel measured: rows of equal length, which numpy fills in a few steps."""
    uuid = varint_columns(np.array([track]), _UUID_BYTES).tobytes()
    event = number(9, _COUNTER) + varint(11 << 3) + uuid + double(44, 0.0)
    packet = varint(8 << 3) + bytes(_TIME_BYTES) + _SEQUENCE + message(11, event)
    row = np.frombuffer(message(1, packet), np.uint8)
    t_at = len(row) - len(packet) + 1
    for begin in range(0, len(t_ns), _ROWS):
        part = slice(begin, begin + _ROWS)
        rows = np.tile(row, (len(t_ns[part]), 1))
        rows[:, t_at : t_at + _TIME_BYTES] = varint_columns(t_ns[part], _TIME_BYTES)
        rows[:, -8:] = values[part].astype("<f8").view(np.uint8).reshape(-1, 8)
        yield rows.tobytes()


def _unmeasured(channels: Iterable[_Channel], tracks: _Tracks, end_ns: int, periods: float) -> Iterator[bytes]:
    """Encode the gaps of channels, each from one value to the next or to the end of everything.

    A gap is where readings gave no value, or where nothing was read for more than `periods` of the channel.
    """
    for channel in channels:
        if not len(channel.t_ns):
            continue
        until = np.append(channel.t_ns[1:], end_ns)
        silence_s = periods / channel.rate_hz if channel.rate_hz > 0 else np.inf
        gaps = np.flatnonzero(channel.lacking | ((until - channel.t_ns) / 1e9 > silence_s))
        if len(gaps):
            track = tracks.new()
            yield _packet(_descriptor(track, f"{channel.name} not measured", channel.group))
            spans = zip(channel.t_ns[gaps].tolist(), until[gaps].tolist(), strict=True)
            yield from _slices(track, (_Slice("not measured", *gap, {}) for gap in spans))


def _laned(name: str, track: int, slices: Sequence[_Slice]) -> Iterator[bytes]:
    """Encode slices on a track; those that overlap others get tracks of the same name beside it.

    Slices of one track must lie within one another or apart: Perfetto ends the innermost one.
    """
    lanes: list[list[_Slice]] = []
    for one in sorted(slices, key=lambda s: s.t0_ns):
        free = (lane for lane in lanes if (lane[-1].t1_ns or lane[-1].t0_ns) <= one.t0_ns)
        lane = next(free, None)
        if lane is None:
            lanes.append([one])
        else:
            lane.append(one)
    for i, lane in enumerate(lanes):
        # Beyond all numbers of counters: there may be any number of those.
        uuid = track if i == 0 else (1 << 7 * _UUID_BYTES) + (track << 16) + i
        yield _packet(_descriptor(uuid, name, _RUN))
        yield from _slices(uuid, lane)


def _slices(track: int, slices: Iterable[_Slice]) -> Iterator[bytes]:
    for one in slices:
        notes = b"".join(message(4, text(10, key), _value(value)) for key, value in one.facts.items())
        kind = _INSTANT if one.t1_ns is None else _SLICE_BEGIN
        data = _event(one.t0_ns, number(9, kind), number(11, track), text(23, one.name), notes)
        if one.t1_ns is not None:
            data += _event(one.t1_ns, number(9, _SLICE_END), number(11, track))
        yield data


def _event(t_ns: int, *parts: bytes) -> bytes:
    return _packet(number(8, t_ns), message(11, *parts))


def _packet(*parts: bytes) -> bytes:
    return message(1, *parts, _SEQUENCE)


def _descriptor(uuid: int, name: str, parent: int | None, *parts: bytes) -> bytes:
    within = b"" if parent is None else number(5, parent)
    return message(60, number(1, uuid), text(2, name), within, number(11, _BY_NAME), *parts)


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return number(2, value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return number(4, value)
    return double(5, value) if isinstance(value, float) else text(6, str(value))


def _phase(window: Window) -> _Slice:
    told = {"repetition": window.repetition, "warmup": window.warmup}
    told |= {"n_tokens": window.n_tokens, "depth": window.depth}
    return _Slice(window.phase, window.t0_ns, window.t1_ns, _known(told))


def _request_slices(trace: Trace, name: str, length: str) -> list[_Slice]:
    """Return a slice for each token, from the one before it on, or inference; what has no length is a moment."""
    since_s = trace.columns.get(length, np.full(len(trace.t_ns), np.nan))
    told = {column: values for column, values in trace.columns.items() if column != length}
    slices = []
    for i, t_ns in enumerate(trace.t_ns.tolist()):
        facts = {column: int(values[i]) for column, values in told.items() if np.isfinite(values[i])}
        if np.isfinite(since_s[i]):
            slices.append(_Slice(name, t_ns - round(since_s[i] * 1e9), t_ns, facts))
        else:
            slices.append(_Slice(name, t_ns, None, facts))
    return slices


def _operator_slices(trace: Trace, profiler: Profiler) -> list[_Slice]:
    """Return a slice for each time that a node was computed, named by what it computes."""
    told = [
        (one.op, _known({"node": one.name, "type": one.detail, "backend": one.place})) for one in profiler.operators
    ]
    lengths_ns = np.rint(trace.columns["duration_s"] * 1e9).astype(np.int64).tolist()
    columns = zip(trace.columns["node"].astype(int).tolist(), trace.t_ns.tolist(), lengths_ns, strict=True)
    return [_Slice(told[node][0], t_ns, t_ns + length_ns, told[node][1]) for node, t_ns, length_ns in columns]


def _told(collector: str, stream: Stream | None) -> str:
    if stream is None:
        return f"collector {collector}"
    counts = ", counts up" if stream.cumulative else ""
    rate = f" at {stream.rate_hz:g} Hz" if stream.rate_hz else ""
    return f"{stream.quantity} of {stream.site}, from {stream.source}, collector {collector}{rate}{counts}"


def _facts(bundle: RunBundle, meter: Facts) -> dict[str, object]:
    """Return what a reader of the trace asks next: what ran where, in which state, and on which clock."""
    start, stop = bundle.start, bundle.stop
    facts: dict[str, object] = {
        "run": start.spec.run_id,
        "sweep": start.spec.sweep_id,
        "outcome": stop.outcome.value,
        "verdict": stop.verdict.value,
        "reasons": "; ".join(f"{reason.code}: {reason.message}" for reason in stop.reasons) or None,
        "started_utc_ns": start.started_utc_ns,
        "model": start.spec.model,
        "model sha256": start.artifact.sha256,
        "engine": start.spec.engine,
        "workload": start.spec.workload.name,
        "clock": "the device's monotonic clock",
        "clock host less device ns": start.clock_offset_ns,
        "clock uncertainty ns": start.clock_uncertainty_ns,
    }
    facts |= _flat({name: meter[name] for name in _OF_A_METER if name in meter}, "meter ")
    facts |= _flat(stop.used, "used ")
    facts |= _device_facts(start)
    return _known(facts)


def _device_facts(start: RunStart) -> dict[str, object]:
    told = to_dict(start.device)
    cpus = {f"cpu{cpu.pop('index')}": cpu for cpu in told.pop("cpus")}
    facts = dict(_flat(told | cpus, "device "))
    for knob in start.knobs:
        facts[f"knob {knob.name}"] = f"{'unknown' if knob.before is None else knob.before} -> {knob.asked}"
    return facts


def _flat(facts: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    """Give the leaves of nested facts, each with its path of words."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name} ")
        elif isinstance(value, (list, tuple)):
            yield f"{within}{name}", ", ".join(map(str, value)) or None
        else:
            yield f"{within}{name}", value


def _known(facts: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in facts.items() if value is not None}
