"""Checks whether the device was in the state that was asked for, and stayed in one state."""

from __future__ import annotations

import math

from melt.analysis import channels
from melt.analysis.conditions import Check
from melt.analysis.evidence import Evidence
from melt.analysis.series import Series, Span
from melt.records import Knob, Reason

_JTOP_FOLLOWS_NS = 3_000_000_000
_SWITCHED = {"nvpmodel": "the power mode (nvpmodel) changed", "jetson_clocks": "jetson_clocks was switched on or off"}

_SET, _CHECK = "set ", "check "
"""How the programs that set a knob, and that read it back, are named in a journal."""


def knob_not_applied(seen: Evidence) -> Reason | None:
    """A condition was asked for, and the device reads back something else."""
    said = {str(e.data.get("name")): e.data for e in seen.events if e.name == "prepared"}
    wrong = []
    for knob in seen.start.knobs:
        read = said.get(_CHECK + knob.name)
        if read is None:
            wrong.append(f"{_named(knob)} was asked to be {knob.asked}, it was not read back")
        elif (now := _text(read.get("stdout"))) != knob.asked:
            complaint = _last_line(said.get(_SET + knob.name, {}).get("stderr")) or _last_line(read.get("stderr"))
            because = f" ({complaint})" if complaint else ""
            wrong.append(f"{_named(knob)} was asked to be {knob.asked}, it reads {now or 'nothing'}{because}")
    if not wrong:
        return None
    return Reason(code="knob_not_applied", message="; ".join(wrong), figures={"knobs": float(len(wrong))})


def screen_state(seen: Evidence) -> Reason | None:
    """The screen was not as asked, or was switched meanwhile: clocks, heat and power follow it."""
    span, asked = seen.span, seen.start.spec.conditions.screen
    values = [] if span is None else [float(v) for s in channels.screen(seen.traces) for v in s.inside(span)]
    if not values:
        return None
    on = sum(1 for value in values if value > 0) / len(values)
    if on == (1.0 if asked == "on" else 0.0 if asked == "off" else round(on)):
        return None
    wanted = f"was asked to be {asked}" if asked else "did not stay as it was"
    message = f"the screen {wanted}, it was on in {100 * on:.0f} % of the readings"
    return Reason(code="screen_state", message=message, figures={"on_ratio": on, "readings": float(len(values))})


def battery_low(seen: Evidence) -> Reason | None:
    """The battery was nearly empty, and phones save power then."""
    span, low = seen.span, seen.thresholds.battery_low_ratio
    parts = [] if span is None else [s.inside(span) for s in channels.battery_level(seen.traces)]
    lowest = min((float(part.min()) for part in parts if len(part)), default=math.inf)
    if lowest > low:
        return None
    message = f"the battery was at {100 * lowest:.0f} %: from {100 * low:.3g} % on devices save power"
    return Reason(code="battery_low", message=message, figures={"battery_ratio": lowest})


def governor_changed(seen: Evidence) -> Reason | None:
    """Somebody chose another CPU governor during the run."""
    span = seen.span
    changed = [
        s.stream.site
        for s in channels.governors(seen.traces)
        if span is not None and _varies(s, (min(seen.settled_ns, span[0]), span[1]))
    ]
    if not changed:
        return None
    message = f"the CPU governor of {', '.join(changed)} changed during the run"
    return Reason(code="governor_changed", message=message, figures={"policies": float(len(changed))})


def power_mode_changed(seen: Evidence) -> Reason | None:
    """Somebody chose another power mode during the run, or fixed the clocks, or released them."""
    span = seen.span
    if span is None:
        return None
    # What jtop says follows what was set after a moment.
    since = (max(span[0], min(seen.settled_ns + _JTOP_FOLLOWS_NS, span[1])), span[1])
    changed = [_SWITCHED[s.stream.name] for s in channels.power_modes(seen.traces) if _varies(s, since)]
    if not changed:
        return None
    message = f"{' and '.join(changed)} during the run"
    return Reason(code="power_mode_changed", message=message, figures={"switched": float(len(changed))})


def _varies(series: Series, span: Span) -> bool:
    values = series.inside(span)
    return len(values) > 0 and bool((values != values[0]).any())


def _named(knob: Knob) -> str:
    return knob.name.replace("_", " ")


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _last_line(value: object) -> str:
    lines = _text(value).splitlines()
    return lines[-1].strip() if lines else ""


CHECKS: tuple[Check, ...] = (knob_not_applied, screen_state, battery_low, governor_changed, power_mode_changed)
