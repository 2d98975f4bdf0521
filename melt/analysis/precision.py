"""How well a cell's rate is known after some sessions, and whether more of them are worth their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from melt.analysis.statistics import mean_reach, measured
from melt.records import Repeat

CONFIDENCE = 0.95

_FARTHEST = 100.0
"""Of a logarithm: no rate is off by so many powers of e."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a cell's sessions tell of its rate: `ended` of them had an end, `measured` gave a rate that can be believed.

    `half_width` is that of the confidence interval, as a share of the rate; None under two rates.
    """

    ended: int
    measured: int
    half_width: float | None

    def is_precise(self, repeat: Repeat) -> bool:
        """Return whether the rate is known as well as the plan asks."""
        goal, found = repeat.until_ci, self.half_width
        return goal is not None and found is not None and self.measured >= repeat.least_sessions and found <= goal

    def is_hopeless(self, repeat: Repeat) -> bool:
        """Return whether the least number of sessions gave no rate at all: no memory, no support, never valid."""
        return repeat.until_ci is not None and not self.measured and self.ended >= repeat.least_sessions


def known(sessions: Sequence[float | None]) -> Known:
    """Sum up the rates of one cell's sessions on one device, None for each that ended without one."""
    rates = measured(sessions)
    return Known(len(sessions), len(rates), half_width(rates))


def half_width(rates: Sequence[float]) -> float | None:
    """Return how far the confidence interval of the mean reaches, as a share of it; None under two rates.

    Student's t on the logarithms, so that it is the same for a rate and for its inverse, the latency. Upwards an
    interval reaches a little farther than downwards: this is the way up.
    """
    if len(rates) < 2:
        return None
    reach = mean_reach([math.log(rate) for rate in rates], CONFIDENCE)
    return math.expm1(min(reach, _FARTHEST))
