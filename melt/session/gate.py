"""Hold a run back until the device is as the plan wants it: charged, cool, idle. Nothing is set, only looked at."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event

from melt.events import Note, Observer, Reading, Waiting
from melt.records import Gate, Reason, Sampling, Stream
from melt.session.connect import Site
from melt.session.patience import patiently, watched
from melt.telemetry.base import Discovery
from melt.telemetry.platforms import platform
from melt.units import human

_LOOK_EVERY_S = 2.0
_SHOW_EVERY_S = 1.0
_SETTLED_WITHIN_S = 30.0
_PLAUSIBLE_C = (1.0, 150.0)

INTERRUPTED = "interrupted"
"""Code of the reason for which a run is not started because the user wants to stop."""

Values = Mapping[str, float]
"""What the columns say now, by name; what cannot be read is left out."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """One thing that must hold. `now` measures it, `holds` judges; None: it could not be measured.

    `goal` is the value at which it begins to hold.
    """

    code: str
    what: str
    now: Callable[[_Look], float | None]
    holds: Callable[[float], bool]
    unit: str
    wanted: str
    goal: float


@dataclass(slots=True)
class _Look:
    """What was seen, now and in the last half minute."""

    streams: Mapping[str, Stream]
    values: Values = field(default_factory=dict)
    before: Values = field(default_factory=dict)
    heat: deque[tuple[float, float]] = field(default_factory=deque)

    def take(self, values: Values, now_s: float) -> None:
        self.before, self.values = self.values, values
        hottest = self.hottest()
        if hottest is not None:
            self.heat.append((now_s, hottest))
        # One look from before that stays: over a slow link looks are far apart, and must span the time all the same.
        while len(self.heat) > 1 and now_s - self.heat[1][0] >= _SETTLED_WITHIN_S:
            self.heat.popleft()

    def hottest(self) -> float | None:
        """The hottest plausible thermometer in degrees Celsius."""
        seen = [v for name, v in self.values.items() if self.streams[name].quantity == "temperature"]
        return max((v for v in seen if _PLAUSIBLE_C[0] < v < _PLAUSIBLE_C[1]), default=None)

    def moved_c(self) -> float | None:
        """How much the hottest thermometer moved in the last half minute, infinity before there is half a minute."""
        if not self.heat or self.heat[-1][0] - self.heat[0][0] < _SETTLED_WITHIN_S:
            return math.inf if self.heat else None
        return max(c for _, c in self.heat) - min(c for _, c in self.heat)

    def idle(self) -> float | None:
        """The share of the time in which the CPUs did nothing since the last look."""
        busy = total = 0.0
        for name, value in self.values.items():
            if name.endswith("_total_s") and name in self.before:
                other = name.replace("_total_s", "_busy_s")
                total += value - self.before[name]
                busy += self.values.get(other, math.nan) - self.before.get(other, math.nan)
        if not total:
            # The first look, or one so soon after another that no tick went by.
            return math.inf if any(n.endswith("_total_s") for n in self.values) else None
        # The two are sums of the same ticks in another order: what is no time at all may come out below zero.
        return None if math.isnan(busy) else max(0.0, 1 - busy / total)

    def battery_ratio(self) -> float | None:
        """How full the emptiest battery of the device itself is, 0 to 1; a mouse's has another name."""
        return min(self._of(lambda s: s.quantity == "level" and s.site.lower().startswith("bat")), default=None)

    def charging(self) -> float | None:
        """1 when a battery is being charged, else 0."""
        return max(self._of(lambda s: s.quantity == "state" and s.name.endswith("_charging")), default=None)

    def _of(self, wanted: Callable[[Stream], bool]) -> list[float]:
        return [value for name, value in self.values.items() if wanted(self.streams[name])]


