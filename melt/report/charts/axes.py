"""Scales of axes: linear or logarithmic by the data, with limits, ticks and the place of a value in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from melt.report.charts.theme import Spec
from melt.report.scale import scale_for

Better = Literal["higher", "lower"]
Kind = Literal["linear", "log", "symlog"]

_LOG_RATIO = 30.0
"""From one and a half decades on, a linear axis hides the smaller values in its corner."""

_MARGIN = 0.07
_MOST_TICKS = 7
_ZERO_TICK = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows: its title, the stored unit of its values (melt.units), which end is better, if one is."""

    title: str
    unit: str
    better: Better | None


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis fitted to its values, which it takes in the unit that is shown.

    `constant` is where a symmetric logarithm bends from a line, about zero, into decades.
    """

    axis: Axis
    factor: float
    symbol: str
    kind: Kind
    low: float
    high: float
    constant: float

    def shown(self, value: float | None) -> float | None:
        """Return a stored value in the unit that is shown, within the limits; None when there is no such value."""
        if value is None or not math.isfinite(value):
            return None
        return min(self.high, max(self.low, value / self.factor))

    def share(self, shown: float) -> float:
        """Return where a value lies between the limits, 0 to 1."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(shown) - low) / (high - low)

    def _bent(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return math.copysign(math.log1p(abs(value) / self.constant), value) if self.kind == "symlog" else value

    def scale_spec(self) -> Spec:
        """Return the scale of the channel."""
        spec: Spec = {"type": self.kind, "domain": [self.low, self.high], "nice": False}
        if self.kind == "log":
            return spec
        return {**spec, "zero": False, **({"constant": self.constant} if self.kind == "symlog" else {})}

    def axis_spec(self) -> Spec:
        """Return the axis of the channel; its title says which way is better."""
        unit = f", {self.symbol}" if self.symbol else ""
        better = {"higher": "  (higher is better →)", "lower": "  (← lower is better)", None: ""}[self.axis.better]
        spec: Spec = {"title": f"{self.axis.title}{unit}{better}"}
        if self.kind == "linear":
            return {**spec, "tickCount": _MOST_TICKS}
        return {**spec, "values": self._ticks(), "format": "~g"}

    def _ticks(self) -> list[float]:
        """Return round values: 1, 2, 5 of each decade, the decades alone, or every so many of them."""
        first, last = math.floor(math.log10(self._least())), math.ceil(math.log10(self.high))
        for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
            found = [float(f"{m}e{d}") for d in range(first, last + 1) for m in steps]
            kept = [value for value in found if self._least() <= value <= self.high]
            if len(kept) <= _MOST_TICKS:
                break
        else:
            kept = kept[:: math.ceil(len(kept) / _MOST_TICKS)]
        return [_ZERO_TICK, *kept] if self.kind == "symlog" else kept

    def _least(self) -> float:
        return self.constant if self.kind == "symlog" else self.low


def fitted(axis: Axis, values: Iterable[float]) -> Scale:
    """Fit a scale to stored values: logarithmic where they are positive and far apart, or zero and else far apart."""
    kept = [value for value in values if math.isfinite(value)]
    chosen = scale_for(kept, axis.unit)
    shown = [value / chosen.factor for value in kept] or [0.0, 1.0]
    low, high = min(shown), max(shown)
    least = min((v for v in shown if v > 0), default=0.0)
    if low >= 0 and least > 0 and high / least >= _LOG_RATIO:
        if low > 0:
            margin = (high / low) ** _MARGIN
            return Scale(axis, chosen.factor, chosen.symbol, "log", low / margin, high * margin, 1.0)
        top = high * (high / least) ** _MARGIN
        bottom = -math.expm1(_MARGIN * math.log1p(top / least)) * least
        return Scale(axis, chosen.factor, chosen.symbol, "symlog", bottom, top, least)
    margin = _MARGIN * (high - low) or abs(high) * _MARGIN or 1.0
    # What cannot be negative gets no room below zero beyond that for a mark.
    bottom = max(low - margin, -margin / 2) if low >= 0 else low - margin
    return Scale(axis, chosen.factor, chosen.symbol, "linear", bottom, high + margin, 1.0)
