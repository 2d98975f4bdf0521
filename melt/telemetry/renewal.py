"""Meters that are read more often than they renew their value: what they say counts for the moment of the renewal.

The energy counters of Apple's chips are published in batches, on an M5 Max with macOS 27 2.03 to 2.23 s apart, twice in
2.1 s on an M1 Ultra (github.com/lablup/all-smi/pull/412, issue 415), and stood still for good in versions before its
release (github.com/vladkens/macmon/issues/76). Read every 100 ms they seem to say 0 W, 0 W, then twenty times too much.
A row here has a value where its counter moved since the row before, and the declared rate is that of the movements: a
span that they do not enclose, or too few of them for it, then gives no energy instead of a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from melt.records import Stream
from melt.telemetry.sites import SMC, SOC, SYSTEM
from melt.traces import Times, Trace, Values

WINDOW = "powermetrics_window"
"""The column with the seconds before a line over which its powers are means."""

_PARTS = ("ane", "cpu", "dram", "gpu")
_CLOCK = "cpu"
"""The part whose counter tells a publication: a CPU always consumes, a GPU at rest does not."""

_Column = tuple[Stream, Values]


def with_renewals(trace: Trace) -> Trace:
    """Return the trace with what is derived from its moments of renewal; the same trace where there is nothing."""
    return trace.with_columns([*_soc(trace), *_system(trace)])


def renewed(values: Values) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell in which rows a value is another than in the row before that has one. The first is none: it may be old."""
    moved = np.zeros(len(values), np.bool_)
    known = np.flatnonzero(np.isfinite(values))
    moved[known[1:]] = np.diff(values[known]) != 0
    return moved


def counts(trace: Trace) -> bool:
    """Whether a trace has what the chip's CPUs consumed, whether it moved or not."""
    return _CLOCK in _counters(trace)


def _soc(trace: Trace) -> Iterator[_Column]:
    """Add up what the chip's parts consumed, at the moments at which the CPUs' counter moved."""
    counters = _counters(trace)
    if _CLOCK not in counters:
        return
    stream, clock = counters[_CLOCK]
    moved = renewed(clock)
    total = np.sum([values for _, values in counters.values()], axis=0)
    rate_hz = _rate_hz(trace.t_ns[moved & np.isfinite(total)])
    if rate_hz is not None:
        yield (
            replace(
                stream,
                name=f"{trace.collector}_soc_j",
                quantity="energy",
                unit="j",
                site=SOC + "+".join(counters),
                rate_hz=rate_hz,
                cumulative=True,
            ),
            np.where(moved, total, np.nan),
        )


def _counters(trace: Trace) -> dict[str, _Column]:
    """Return the energy of each part: as it was counted, or added up from mean powers and how long each was.

    A part of which nothing was ever told is none: some chips have no counter for it, some versions no word.
    """
    window_s = next((trace.columns[s.name] for s in trace.streams if s.name == f"{WINDOW}_s"), None)
    found: dict[str, _Column] = {}
    for stream in trace.streams:
        part = stream.site.removeprefix(SOC)
        if not stream.site.startswith(SOC) or part not in _PARTS or np.isnan(trace.columns[stream.name]).all():
            continue
        if stream.quantity == "energy" and stream.cumulative:
            found[part] = (stream, trace.columns[stream.name])
        elif stream.quantity == "power" and window_s is not None:
            found[part] = (stream, np.cumsum(trace.columns[stream.name] * window_s))
    return dict(sorted(found.items()))


def _system(trace: Trace) -> Iterator[_Column]:
    for stream in trace.streams:
        if stream.site == SMC and stream.quantity == "power":
            values = trace.columns[stream.name]
            moved = renewed(values)
            rate_hz = _rate_hz(trace.t_ns[moved])
            if rate_hz is not None:
                yield (
                    replace(stream, name="system_power_w", site=SYSTEM, rate_hz=rate_hz),
                    np.where(moved, values, np.nan),
                )


def _rate_hz(t_ns: Times) -> float | None:
    """Return how often in a second there was a renewal, None where there were too few to tell."""
    span_s = float(t_ns[-1] - t_ns[0]) / 1e9 if len(t_ns) > 1 else 0.0
    return (len(t_ns) - 1) / span_s if span_s > 0 else None
