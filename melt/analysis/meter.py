"""The sensor that a run's energy is taken from: what it covers, how good it is, and when it cannot be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from melt.analysis import battery, channels
from melt.analysis.integrate import Grade, Integral, integral, smallest_step, together
from melt.analysis.series import Series, Span, find
from melt.records import Calibration, Reason, Thresholds
from melt.telemetry.sites import RAIL
from melt.traces import Trace

NO_SENSOR = "no power sensor"
STOOD_STILL = "the chip's energy counters were not renewed while they were read, as in test versions of macOS 27"

SLOW_HZ = 2.0
"""Meters with no more values a second than this average over about the time between them: gauges of batteries do."""
SLOW_MIN_PERIODS = 10
"""A mean over the time before a value moves the edges of a span by up to a period, which is then a tenth of it."""
COUNTER_MIN_PERIODS = 3
"""A slow counter misses nothing; what is not known is where in a period an edge lies."""

_SENSOR_GAIN = 0.05
"""NVML states 5 %, an INA3221 with 1 % shunts is off by 1 to 5 %; makers of gauges and of RAPL state nothing."""
_MODEL_GAIN = 0.10
"""Computed by the chip's firmware from what its parts did. Nobody states how well."""
_NAMED_SITES = 4
_USUAL = Thresholds()


@dataclass(frozen=True, slots=True)
class Meter:
    """A power sensor. `scope` says what it covers; the series, one per package or board, add up.

    `grades` say how good each series is; `states` whether something besides a battery fed the device, where the meter
    is one. `thresholds` say from where on its samples are too few.
    """

    scope: str
    series: tuple[Series, ...]
    states: tuple[Trace, ...] = ()
    grades: tuple[Grade, ...] = field(default=())
    thresholds: Thresholds = _USUAL

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
        return self.rate_hz <= SLOW_HZ

    @property
    def is_renewed(self) -> bool:
        """Whether it is only seen where it changes: in a hole it may have been the same."""
        return any(channels.is_renewal(s.stream) for s in self.series)

    @property
    def averages(self) -> bool:
        """Whether its values are means over about the time between them, as those of slow gauges are."""
        return self.is_slow and not all(s.stream.cumulative for s in self.series)

    @property
    def gain_ratio(self) -> float:
        """By what share all that it says may be off."""
        return max((grade.gain_ratio for grade in self.grades), default=0.0)

    @property
    def least_samples(self) -> int:
        """How many samples a span must hold for its energy to be told."""
        return SLOW_MIN_PERIODS if self.averages else COUNTER_MIN_PERIODS if self.is_slow else 0

    def measure(self, spans: Sequence[Span]) -> Integral | Reason:
        """Return the energy of spans that follow each other, or why there is none. `spans` must not be empty."""
        parts: list[Integral] = []
        for span in spans:
            part = self._over(span)
            if isinstance(part, Reason):
                return part
            parts.append(part)
        total = together(parts)
        if total.samples < self.least_samples * len(spans):
            return self._too_slow(total, len(spans))
        return total

    def energy_j(self, span: Span) -> float | None:
        """Return the energy in the span, None when one of the series does not cover it, or is not the device's."""
        found = self._over(span)
        return None if isinstance(found, Reason) else found.energy_j

    def spoiled(self, span: Span) -> str | None:
        """Say what fed the device besides its battery in the span: it is not bridged like a lost sample."""
        return battery.not_alone(self.states, span)

    def samples(self, span: Span) -> int:
        """Return how many samples the sparsest series has inside the span."""
        return min(len(s.inside(span)) for s in self.series)

    def _over(self, span: Span) -> Integral | Reason:
        spoiled = self.spoiled(span)
        if spoiled is not None:
            return Reason(code="energy_charging", message=spoiled)
        parts: list[Integral] = []
        for series, grade in zip(self.series, self.grades or (Grade(),) * len(self.series), strict=True):
            part = integral(series, span, grade, self.thresholds)
            if isinstance(part, Reason):
                code = "meter_not_renewed" if self.is_renewed else part.code
                return replace(part, code=code, message=f"{self.scope}: {part.message}")
            parts.append(part)
        return together(parts, at_once=True)

    def _too_slow(self, total: Integral, n_spans: int) -> Reason:
        inside = f"{total.samples} samples inside" + (f" {n_spans} windows" if n_spans > 1 else "")
        message = f"{self.name}; {inside}, too few of a meter with {self.rate_hz:.2g} new values a second"
        figures = {"samples": float(total.samples), "windows": float(n_spans), "rate_hz": self.rate_hz}
        return Reason(code="meter_too_slow", message=message, figures=figures)


