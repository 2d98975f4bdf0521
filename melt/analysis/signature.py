"""A known pattern of work found in a power trace: when the device's own bursts show in what the meter saw. Pure.

It tells how well two clocks were mapped onto each other by other means. The pattern is played by the agent, which says
when it was busy; power follows within the time that a governor takes to raise the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis.series import Series, Span
from melt.traces import Values

FOUND_FROM = 0.7
"""Correlation, 0 to 1: a device's other work gives 0.2 to 0.4 against a pattern of a dozen edges."""
RAMP_NS = 10_000_000
"""A governor looks at the load every few milliseconds, and only then is the pattern seen in full."""
_FINEST_NS = 200_000
_LEAST_BEYOND = 0.1
"""By how much the best place must be better than any place that is further away than a burst is long."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Where the pattern was found: `lag_ns` later than where the clocks say, to within `uncertainty_ns`.

    `quality` is the correlation at that place, 1 where the trace is the pattern and nothing else.
    """

    lag_ns: int
    uncertainty_ns: int
    quality: float


def find_signature(power: Series, busy_ns: Sequence[Span], within_ns: int) -> Signature | None:
    """Return where a pattern lies in a power trace, None where it cannot be told from other work.

    `busy_ns` are the spans of the pattern on the trace's clock as it is believed to be; it is looked for `within_ns`
    to either side, as far as there are samples.
    """
    if len(busy_ns) < 2 or len(power) < 2:
        return None
    begin_ns, end_ns = busy_ns[0][0], busy_ns[-1][1]
    step_ns = max(_FINEST_NS, round(float(np.median(np.diff(power.t_ns)))))
    # What is before and after the pattern belongs to it: no work.
    edge_ns = max(last - first for first, last in busy_ns)
    first_ns = max(begin_ns - edge_ns - within_ns, int(power.t_ns[0]))
    last_ns = min(end_ns + edge_ns + within_ns, int(power.t_ns[-1]))
    n_pattern = (end_ns - begin_ns + 2 * edge_ns) // step_ns
    n_trace = (last_ns - first_ns) // step_ns
    if n_pattern < 8 or n_trace <= n_pattern:
        return None
    around = power.around((first_ns, last_ns))
    if around is None:
        return None
    grid_ns = step_ns * np.arange(n_trace, dtype=np.float64)
    watts = np.interp(grid_ns, (around[0] - first_ns).astype(np.float64), around[1])
    pattern = _pattern(busy_ns, begin_ns - edge_ns, step_ns, n_pattern)
    likeness = _correlation(watts, pattern)
    best = int(np.argmax(likeness))
    away = max(1, min(last - first for first, last in busy_ns) // step_ns)
    others = np.concatenate((likeness[: max(0, best - away)], likeness[best + away + 1 :]))
    quality = float(likeness[best])
    if quality < FOUND_FROM or (len(others) and quality - float(others.max()) < _LEAST_BEYOND):
        return None
    lag_ns = first_ns + best * step_ns - (begin_ns - edge_ns)
    return Signature(lag_ns, RAMP_NS + step_ns, quality)


def _pattern(busy_ns: Sequence[Span], begin_ns: int, step_ns: int, n: int) -> Values:
    """Return the share of each step in which the device was busy."""
    edges = begin_ns + step_ns * np.arange(n + 1, dtype=np.int64)
    busy = np.zeros(n + 1)
    for first, last in busy_ns:
        busy += np.clip(edges, first, last) - first
    return np.asarray(np.diff(busy) / step_ns, np.float64)


def _correlation(trace: Values, pattern: Values) -> Values:
    """Return Pearson's correlation of a pattern with each part of a trace that is as long."""
    n, m = len(trace), len(pattern)
    size = 1 << (n + m - 1).bit_length()
    trace = trace - trace.mean()
    shape = pattern - pattern.mean()
    product = np.fft.irfft(np.fft.rfft(trace, size) * np.conj(np.fft.rfft(shape, size)), size)[: n - m + 1]
    sums = np.concatenate(([0.0], np.cumsum(trace)))
    squares = np.concatenate(([0.0], np.cumsum(np.square(trace))))
    spread = squares[m:] - squares[:-m] - np.square(sums[m:] - sums[:-m]) / m
    scale = np.sqrt(np.maximum(spread, 0.0)) * float(np.linalg.norm(shape))
    # A part in which nothing moves is like no pattern.
    moved = scale > 1e-9 * max(1.0, float(np.abs(trace).max(initial=0.0))) * m
    return np.where(moved, product / np.where(moved, scale, 1.0), 0.0)
