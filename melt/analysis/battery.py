"""Whether what a battery's gauge said may be taken for what the device used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melt.analysis import channels
from melt.analysis.integrate import integrate
from melt.analysis.series import Series, Span, common_span, find
from melt.records import Calibration, Reason, Thresholds
from melt.traces import Trace

CHARGED = "the battery was being charged, so its power is not the device's: unplug it, or let the plan suspend charging"
BYPASSED = "the charger fed the device past its battery: unplug it, or let the plan suspend charging"
UNREAD = "what the battery's current means is not known: its unit and sign could not be told"

MOST_A = 25.0
"""No phone's battery gives so much, and laptops' say their unit."""
MIN_DROP_C = 10.8
"""3 mAh. Counters move in steps of about 1 mAh: fewer than three of them are no slope."""
_USUAL = Thresholds()


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


def contradiction(
    traces: Sequence[Trace], calibrations: Sequence[Calibration] = (), thresholds: Thresholds = _USUAL
) -> Reason | None:
    """Say how the current is absurd, or disagrees with the battery's state or the charge that it lost; None: it is not.

    A unit concluded from one reading is off by a factor of 1000 or right. Its size while the battery alone fed the
    device tells which, and so does the charge counter where it fell far enough. `calibrations` say which way a current
    is counted.
    """
    currents = find(traces, lambda s: s.quantity == "current" and channels.is_battery(s))
    charges = find(traces, lambda s: s.quantity == "charge" and channels.is_battery(s))
    alone = channels.discharging(traces)
    if not (currents and alone):
        return None
    spans = spans_alone(alone[0])
    sign_is_known = any(c.certain and c.column == currents[0].stream.name for c in calibrations)
    return (
        _absurd(currents[0], spans)
        or _wrong_way(currents[0], spans, thresholds.wrong_way_ratio, sign_is_known=sign_is_known)
        or (_off_the_counter(currents[0], charges[0], spans, thresholds.charge_factor) if charges else None)
    )


def _absurd(current: Series, spans: Sequence[Span]) -> Reason | None:
    most_a = max((float(np.abs(part).max()) for s in spans if len(part := current.inside(s))), default=0.0)
    if most_a <= MOST_A:
        return None
    message = f"the battery's current came to {most_a:.3g} A, which no battery of a phone gives: it is misread"
    return Reason(code="energy_misread", message=message, figures={"current_a": most_a})


def _wrong_way(current: Series, spans: Sequence[Span], most: float, *, sign_is_known: bool) -> Reason | None:
    """While it discharges, a battery's current flows one way; out, where it is known which way is counted positive."""
    values = np.concatenate([np.zeros(0), *(current.inside(span) for span in spans)])
    inward, outward = float(-values[values < 0].sum()), float(values[values > 0].sum())
    wrong = inward if sign_is_known else min(inward, outward)
    if wrong <= most * (inward + outward):
        return None
    share = wrong / (inward + outward)
    message = (
        f"{100 * share:.0f} % of the battery's current flowed the wrong way while the battery fed the device: its sign "
        "or its state is wrong"
    )
    return Reason(code="energy_misread", message=message, figures={"wrong_way_share": share})


def _off_the_counter(current: Series, charge: Series, spans: Sequence[Span], factor: float) -> Reason | None:
    drop_c, used_c = 0.0, 0.0
    for span in spans:
        counted = charge.inside(span)
        both = common_span((current,), span)
        found = None if both is None else current.around(both)
        if len(counted) > 1 and found is not None:
            drop_c += float(counted[0] - counted[-1])
            used_c += abs(integrate(*found, (int(found[0][0]), int(found[0][-1]))))
    if drop_c < MIN_DROP_C or 1 / factor < used_c / drop_c < factor:
        return None
    message = (
        f"the battery's current came to {used_c:.3g} C where its charge counter fell by {drop_c:.3g} C: one is misread"
    )
    return Reason(code="energy_misread", message=message, figures={"current_c": used_c, "counter_c": drop_c})


def spans_alone(discharging: Series) -> list[Span]:
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
