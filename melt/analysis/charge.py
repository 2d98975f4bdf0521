"""A second opinion on a battery's energy: the charge that its counter lost, times its voltage.

The counter and the current come from one shunt, so they share its error. What they do not share is the time at which
they are read, the mean over which a current is told, the unit and the sign: a cross-check of those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from melt.analysis import battery, channels
from melt.analysis.figures import Figure
from melt.analysis.integrate import Integral, smallest_step
from melt.analysis.meter import Meter
from melt.analysis.series import Series, Span, find
from melt.records import Reason
from melt.traces import Trace

NO_COUNTER = "no charge counter"
MIN_STEPS = 10
"""Either end of a span lies within a step of the counter: with ten steps between them, that is a tenth at most."""


def counted_energy(traces: Sequence[Trace], span: Span | None) -> Figure:
    """Return the energy that the battery lost in a span by its charge counter, with its uncertainty, in joules."""
    charge, volts = _gauge(traces, "charge"), _gauge(traces, "voltage")
    if span is None or charge is None or volts is None:
        return Figure(None, NO_COUNTER, "sensor")
    spoiled = battery.not_alone(traces, span)
    if spoiled is not None:
        return Figure(None, spoiled, "sensor")
    found = charge.around(span)
    if found is None:
        return Figure(None, "the charge counter does not cover the span", "sensor")
    t_ns, counted = found
    # Times relative to the span: a float64 cannot hold nanoseconds since boot and fractions of a sample.
    at_ends = np.interp([0.0, float(span[1] - span[0])], (t_ns - span[0]).astype(np.float64), counted)
    drop_c = float(at_ends[0] - at_ends[1])
    voltages, step_c = volts.inside(span), smallest_step(charge)
    if not len(voltages) or step_c <= 0 or drop_c < MIN_STEPS * step_c:
        note = f"the charge counter fell by {drop_c:.3g} C, in steps of {step_c:.3g} C: too few for an energy"
        return Figure(None, note, "sensor")
    mean_v = float(np.mean(voltages))
    # What is read may be a period old, at either end. And the mean over time is not that over the charge: a battery's
    # voltage is lowest while most flows.
    ends_c = abs(float(counted[1] - counted[0])) + abs(float(counted[-1] - counted[-2]))
    terms = {"u_ends": max(step_c, ends_c) * mean_v, "u_voltage": drop_c * float(np.ptp(voltages)) / 2}
    note = f"{drop_c:.4g} C at {mean_v:.3g} V, in steps of {step_c:.2g} C"
    figures = {"drop_c": drop_c, "step_c": step_c, "mean_v": mean_v, **terms}
    return Figure(drop_c * mean_v, note, channels.BATTERY, math.hypot(*terms.values()), figures)


def disagreement(meter: Meter | Reason, counted: Figure, span: Span | None) -> Reason | None:
    """Say that the battery's power and its charge counter disagree by more than either may be off."""
    if not isinstance(meter, Meter) or meter.scope != channels.BATTERY or span is None:
        return None
    sampled = meter.measure([span])
    if not isinstance(sampled, Integral) or counted.value is None or counted.uncertainty is None:
        return None
    apart_j = abs(sampled.energy_j - counted.value)
    both_j = math.hypot(sampled.uncertainty_j, counted.uncertainty)
    if apart_j <= both_j:
        return None
    message = (
        f"the battery's power came to {sampled.energy_j:.4g} J, its charge counter to {counted.value:.4g} J: they are "
        f"{apart_j:.3g} J apart and may be {both_j:.3g} J"
    )
    figures = {"sampled_j": sampled.energy_j, "counted_j": counted.value, "uncertainty_j": both_j}
    return Reason(code="charge_disagrees", message=message, figures=figures)


def _gauge(traces: Sequence[Trace], quantity: str) -> Series | None:
    return next(iter(find(traces, lambda s: s.quantity == quantity and channels.is_battery(s))), None)
