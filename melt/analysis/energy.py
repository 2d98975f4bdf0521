"""Energy over exact spans: differences of hardware counters, or power integrated by trapezoids with interpolated edges.

Figures are gross: what the sensor's scope took in the span, idle consumption included. Their source is that scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from melt.analysis import battery, channels
from melt.analysis.figures import NOT_REACHED, Figure
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Series, Span
from melt.records import Metric
from melt.telemetry.sites import RAIL
from melt.traces import Times, Trace, Values

NO_SENSOR = "no power sensor"
STOOD_STILL = "the chip's energy counters were not renewed while they were read, as in test versions of macOS 27"
_SOURCE = "sensor"
_NAMED_SITES = 4
_SLOW_HZ = 2.0
_SLOW_MIN_SAMPLES = 3
"""A gauge averages over about the second between its values: with fewer inside, the edges weigh as much as the span."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A power sensor. `scope` says what it covers; the series, one per package or board, add up.

    `states` say whether something besides a battery fed the device, where the meter is one.
    """

    scope: str
    series: tuple[Series, ...]
    states: tuple[Trace, ...] = ()

    @property
    def name(self) -> str:
        """What was read, for a reader: scope and sites."""
        return f"{self.scope}: {self.sites}"

    @property
    def sites(self) -> str:
        """Where it was read. A sum of rails is worth what it sums, so all are named."""
        sites = [s.stream.site.removeprefix(RAIL) for s in self.series]
        named = self.scope == channels.RAILS or len(sites) <= _NAMED_SITES
        return ", ".join(sites) if named else f"{len(sites)} of them"

    @property
    def rate_hz(self) -> float:
        """How often in a second it has a new value."""
        return min(s.stream.rate_hz for s in self.series)

    @property
    def is_slow(self) -> bool:
        """Whether it gives so few values that a short span falls between them (a phone's battery, its rails)."""
        return self.rate_hz <= _SLOW_HZ

    def energy_j(self, span: Span) -> float | None:
        """Return the energy in the span, None when one of the series does not cover it, or is not the device's."""
        if self.spoiled(span):
            return None
        parts = [series_energy_j(s, span) for s in self.series]
        return None if any(p is None for p in parts) else sum(p for p in parts if p is not None)

    def spoiled(self, span: Span) -> str | None:
        """Say what fed the device besides its battery in the span: it is not bridged like a lost sample."""
        return battery.not_alone(self.states, span)

    def samples(self, span: Span) -> int:
        """Return how many samples the sparsest series has inside the span."""
        return min(len(s.inside(span)) for s in self.series)


def find_meter(traces: Sequence[Trace]) -> Meter | None:
    """Return the sensor with the widest scope, None when there is none that can be believed."""
    found = channels.power_meter(traces, battery=battery.contradiction(traces) is None)
    if found is None:
        return None
    scope, series = found
    return Meter(scope, tuple(series), tuple(traces) if scope == channels.BATTERY else ())


def without_meter(traces: Sequence[Trace]) -> str:
    """Say why there is no meter: none at all, or one whose numbers are not the device's power."""
    if battery.has_riddle(traces):
        return battery.UNREAD
    if channels.stood_still(traces):
        return STOOD_STILL
    spoiled = battery.contradiction(traces) or battery.not_alone(traces) if battery.has_gauge(traces) else None
    return spoiled or NO_SENSOR


def series_energy_j(series: Series, span: Span) -> float | None:
    """Return the energy in joules of one stream of energy counts or of power; None when it does not cover the span."""
    if series.stream.cumulative:
        return series.growth(span)
    found = series.around(span)
    if found is None or (series.longest_gap_ns(span) or 0) > series.max_gap_ns:
        return None
    return integrate(found[0], found[1], span)


def integrate(t_ns: Times, values: Values, span: Span) -> float:
    """Integrate samples over the span by trapezoids, in the samples' unit times seconds.

    The values at both edges are interpolated. `t_ns` (n,) never decreases and encloses the span.
    """
    # Relative to the span: a float64 cannot hold nanoseconds since boot and the fraction of a sample.
    t_s = (t_ns - span[0]).astype(np.float64) / 1e9
    end_s = (span[1] - span[0]) / 1e9
    inner = (t_s > 0.0) & (t_s < end_s)
    knots = np.concatenate(([0.0], t_s[inner], [end_s]))
    heights = np.concatenate((np.interp([0.0], t_s, values), values[inner], np.interp([end_s], t_s, values)))
    return float(np.sum((heights[1:] + heights[:-1]) / 2 * np.diff(knots)))


def energy(meter: Meter | None, repetition: Repetition, no_meter: str = NO_SENSOR) -> dict[str, Figure]:
    """Return energy per phase and per decoded token, and the mean power, of a repetition.

    `no_meter` says why there is no meter, where there is none.
    """
    span = repetition.span
    if meter is None or span is None:
        missing = Figure(None, no_meter if meter is None else NOT_REACHED, _SOURCE)
        return dict.fromkeys(("power_mean_w", "energy_prefill_j", "energy_decode_j", "energy_per_token_j"), missing)
    total = _over(meter, [span])
    decode = _phase(meter, repetition, "decode")
    n_tokens = sum(w.n_tokens or 0 for w in repetition.phase("decode"))
    duration_s = (span[1] - span[0]) / 1e9
    return {
        "power_mean_w": _divided(total, duration_s),
        "energy_prefill_j": _phase(meter, repetition, "prefill"),
        "energy_decode_j": decode,
        "energy_per_token_j": _divided(decode, n_tokens),
    }


def _phase(meter: Meter, repetition: Repetition, name: str) -> Figure:
    windows = repetition.phase(name)
    if not windows:
        return Figure(None, f"the workload has no {name} phase", _SOURCE)
    return _over(meter, [(w.t0_ns, w.t1_ns) for w in windows])


def _over(meter: Meter, spans: Sequence[Span]) -> Figure:
    parts = [meter.energy_j(span) for span in spans]
    if any(p is None for p in parts):
        spoiled = next(filter(None, map(meter.spoiled, spans)), None)
        return Figure(None, spoiled or f"{meter.name} does not cover the span", _SOURCE)
    samples = sum(meter.samples(span) for span in spans)
    if meter.is_slow and samples < _SLOW_MIN_SAMPLES * len(spans):
        inside = f"{samples} samples inside" + (f" {len(spans)} windows" if len(spans) > 1 else "")
        why = f"{meter.name}; {inside}, too few of a meter with {meter.rate_hz:.2g} new values a second"
        return Figure(None, why, _SOURCE)
    return Figure(sum(p for p in parts if p is not None), f"{meter.sites}; {samples} samples inside", meter.scope)


def covers(metric: Metric) -> str:
    """Return what the meter behind a figure covered: its scope, of a sum of rails also which they are."""
    if metric.source != channels.RAILS:
        return metric.source
    return f"{metric.source}: {(metric.note or '').partition(';')[0]}"


def _divided(figure: Figure, by: float) -> Figure:
    if figure.value is None:
        return figure
    return replace(figure, value=figure.value / by) if by > 0 else Figure(None, NOT_REACHED, _SOURCE)