def find_meter(
    traces: Sequence[Trace],
    calibrations: Sequence[Calibration] = (),
    known: Mapping[str, Grade] = MappingProxyType({}),
    thresholds: Thresholds = _USUAL,
) -> Meter | None:
    """Return the sensor with the widest scope, None when there is none that can be believed.

    `calibrations` are those of raw currents; `known` has the gain and the clock of meters that state them, by their
    collector. By the `thresholds` a battery's gauge is held to be misread.
    """
    misread = battery.contradiction(traces, calibrations, thresholds)
    found = channels.power_meter(traces, battery=misread is None)
    if found is None:
        return None
    scope, series = found
    grades = tuple(_grade(scope, s, traces, known.get(s.stream.collector)) for s in series)
    states = tuple(traces) if scope == channels.BATTERY else ()
    return Meter(scope, tuple(series), states, grades, thresholds)


def without_meter(
    traces: Sequence[Trace], calibrations: Sequence[Calibration] = (), thresholds: Thresholds = _USUAL
) -> Reason:
    """Say why there is no meter: none at all, or one whose numbers are not the device's power."""
    if battery.has_riddle(traces):
        return Reason(code="energy_unread", message=battery.UNREAD)
    if channels.stood_still(traces):
        return Reason(code="meter_stood_still", message=STOOD_STILL)
    if battery.has_gauge(traces):
        misread = battery.contradiction(traces, calibrations, thresholds)
        if misread is not None:
            return misread
        spoiled = battery.not_alone(traces)
        if spoiled is not None:
            return Reason(code="energy_charging", message=spoiled)
    return Reason(code="no_power_sensor", message=NO_SENSOR)


def _grade(scope: str, series: Series, traces: Sequence[Trace], known: Grade | None) -> Grade:
    """Grade a sensor by what is `known` of it, else by what it covers; what its samples tell of it counts either way.

    A value of power may be as old as it is long since the last.
    """
    stream = series.stream
    age_ns = 0 if stream.cumulative or stream.rate_hz <= 0 else round(1e9 / stream.rate_hz)
    gain = _MODEL_GAIN if scope.startswith("SoC model") else _SENSOR_GAIN
    return replace(known or Grade(gain_ratio=gain), quantum=_quantum(series, traces), age_ns=age_ns)


def _quantum(series: Series, traces: Sequence[Trace]) -> float:
    """Return the step of a power; of one that is a product that of volts and amperes, each at the other's mean."""
    volts, amperes = _beside(traces, series, "voltage"), _beside(traces, series, "current")
    if series.stream.quantity != "power" or volts is None or amperes is None:
        return smallest_step(series)
    by_volts = smallest_step(volts) * abs(float(np.mean(amperes.values)))
    return by_volts + smallest_step(amperes) * abs(float(np.mean(volts.values)))


def _beside(traces: Sequence[Trace], series: Series, quantity: str) -> Series | None:
    """Return the series of a quantity that was read at the same place."""
    stream = series.stream
    place = (stream.collector, stream.site, quantity)
    return next(iter(find(traces, lambda s: (s.collector, s.site, s.quantity) == place)), None)
