"""Whether a collector delivers what it was asked for: rate, gaps, readable and plausible values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melt.analysis import channels
from melt.analysis.selftest import Finding, verdict
from melt.analysis.series import MAX_GAP_PERIODS, Span
from melt.records import Stream
from melt.traces import Trace, Values

MIN_RATE_SHARE = 0.9
"""A collector that gives a tenth less than it was asked for leans towards quiet moments."""
MIN_PROGRAM_RATE_SHARE = 0.5
"""Programs take their time over each line, and wait for a CPU like everybody while all are busy."""
MIN_READABLE_SHARE = 0.9
"""A value in ten may be missing: sensors of parts that sleep."""

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": channels.PLAUSIBLE_C,
    "power": (0.0, 5e3),
    "energy": (0.0, np.inf),
    "voltage": (0.0, 1e3),
    "current": (-500.0, 500.0),
    "frequency": (0.0, 1e11),
    "memory": (0.0, 2.0**50),
    "duration": (0.0, np.inf),
    "utilization": (0.0, 1.05),
    "level": (0.0, 1.0),
}
"""What a quantity can be on a device that one can carry, or at least lift. A share of time may overshoot a little."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column while it was to be read. `outside` of its `readable` values are out of the quantity's range."""

    stream: Stream
    rows: int
    readable: int
    outside: int
    backwards: bool

    @property
    def is_offline(self) -> bool:
        """Whether it is a thermometer that never says anything believable: a sensor that is not fitted, or asleep."""
        return self.stream.quantity == "temperature" and self.readable == self.outside


def check_collector(
    trace: Trace,
    span: Span,
    errors: Mapping[str, str] | None = None,
    raw: str | None = None,
    *,
    min_rate_share: float = MIN_RATE_SHARE,
) -> Finding:
    """Judge what a collector brought in a span of the device's clock in which it was to run.

    `errors` says for a source why it could not be read.
    """
    inside = (trace.t_ns >= span[0]) & (trace.t_ns <= span[1])
    t_ns = trace.t_ns[inside]
    # A column may be declared at the slower rate at which its values are renewed.
    asked_hz = max(stream.rate_hz for stream in trace.streams)
    columns = [_column(stream, trace.columns[stream.name][inside]) for stream in trace.streams]
    lasted_s = float(t_ns[-1] - t_ns[0]) / 1e9 if len(t_ns) > 1 else 0.0
    got_hz = (len(t_ns) - 1) / lasted_s if lasted_s > 0 else None
    gap_s = float(np.diff(t_ns).max()) / 1e9 if len(t_ns) > 1 else None
    values = sum(column.rows for column in columns)
    readable = sum(column.readable for column in columns)
    figures = {
        "asked_hz": asked_hz,
        "got_hz": got_hz,
        "longest_gap_s": gap_s,
        "columns": float(len(columns)),
        "rows": float(len(t_ns)),
        "readable_ratio": readable / values if values else None,
    }
    renewed_hz = _renewed_hz(trace, inside, lasted_s)
    if renewed_hz is not None:
        figures["renewed_hz"] = renewed_hz
    troubles = [*_timing(t_ns.size, got_hz, gap_s, asked_hz, span, min_rate_share), *_values(columns, errors or {})]
    came = "one reading" if got_hz is None else f"{got_hz:.3g} Hz, asked for {asked_hz:g} Hz"
    said = "; ".join(troubles) or f"{came}, {len(columns)} columns"
    if renewed_hz is not None and got_hz is not None and renewed_hz < got_hz / 2:
        said += f"; power or energy is renewed {renewed_hz:.2g} times a second"
    if not troubles:
        said += "".join(f"; {column.stream.name} is offline" for column in columns if column.is_offline)
    return verdict(not troubles, said, figures, raw)


def _renewed_hz(trace: Trace, inside: NDArray[np.bool_], lasted_s: float) -> float | None:
    """Return how often in a second the liveliest electrical column said something new, None where there is none."""
    columns = [trace.columns[s.name][inside] for s in trace.streams if s.quantity in ("power", "energy")]
    if not columns or lasted_s <= 0:
        return None
    return max(int(np.count_nonzero(np.diff(values[np.isfinite(values)]))) for values in columns) / lasted_s


def _column(stream: Stream, values: Values) -> _Column:
    kept = values[np.isfinite(values)]
    low, high = _RANGES.get(stream.quantity, (-np.inf, np.inf))
    outside = int(((kept < low) | (kept > high)).sum())
    backwards = bool(stream.cumulative and stream.wraps_at is None and (np.diff(kept) < 0).any())
    return _Column(stream, len(values), len(kept), outside, backwards)


def _timing(
    rows: int, got_hz: float | None, gap_s: float | None, asked_hz: float, span: Span, min_share: float
) -> list[str]:
    lasted_s = (span[1] - span[0]) / 1e9
    if rows == 0:
        return [f"nothing came in {lasted_s:.0f} s"]
    if got_hz is None:
        # One row is right where no more than one was due.
        few = lasted_s * asked_hz < 2
        return [] if few else [f"one reading came in {lasted_s:.0f} s, {asked_hz:g} Hz were asked for"]
    troubles = []
    if got_hz < min_share * asked_hz:
        troubles.append(f"{got_hz:.3g} Hz came, {asked_hz:g} Hz were asked for")
    if gap_s is not None and gap_s > MAX_GAP_PERIODS / asked_hz:
        troubles.append(f"nothing came for {gap_s:.3g} s, {gap_s * asked_hz:.0f} periods")
    return troubles


def _values(columns: Iterable[_Column], errors: Mapping[str, str]) -> list[str]:
    """Judge sources, not columns: one kernel leaves out lines of a file that another one has."""
    sources: dict[str, list[_Column]] = {}
    for column in columns:
        sources.setdefault(column.stream.source, []).append(column)
    troubles = []
    for source, members in sources.items():
        rows = max(column.rows for column in members)
        readable = max(column.readable for column in members)
        if rows and readable < MIN_READABLE_SHARE * rows:
            why = f" ({errors[source]})" if source in errors else ""
            troubles.append(f"{source} was readable {readable} of {rows} times{why}")
    for column in columns:
        name, unit = column.stream.name, column.stream.unit
        if column.outside and not column.is_offline:
            low, high = _RANGES[column.stream.quantity]
            troubles.append(f"{name} was {column.outside} times not within {low:g} to {high:g} {unit}")
        if column.backwards:
            troubles.append(f"{name} counts, but went backwards")
    return troubles
