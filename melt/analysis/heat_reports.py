"""What a device says of its own throttling, as spans of time: the second opinion on a curve of throughput."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis import channels
from melt.analysis.disturbance import THERMAL_PRESSURE, THERMAL_STATUS
from melt.analysis.series import Series, Span
from melt.traces import Trace, Values


@dataclass(frozen=True, slots=True)
class Report:
    """A channel that spoke of throttling within a span: when first, and when last. `what` says it in words."""

    what: str
    from_ns: int
    last_ns: int


def has_reports(traces: Sequence[Trace]) -> bool:
    """Whether the device has any channel that would tell of throttling."""
    return any(True for _ in _watched(traces))


def reports(traces: Sequence[Trace], span: Span, settled_ns: int) -> list[Report]:
    """Return what spoke of throttling in the span, the earliest first. Limits are compared from `settled_ns` on."""
    found = []
    for series, active, words in _watched(traces):
        first = int(np.searchsorted(series.t_ns, min(settled_ns, span[0]), "left"))
        t_ns, values = series.t_ns[first:], series.values[first:]
        spoke = active(values) & (t_ns >= span[0]) & (t_ns <= span[1])
        if spoke.any():
            times = t_ns[spoke]
            found.append(Report(words(values[spoke]), int(times[0]), int(times[-1])))
    return sorted(found, key=lambda report: report.from_ns)


def _watched(
    traces: Sequence[Trace],
) -> Iterator[tuple[Series, Callable[[Values], np.ndarray], Callable[[Values], str]]]:
    """Return each channel that tells of throttling, when it does, and the words for what it says then."""
    for name, found, grades in (
        ("thermal status", channels.thermal_status(traces), THERMAL_STATUS),
        ("thermal pressure", channels.thermal_pressure(traces), THERMAL_PRESSURE),
    ):
        yield from ((series, _above_zero, _graded(name, grades)) for series in found)
    for series in channels.cooling_states(traces):
        yield series, _above_zero, _fixed(f"{series.stream.site} at work")
    for series in channels.clock_limits(traces):
        yield series, _below_highest, _fixed(f"clock limit of {series.stream.site} lowered")
    for series in channels.throttle_counts(traces):
        yield series, _rose, _fixed(f"throttle counter of {series.stream.site} rose")


def _above_zero(values: Values) -> np.ndarray:
    return np.asarray(values > 0)


def _below_highest(values: Values) -> np.ndarray:
    return np.asarray(values < values.max()) if len(values) else np.zeros(0, bool)


def _rose(values: Values) -> np.ndarray:
    return np.concatenate(([False], np.diff(values) > 0)) if len(values) else np.zeros(0, bool)


def _fixed(text: str) -> Callable[[Values], str]:
    return lambda _: text


def _graded(name: str, grades: Sequence[str]) -> Callable[[Values], str]:
    def words(values: Values) -> str:
        first = int(values[0])
        return f"{name} {first} ({grades[min(first, len(grades) - 1)]})"

    return words
