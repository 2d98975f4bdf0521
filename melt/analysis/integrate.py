"""Energy of one series over an exact span, with each thing by which it may be off. docs/energy.md derives the terms.

Every term is the half-width, in joules, of an interval that holds the truth in 95 of 100 cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from melt.analysis.series import Series, Span, grown
from melt.records import Reason, Thresholds
from melt.traces import Times, Values

_Flags = NDArray[np.bool_]

_NEIGHBOURS = 20
"""How many intervals tell how unlike two samples of this signal are: of fewer, chance decides."""
_MOVES = 32
"""So many places a span is tried at on each side: a clock that may be 10 ms off is looked at each 0.3 ms."""
_SIGMAS = 2.0
"""From a standard uncertainty to 95 %."""
_USUAL = Thresholds()


@dataclass(frozen=True, slots=True)
class Grade:
    """What is known of a meter beside its samples.

    gain_ratio: its class, by what share of a value it may be off throughout. offset_w: by how many watts, throughout.
    quantum: the smallest step of its values, in their unit. age_ns: how old a value may be when it is read, or over
    how long it is averaged. clock_ns: how far its clock may be off the device's; drift: by what share its
    seconds may be longer or shorter. All but the quantum are 95 % bounds.
    """

    gain_ratio: float = 0.0
    offset_w: float = 0.0
    quantum: float = 0.0
    age_ns: int = 0
    clock_ns: int = 0
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """By what an energy may be off, each at 95 %, in joules."""

    rate_j: float = 0.0
    quantum_j: float = 0.0
    gap_j: float = 0.0
    age_j: float = 0.0
    clock_j: float = 0.0
    class_j: float = 0.0
    baseline_j: float = 0.0

    @property
    def total_j(self) -> float:
        """All of them in quadrature: they have nothing to do with each other."""
        return math.hypot(*(getattr(self, f.name) for f in fields(self)))


_AT_RANDOM = frozenset({"rate_j", "quantum_j", "gap_j"})
"""Terms that are drawn anew for each span and sensor; the others have one cause for all of them, and add up."""


@dataclass(frozen=True, slots=True)
class Integral:
    """Energy over one or several spans. `samples` lie inside; `coverage` is the share of the time that they cover."""

    energy_j: float
    time_s: float
    samples: int
    coverage: float
    longest_gap_s: float
    terms: Terms

    @property
    def uncertainty_j(self) -> float:
        """By how much the energy may be off, at 95 %."""
        return self.terms.total_j

    @property
    def power_w(self) -> float:
        """The mean power."""
        return self.energy_j / self.time_s


def integral(series: Series, span: Span, grade: Grade, thresholds: Thresholds = _USUAL) -> Integral | Reason:
    """Return the energy in joules of one stream of power or of energy counts, or why there is none.

    A hole of more than five sampling periods is bridged only while little of the span lies in it, by the `thresholds`,
    and then enlarges the uncertainty. A counter goes on counting through a hole; one that may have wrapped twice
    meanwhile tells nothing.
    """
    found = series.around(span)
    if found is None or span[1] <= span[0]:
        return _outside(series, span)
    t_ns, values = found
    least = 1 - thresholds.energy_gap_ratio
    if series.stream.cumulative:
        return _counted(series, span, grade, t_ns, values, least)
    return _sampled(series, span, grade, t_ns, values, least)


def integrate(t_ns: Times, values: Values, span: Span) -> float:
    """Integrate samples over the span by trapezoids, in the samples' unit times seconds.

    The values at both edges are interpolated. `t_ns` (n,) never decreases and encloses the span.
    """
    knots_s, heights = _knots(t_ns, values, span)
    return float(np.sum((heights[1:] + heights[:-1]) / 2 * np.diff(knots_s)))


def smallest_step(series: Series) -> float:
    """Return the smallest difference between two values (of a counter: two growths) of a series, in its unit; 0: none.

    It tells the resolution of what is read. Differences of under 1e-9 are those of floating-point numbers.
    """
    values = np.diff(series.values) if series.stream.cumulative else series.values
    steps = np.diff(np.unique(np.round(values, 9)))
    return float(steps.min()) if len(steps) else 0.0


def together(parts: Iterable[Integral], *, at_once: bool = False) -> Integral:
    """Add energies up: of several sensors `at_once` over one span, or of spans one after the other."""
    parts = list(parts)
    time_s = parts[0].time_s if at_once else math.fsum(p.time_s for p in parts)
    covered_s = min(p.coverage for p in parts) * time_s if at_once else math.fsum(p.coverage * p.time_s for p in parts)
    return Integral(
        energy_j=math.fsum(p.energy_j for p in parts),
        time_s=time_s,
        samples=min(p.samples for p in parts) if at_once else sum(p.samples for p in parts),
        coverage=covered_s / time_s if time_s > 0 else 0.0,
        longest_gap_s=max(p.longest_gap_s for p in parts),
        terms=added(p.terms for p in parts),
    )


def added(terms: Iterable[Terms]) -> Terms:
    """Return the terms of a sum: in quadrature what is random, added what all have in common."""
    terms = list(terms)
    sums = {}
    for field in fields(Terms):
        each = [getattr(t, field.name) for t in terms]
        sums[field.name] = math.hypot(*each) if field.name in _AT_RANDOM else math.fsum(each)
    return Terms(**sums)


def _outside(series: Series, span: Span) -> Reason:
    name = series.stream.site
    if len(series) and series.t_ns[0] <= span[0] and span[0] < series.t_ns[-1] < span[1]:
        missing_s = float(span[1] - series.t_ns[-1]) / 1e9
        message = f"{name} has no samples in the last {missing_s:.2f} s"
        return Reason(code="meter_stopped", message=message, figures={"missing_s": missing_s})
    message = f"{name} does not cover the span"
    return Reason(code="meter_absent", message=message, figures={"span_s": (span[1] - span[0]) / 1e9})


def _knots(t_ns: Times, values: Values, span: Span) -> tuple[Values, Values]:
    # Relative to the span: a float64 cannot hold nanoseconds since boot and the fraction of a sample.
    t_s = (t_ns - span[0]).astype(np.float64) / 1e9
    end_s = (span[1] - span[0]) / 1e9
    inner = (t_s > 0.0) & (t_s < end_s)
    knots_s = np.concatenate(([0.0], t_s[inner], [end_s]))
    heights = np.concatenate((np.interp([0.0], t_s, values), values[inner], np.interp([end_s], t_s, values)))
    return knots_s, heights


def _sampled(
    series: Series, span: Span, grade: Grade, t_ns: Times, values: Values, min_coverage: float
) -> Integral | Reason:
    """Power: the trapezoid rule. Between two samples the signal is as unlike a line as the samples are unlike."""
    time_s = (span[1] - span[0]) / 1e9
    # A span that begins exactly at a sample has nothing of the interval before it.
    edges = np.clip(t_ns, span[0], span[1])
    inside_s = np.diff(edges).astype(np.float64) / 1e9
    steps = np.diff(values)
    holes = np.diff(t_ns) > series.max_gap_ns
    missing_s = float(inside_s[holes].sum())
    gap_s = float(inside_s.max(initial=0.0)) if not holes.any() else float(inside_s[holes].max())
    coverage = 1 - missing_s / time_s
    if coverage < min_coverage:
        return _holed(series, coverage, missing_s)
    whole = ~holes
    spread = np.square(steps[whole])
    if len(spread) < _NEIGHBOURS:
        spread = np.maximum(spread, _mean_square_step(series, span))
    energy_j = integrate(t_ns, values, span)
    return Integral(
        energy_j=energy_j,
        time_s=time_s,
        samples=len(series.inside(span)),
        coverage=coverage,
        longest_gap_s=gap_s,
        terms=Terms(
            rate_j=_SIGMAS * math.sqrt(float(np.sum(np.square(inside_s[whole]) * spread)) / 2),
            quantum_j=grade.quantum / 2 * time_s,
            gap_j=missing_s * float(np.ptp(values)) / 2,
            age_j=_moved_j(series, span, grade.age_ns),
            clock_j=_moved_j(series, span, grade.clock_ns),
            class_j=class_j(energy_j, time_s, grade),
        ),
    )


def _counted(
    series: Series, span: Span, grade: Grade, t_ns: Times, values: Values, min_coverage: float
) -> Integral | Reason:
    """Energy counts: exact but for the two ends, where the counter is read between two samples."""
    growths = series.steps(values)
    if growths is None:
        message = f"the counter {series.stream.site} began anew"
        return Reason(code="meter_reset", message=message, figures={"lost_j": float(-np.diff(values).min())})
    intervals_s = np.diff(t_ns).astype(np.float64) / 1e9
    time_s = (span[1] - span[0]) / 1e9
    holes = np.diff(t_ns) > series.max_gap_ns
    inside_s = np.diff(np.clip(t_ns, span[0], span[1])).astype(np.float64) / 1e9
    at_ends = np.zeros(len(holes), np.bool_)
    at_ends[[0, -1]] = True
    missing_s = float(inside_s[holes & at_ends].sum())
    coverage = 1 - missing_s / time_s
    if coverage < min_coverage or _may_have_wrapped_twice(series, growths, intervals_s, holes):
        return _holed(series, coverage, float(inside_s[holes].sum()))
    energy_j = grown(t_ns, growths, span)
    ends = [_between_j(series, edge) for edge in span]
    # Both ends between the same two samples: what one has too little, the other may have too much.
    rate_j = math.hypot(*ends) if len(t_ns) > 2 else math.fsum(ends)
    return Integral(
        energy_j=energy_j,
        time_s=time_s,
        samples=len(series.inside(span)),
        coverage=coverage,
        longest_gap_s=float(inside_s.max(initial=0.0)),
        terms=Terms(
            rate_j=rate_j,
            quantum_j=grade.quantum,
            age_j=_moved_j(series, span, grade.age_ns),
            # It counts for as long as its clock says; a power is integrated over the device's own time.
            clock_j=_moved_j(series, span, grade.clock_ns) + grade.drift * abs(energy_j),
            class_j=class_j(energy_j, time_s, grade),
        ),
    )


def class_j(energy_j: float, time_s: float, grade: Grade) -> float:
    """Return by how much a meter of this class may be off over the time."""
    return math.hypot(grade.gain_ratio * energy_j, grade.offset_w * time_s)


def _holed(series: Series, coverage: float, missing_s: float) -> Reason:
    message = f"{series.stream.site} was silent for {missing_s:.2f} s: {100 * coverage:.0f} % of the span are covered"
    return Reason(code="energy_gap", message=message, figures={"coverage": coverage, "missing_s": missing_s})


def _may_have_wrapped_twice(series: Series, growths: Values, intervals_s: Values, holes: _Flags) -> bool:
    """Whether a counter that grew on as fast as it ever did would have come around within a hole."""
    if series.stream.wraps_at is None or not holes.any():
        return False
    known = (~holes) & (intervals_s > 0)
    fastest_w = float((growths[known] / intervals_s[known]).max(initial=0.0))
    return fastest_w * float(intervals_s[holes].max()) >= series.stream.wraps_at


def _between_j(series: Series, edge_ns: int) -> float:
    """Return how far a counter may be off the line between two samples.

    Its power varies within an interval as it does from one to the next: the counter then wanders about the line as a
    Brownian bridge does, and a single step of that height is within it.
    """
    after = int(np.searchsorted(series.t_ns, edge_ns, "left"))
    t0_ns, t1_ns = int(series.t_ns[max(0, after - 1)]), int(series.t_ns[after])
    if not t0_ns < edge_ns < t1_ns:
        return 0.0
    interval_s, share = (t1_ns - t0_ns) / 1e9, (edge_ns - t0_ns) / (t1_ns - t0_ns)
    around = (t0_ns - 1, t1_ns + 1)
    watts = _watts(series, max(0, after - 2), after + 2)
    highest = float(np.abs(np.diff(watts)).max(initial=0.0))
    step_w = max(highest, math.sqrt(_mean_square_step(series, around)))
    return _SIGMAS * math.sqrt(share * (1 - share) / 2) * interval_s * step_w


def _mean_square_step(series: Series, span: Span) -> float:
    """Return the mean square of what power differs by from one sample to the next, in and around a span, in W²."""
    first = int(np.searchsorted(series.t_ns, span[0], "right")) - 1
    last = int(np.searchsorted(series.t_ns, span[1], "left"))
    more = max(0, _NEIGHBOURS - (last - first))
    low, high = max(0, first - more // 2 - 1), min(len(series), last + more // 2 + 2)
    watts = _watts(series, low, high)
    return float(np.mean(np.square(np.diff(watts)))) if len(watts) > 1 else 0.0


def _watts(series: Series, low: int, high: int) -> Values:
    """Return the power of some samples; of a counter the mean power from each of them to the next."""
    if not series.stream.cumulative:
        return series.values[low:high]
    growths = series.steps(series.values[low:high])
    intervals_s = np.diff(series.t_ns[low:high]).astype(np.float64) / 1e9
    if growths is None:
        return np.zeros(0)
    known = intervals_s > 0
    return growths[known] / intervals_s[known]


def _moved_j(series: Series, span: Span, by_ns: int) -> float:
    """Return by how much the energy changes at most when the span is moved up to `by_ns` either way.

    It is looked for throughout: a ripple may have come around where the move ends. Without samples on either side the
    power near the span tells.
    """
    if by_ns <= 0:
        return 0.0
    most = [moved for way in (-by_ns, by_ns) if (moved := _most_moved_j(series, span, way)) is not None]
    if most:
        return max(most)
    counted = series.stream.cumulative
    near = _watts(series, 0, len(series)) if counted else series.inside((span[0] - by_ns, span[1] + by_ns))
    return by_ns / 1e9 * float(np.ptp(near)) if len(near) else 0.0


def _most_moved_j(series: Series, span: Span, by_ns: int) -> float | None:
    """Move a span one way. None where there are no samples, or a counter began anew."""
    moves_ns = np.rint(np.linspace(0, by_ns, _MOVES + 1))
    gained = [_since_j(series, edge, moves_ns) for edge in span]
    if gained[0] is None or gained[1] is None:
        return None
    return float(np.abs(gained[1] - gained[0]).max())


def _since_j(series: Series, edge_ns: int, moves_ns: Values) -> Values | None:
    """Return the energy from an edge to each of some moments beside it; None where the samples do not enclose them."""
    found = series.around((edge_ns + round(moves_ns.min()), edge_ns + round(moves_ns.max())))
    if found is None:
        return None
    t_s, at_s = (found[0] - edge_ns) / 1e9, moves_ns / 1e9
    if series.stream.cumulative:
        growths = series.steps(found[1])
        return None if growths is None else _from_first(np.interp(at_s, t_s, np.append(0.0, np.cumsum(growths))))
    areas = np.append(0.0, np.cumsum((found[1][1:] + found[1][:-1]) / 2 * np.diff(t_s)))
    before = np.clip(np.searchsorted(t_s, at_s, "right") - 1, 0, len(t_s) - 1)
    heights = np.interp(at_s, t_s, found[1])
    return _from_first(areas[before] + (found[1][before] + heights) / 2 * (at_s - t_s[before]))


def _from_first(energies_j: Values) -> Values:
    return np.asarray(energies_j - energies_j[0], np.float64)
