"""One measured column on its clock, cut to spans and read at exact times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from melt.records import Stream
from melt.traces import Times, Trace, Values

Span = tuple[int, int]
"""From and to, ns on the device's monotonic clock."""

MAX_GAP_PERIODS = 5.0
"""A hole of more than this many sampling periods is not bridged by a straight line."""

_UNKNOWN_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """The measured samples of one stream: no NaN, times never decreasing. Shapes (n,)."""

    stream: Stream
    t_ns: Times
    values: Values

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def max_gap_ns(self) -> int:
        """How far apart two samples may be and still be joined."""
        return self.periods_ns(MAX_GAP_PERIODS)

    def periods_ns(self, n: float) -> int:
        """Return how long so many sampling periods are."""
        rate_hz = self.stream.rate_hz
        return round(n * 1e9 * (1 / rate_hz if rate_hz > 0 else _UNKNOWN_PERIOD_S))

    def inside(self, span: Span) -> Values:
        """Return the values of the samples within the span, both ends included."""
        first, last = np.searchsorted(self.t_ns, span[0], "left"), np.searchsorted(self.t_ns, span[1], "right")
        return self.values[first:last]

    def around(self, span: Span) -> tuple[Times, Values] | None:
        """Return the samples within the span and the one on either side of it; None when they do not enclose it."""
        if not len(self) or span[0] < self.t_ns[0] or span[1] > self.t_ns[-1]:
            return None
        first = int(np.searchsorted(self.t_ns, span[0], "right")) - 1
        last = int(np.searchsorted(self.t_ns, span[1], "left"))
        return self.t_ns[first : last + 1], self.values[first : last + 1]

    def longest_gap_ns(self, span: Span) -> int | None:
        """Return the longest time between two samples that lies within the span or reaches into it.

        None when the samples do not enclose the span.
        """
        found = self.around(span)
        if found is None:
            return None
        return int(np.diff(found[0]).max()) if len(found[0]) > 1 else 0

    def growth(self, span: Span) -> float | None:
        """Return by how much a counter grew in the span, read at exact times between samples; wraps are undone.

        None when the samples do not enclose the span, leave a hole in it, or the counter began anew (no known wrap).
        """
        found = self.around(span)
        if found is None or (self.longest_gap_ns(span) or 0) > self.max_gap_ns:
            return None
        t_ns, values = found
        steps = self.steps(values)
        return None if steps is None else grown(t_ns, steps, span)

    def steps(self, values: Values) -> Values | None:
        """Return by how much a counter grew from value to value, wraps undone; None where it began anew."""
        steps = np.diff(values)
        if (steps < 0).any() and self.stream.wraps_at is not None:
            steps = np.where(steps < 0, steps + self.stream.wraps_at, steps)
        return None if (steps < 0).any() else steps


def grown(t_ns: Times, steps: Values, span: Span) -> float:
    """Return by how much a counter grew, read at both ends of a span on the line between two samples."""
    total = np.concatenate(([0.0], np.cumsum(steps)))
    # Times relative to the span: a float64 cannot hold nanoseconds since boot and fractions of a sample.
    at = np.interp([0.0, float(span[1] - span[0])], (t_ns - span[0]).astype(np.float64), total)
    return float(at[1] - at[0])


def common_span(series: Iterable[Series], span: Span) -> Span | None:
    """Return the part of a span that all series enclose; None when that is less than half of it."""
    series = list(series)
    t0_ns = max([span[0], *(int(s.t_ns[0]) for s in series)])
    t1_ns = min([span[1], *(int(s.t_ns[-1]) for s in series)])
    return (t0_ns, t1_ns) if 2 * (t1_ns - t0_ns) >= span[1] - span[0] > 0 else None


def find(traces: Iterable[Trace], wanted: Callable[[Stream], bool]) -> list[Series]:
    """Return the series of every stream that is wanted and has samples, in the order of the traces."""
    found = []
    for trace in traces:
        for stream in trace.streams:
            if wanted(stream) and stream.name in trace.columns:
                values = trace.columns[stream.name]
                kept = np.isfinite(values)
                if kept.any():
                    found.append(Series(stream, trace.t_ns[kept], values[kept]))
    return found
