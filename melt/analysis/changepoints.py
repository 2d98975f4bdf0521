"""Where the level of a series changed, looking back over all of its nights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from melt.analysis.ab import Change
from melt.analysis.statistics import median_of

_PENALTY = 6.0
_SHORTEST = 3
_LEAST = 2 * _SHORTEST + 2
_SIGMA_PER_MAD = 1.4826


class Found(StrEnum):
    """How a change point was found."""

    SESSIONS = "sessions"
    ALERT = "alert"
    SEGMENTS = "segments"
    GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """A night from which on a metric had another level.

    `night` is the index of the first night of the new level in its series. `before` and `after` are the levels, in the
    unit of the metric, `ratio` is after / before. `acknowledged` is why somebody accepted it, None where nobody did.
    `found`: by the sessions of one night, by the alert over a few, by the segments of the whole history, or
    because somebody said so. `ended`: a later night was back at the level before.
    """

    change_id: str
    series_id: str
    metric: str
    night: int
    sweep_id: str
    began_utc_ns: int
    before: float
    after: float
    change: Change
    found: Found
    acknowledged: str | None = None
    ended: bool = False

    @property
    def ratio(self) -> float:
        """The new level over the old one."""
        return self.after / self.before

    @property
    def is_open(self) -> bool:
        """Whether it makes nights fail: worse, going on, and accepted by nobody."""
        return self.change is Change.REGRESSED and self.acknowledged is None and not self.ended


def change_id(*parts: str) -> str:
    """Return the short name of a change: what it is of, and when it came."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def segments(values: Sequence[float]) -> list[int]:
    """Return where new levels begin, as indices into values that follow each other; they must be above zero.

    Kernel change point detection (Arlot, Celisse and Harchaoui 2019; ruptures) on logarithms scaled by their MAD, so
    that the penalty means the same for every metric. A level has at least three nights.
    """
    logs = np.log(np.asarray(values, np.float64))
    if len(logs) < _LEAST:
        return []
    off = logs - np.median(logs)
    scale = _SIGMA_PER_MAD * float(np.median(np.abs(off)))
    if scale <= 0:
        # More than half of the nights agree to the last digit: any other value is far away in such units.
        scale = float(np.abs(off).max()) / 10 or 1.0
    from ruptures import KernelCPD

    found = KernelCPD(kernel="rbf", min_size=_SHORTEST).fit((off / scale)[:, None]).predict(pen=_PENALTY)
    return [int(index) for index in found[:-1]]


def level(values: Sequence[float], begins: Sequence[int], index: int) -> float:
    """Return the median of the segment that holds an index."""
    ends = [*begins, len(values)]
    begin = max([0, *(one for one in begins if one <= index)])
    middle = median_of(values[begin : next(end for end in ends if end > index)])
    if middle is None:
        raise ValueError("a segment holds at least one value")
    return middle
