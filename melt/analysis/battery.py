"""Whether what a battery's gauge said may be taken for what the device used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melt.analysis import channels
from melt.analysis.series import Series, Span, find
from melt.traces import Trace

CHARGED = "the battery was being charged, so its power is not the device's: unplug it, or let the plan suspend charging"
BYPASSED = "the charger fed the device past its battery: unplug it, or let the plan suspend charging"
UNREAD = "what the battery's current means is not known: its unit and sign could not be told"

AGREES_WITHIN = 5.0
"""Units are a factor of 1000 apart. Counters move in steps and gauges average: a factor of 2 proves nothing."""
MOST_A = 25.0
"""No phone's battery gives so much, and laptops' say their unit."""
MIN_DROP_C = 10.8
"""3 mAh. Counters move in steps of about 1 mAh: fewer than three of them are no slope."""


def not_alone(traces: Sequence[Trace], span: Span | None = None) -> str | None:
    """Say what fed the device besides its battery, in the span or ever; None where nothing is known to have."""
    if _ever(channels.charging(traces), 1.0, span):
        return CHARGED
    return BYPASSED if _ever(channels.discharging(traces), 0.0, span) else None


def has_gauge(traces: Sequence[Trace]) -> bool:
    """Whether a battery's current or power was measured, whatever it was worth."""
    return bool(find(traces, lambda s: s.quantity in ("current", "power") and channels.is_battery(s)))


def has_riddle(traces: Sequence[Trace]) -> bool:
    """Whether a battery's current was read in a unit and sign that nobody could tell."""
    return bool(find(traces, lambda s: s.name.endswith("_current_raw"))) and not has_gauge(traces)


def contradiction(traces: Sequence[Trace]) -> str | None:
    """Say how the current is absurd, or disagrees with the charge that the battery lost; None where it does not.

    A unit concluded from one reading is off by a factor of 1000 or right. Its size while the battery alone fed the
    device tells which, and so does the charge counter where it fell far enough.
    """
    currents = find(traces, lambda s: s.quantity == "current" and channels.is_battery(s))
    charges = find(traces, lambda s: s.quantity == "charge" and channels.is_battery(s))
    alone = channels.discharging(traces)
    if not (currents and alone):
        return None
    spans = _spans_alone(alone[0])
    most_a = max((float(np.abs(part).max()) for s in spans if len(part := currents[0].inside(s))), default=0.0)
    if most_a > MOST_A:
        return f"the battery's current came to {most_a:.3g} A, which no battery of a phone gives: it is misread"
    if not charges:
        return None
    drop_c, used_c = 0.0, 0.0
    for span in spans:
        charge = charges[0].inside(span)
        found = currents[0].around(span)
        if len(charge) > 1 and found is not None:
            t_s = (found[0] - found[0][0]) / 1e9
            drop_c += float(charge[0] - charge[-1])
            used_c += abs(float(np.sum((found[1][1:] + found[1][:-1]) / 2 * np.diff(t_s))))
    if drop_c < MIN_DROP_C or 1 / AGREES_WITHIN < used_c / drop_c < AGREES_WITHIN:
        return None
    return (
        f"the battery's current came to {used_c:.3g} C where its charge counter fell by {drop_c:.3g} C: one is misread"
    )


def _spans_alone(discharging: Series) -> list[Span]:
    """Return the spans from each first to each last sample that says that the battery alone feeds the device."""
    alone = np.concatenate(([False], discharging.values == 1.0, [False]))
    edges = np.flatnonzero(alone[1:] != alone[:-1])
    return [
        (int(discharging.t_ns[first]), int(discharging.t_ns[last - 1]))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
        if last - first > 1
    ]


def _ever(states: Sequence[Series], value: float, span: Span | None) -> bool:
    for state in states:
        found = None if span is None else state.around(span)
        values = state.values if span is None else state.inside(span) if found is None else found[1]
        if bool((values == value).any()):
            return True
    return False
