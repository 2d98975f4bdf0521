"""How warm the device became: the hottest believable sensor over a span."""

from __future__ import annotations

from collections.abc import Sequence

from melt.analysis import channels
from melt.analysis.figures import Figure
from melt.analysis.series import Span
from melt.traces import Trace

NO_SENSOR = "no temperature sensor"


def thermal(traces: Sequence[Trace], span: Span) -> dict[str, Figure]:
    """Return mean and maximum in degrees Celsius of the sensor that was the hottest in the span."""
    series = channels.temperatures(traces)
    parts = [(s, part) for s in series if len(part := s.inside(span))]
    if not parts:
        missing = Figure(None, "no temperature sample in the span" if series else NO_SENSOR, "sensor")
        return {"temperature_mean_c": missing, "temperature_max_c": missing}
    hottest, values = max(parts, key=lambda pair: float(pair[1].max()))
    where = f"{hottest.stream.site}, the hottest of {len(series)}"
    return {
        "temperature_mean_c": Figure(float(values.mean()), where, "sensor"),
        "temperature_max_c": Figure(float(values.max()), where, "sensor"),
    }