def wait_for_gate(gate: Gate, site: Site, observe: Observer, stop: Event) -> Reason | None:
    """Return None as soon as the run may start, or why it may not, after `gate.wait_s`.

    What a gate asks and the device cannot tell refuses the run at once (`gate_unknown`). So does `stop`, once it is set
    while the gate is closed (`interrupted`). A broken link is waited for.

    Before all that the device rests as long as the gate asks for. Raises TransportError, AgentError.
    """
    if gate.pause_s is not None and not _rest(gate.pause_s, site, observe, stop):
        return Reason(code=INTERRUPTED, message="stopped by the user while the device rested before the run")

    def say(text: str) -> None:
        observe(Note(text, device=site.selector))

    out_of_reach = watched(observe, site.selector)
    wishes = _wishes(gate)
    if not wishes:
        return None
    discovery = platform(site.target.facts.os).discover(site.snapshot, Sampling())
    look = _Look({stream.name: stream for stream in discovery.streams})
    deadline_s = time.monotonic() + gate.wait_s
    told = False
    while True:
        values = patiently(lambda: _values(site, discovery), stop=stop, say=say, out_of_reach=out_of_reach)
        look.take(values, time.monotonic())
        open_wishes = [(wish, wish.now(look)) for wish in wishes]
        unknown = next((wish for wish, now in open_wishes if now is None), None)
        if unknown is not None:
            message = f"the gate asks for {unknown.what} {unknown.wanted}, which this device does not tell"
            return Reason(code="gate_unknown", message=message)
        observe(Reading(site.selector, look.hottest(), look.battery_ratio()))
        closed = [(wish, now) for wish, now in open_wishes if now is not None and not wish.holds(now)]
        if not closed:
            return None
        text = "; ".join(_state(wish, now) for wish, now in closed)
        if stop.is_set():
            return Reason(code=INTERRUPTED, message=f"stopped by the user while it waited for the gate: {text}")
        if time.monotonic() >= deadline_s:
            figures = {wish.code: now for wish, now in closed if math.isfinite(now)}
            message = f"not within {human(gate.wait_s, 's')}: {text}"
            return Reason(code=closed[0][0].code, message=message, figures=figures)
        if not told:
            say(f"waiting up to {human(gate.wait_s, 's')} for the gate: {text}")
            told = True
        wish, now = closed[0]
        left_s = max(0.0, deadline_s - time.monotonic())
        observe(Waiting(site.selector, wish.what, now if math.isfinite(now) else None, wish.goal, wish.unit, left_s))
        stop.wait(min(_LOOK_EVERY_S, left_s))


def _rest(pause_s: float, site: Site, observe: Observer, stop: Event) -> bool:
    """Let some time pass, and say how much; return whether all of it did before `stop` was set."""
    until_s = time.monotonic() + pause_s
    while (left_s := until_s - time.monotonic()) > 0:
        observe(Waiting(site.selector, "end of rest", pause_s - left_s, pause_s, "s", left_s))
        if stop.wait(min(_SHOW_EVERY_S, left_s)):
            return False
    return True


def _wishes(gate: Gate) -> list[_Wish]:
    found = []
    if (least := gate.battery_min_ratio) is not None:
        found.append(
            _Wish(
                "gate_battery_low",
                "battery",
                _Look.battery_ratio,
                lambda now: now >= least,
                "ratio",
                f"at {human(least, 'ratio')} or more",
                least,
            )
        )
    if (most_c := gate.temperature_max_c) is not None:
        found.append(
            _Wish(
                "gate_hot",
                "temperature",
                _Look.hottest,
                lambda now: now <= most_c,
                "c",
                f"under {human(most_c, 'c')}",
                most_c,
            )
        )
    if (moved_c := gate.temperature_stable_c) is not None:
        found.append(
            _Wish(
                "gate_unsettled",
                "temperature's change in 30 s",
                _Look.moved_c,
                lambda now: now <= moved_c,
                "c",
                f"under {human(moved_c, 'c')}",
                moved_c,
            )
        )
    if (charging := gate.charging) is not None:
        found.append(
            _Wish(
                "gate_charging",
                "charging",
                _Look.charging,
                lambda now: (now > 0) == charging,
                "1",
                "yes" if charging else "no",
                float(charging),
            )
        )
    if (idle := gate.cpu_idle_min_ratio) is not None:
        found.append(
            _Wish(
                "gate_busy",
                "idle CPU time",
                _Look.idle,
                # The first look has nothing to compare with, and says infinity: not measured yet.
                lambda now: math.isfinite(now) and now >= idle,
                "ratio",
                f"{human(idle, 'ratio')} or more",
                idle,
            )
        )
    return found


def _state(wish: _Wish, now: float) -> str:
    if not math.isfinite(now):
        shown = "not known yet"
    elif wish.unit == "1":
        shown = "yes" if now > 0 else "no"
    else:
        shown = human(now, wish.unit)
    return f"{wish.what} is {shown}, wanted {wish.wanted}"


def _values(site: Site, discovery: Discovery) -> dict[str, float]:
    """Read every file and ask every service once."""
    read = site.target.agent.read([file.path for file in discovery.files if "{pid}" not in file.path])
    found: dict[str, float] = {}
    for file in discovery.files:
        if file.path in read:
            found |= _named(file.streams, file.parse(read[file.path]))
    for line in discovery.lines:
        argv = line.once if line.period_s is None else line.argv
        if argv is not None:
            done = site.target.transport.run(argv)
            found |= _named(line.streams, line.parse(done.stdout))
    return found


def _named(streams: tuple[Stream, ...], values: tuple[float, ...]) -> dict[str, float]:
    pairs = zip(streams, values, strict=True)
    return {stream.name: value for stream, value in pairs if not math.isnan(value)}
