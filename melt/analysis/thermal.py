"""How warm the device became: the hottest believable sensor over a span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melt.analysis import channels
from melt.analysis.figures import Figure
from melt.analysis.series import Series, Span
from melt.traces import Trace

NO_SENSOR = "no temperature sensor"

_BEFORE_NS = 1_000_000_000
"""How long before a span its start is taken from: sensors are read ten times a second, and jitter."""


def thermal(traces: Sequence[Trace], span: Span) -> dict[str, Figure]:
    """Return mean and maximum in degrees Celsius of the sensor that was the hottest in the span."""
    sensor = hottest(traces, span)
    if sensor is None:
        seen = channels.temperatures(traces)
        missing = Figure(None, "no temperature sample in the span" if seen else NO_SENSOR, "sensor")
        return {"temperature_mean_c": missing, "temperature_max_c": missing}
    values, where = sensor.inside(span), _named(sensor, traces)
    return {
        "temperature_mean_c": Figure(float(values.mean()), where, "sensor"),
        "temperature_max_c": Figure(float(values.max()), where, "sensor"),
    }


def warming(traces: Sequence[Trace], span: Span) -> dict[str, Figure]:
    """Return what the same sensor said before the span, and by how much it rose; nothing where there is none."""
    sensor = hottest(traces, span)
    if sensor is None:
        return {}
    before_c, where = start_c(sensor, span), _named(sensor, traces)
    return {
        "temperature_start_c": Figure(before_c, where, "sensor"),
        "temperature_rise_c": Figure(float(sensor.inside(span).max()) - before_c, where, "sensor"),
    }


def hottest(traces: Sequence[Trace], span: Span) -> Series | None:
    """Return the sensor that was the hottest in the span; None where none has a sample in it."""
    parts = [(s, float(part.max())) for s in channels.temperatures(traces) if len(part := s.inside(span))]
    return max(parts, key=lambda pair: pair[1])[0] if parts else None


def start_c(sensor: Series, span: Span) -> float:
    """Return a sensor's temperature when the span began: the median of the second before, else its nearest sample."""
    before = sensor.inside((span[0] - _BEFORE_NS, span[0]))
    if len(before):
        return float(np.median(before))
    return float(sensor.values[np.argmin(np.abs(sensor.t_ns - span[0]))])


def _named(sensor: Series, traces: Sequence[Trace]) -> str:
    return f"{sensor.stream.site}, the hottest of {len(channels.temperatures(traces))}"
