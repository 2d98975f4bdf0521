"""The level of a metric over nights: how much nights differ by themselves, and an early alert when one level gives way.

The alert is a cumulative sum (Page 1954) of what each night is off, in standard deviations that are learnt as the
nights go by (self-starting, Hawkins 1987): no night is judged by a spread that it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from melt.analysis.ab import Change

LEAST_NIGHTS = 10
"""Fewer do not tell how much nights differ."""
_LEAST_OF_LEVEL = 3
"""Nights that a level must have before others are held against it; the spread may be learnt from levels before it."""
_NEWEST = 60
"""Nights that are learnt from: devices age, and what a phone did a year ago says little."""

_SLACK = 1.25
_LIMIT = 4.5
_MOST = 4.0
"""In standard deviations: what is forgiven each night, the sum that alerts, the most that one night may add.

Half of a shift of 2.5 is forgiven: 5 % where nights differ by 2 %. One odd night never makes an alert: it takes two.
benchmarks/nightly.py simulates what comes of them.
"""
_SURE_OF_BETTER = 4
"""Nights after the first that was better until a better level is believed: a lucky week must not become the measure."""
_STILL_THE_SAME = 3
"""Nights back at the old level after which another fall is another one."""
_FINEST = 0.001
"""No spread is taken to be smaller, as a share: a peak of memory may be the same to the byte for weeks."""
_FAR_SIGMAS = 3.0
_LEAST_CLIPPED = 5
_SIGMA_PER_MAD = 1.4826


@dataclass(slots=True)
class Shift:
    """The level changed: `night` is the first of the new one, `before` the value of the old one.

    `by_sessions`: the sessions of one night told it, not the alert. `ended` is the first night back at the old level.
    """

    night: int
    change: Change
    before: float
    by_sessions: bool = False
    acknowledged: str | None = None
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """How much nights of one level differ: `sigma` of logarithms, learnt from so many `nights`."""

    sigma: float
    nights: int
    freedom: int


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What the next night is held against: logarithms of the present level's nights, clipped, and how nights differ."""

    present: np.ndarray
    spread: Spread | None


@dataclass(slots=True)
class _Sum:
    total: float = 0.0
    since: int | None = None

    def add(self, night: int, sigmas: float) -> None:
        self.total = min(max(0.0, self.total + sigmas - _SLACK), _LIMIT + _SLACK)
        if self.total == 0.0:
            self.since = None
        elif self.since is None:
            self.since = night


@dataclass(slots=True)
class Watch:
    """One metric of one series while nights come in: `better` as in names.METRICS, `least` what alerts must exceed.

    `levels` holds the good nights of each accepted level, the present one last; `shifts` what happened, oldest first.
    """

    better: int
    least: float
    levels: list[list[int]] = field(default_factory=lambda: [[]])
    shifts: list[Shift] = field(default_factory=list)
    _logs: dict[int, float] = field(default_factory=dict)
    _worse: _Sum = field(default_factory=_Sum)
    _improved: _Sum = field(default_factory=_Sum)
    _open: Shift | None = None
    _learnt: _Learnt | None = None

    @property
    def open(self) -> Shift | None:
        """The regression that goes on, None where the newest night is at its level."""
        return self._open

    def good(self) -> list[int]:
        """Return the nights of the present level that nothing speaks against, oldest first."""
        unsure = [one.since for one in (self._worse, self._improved) if one.since is not None]
        if not unsure:
            return list(self.levels[-1])
        first = min(unsure)
        return [night for night in self.levels[-1] if night < first]

    def spread(self) -> Spread | None:
        """Return how much nights differ within levels; None under LEAST_NIGHTS."""
        return self._learn().spread

    def _learn(self) -> _Learnt:
        if self._learnt is None:
            good = self.good()
            present = _clipped([self._logs[night] for night in good[-_NEWEST:]])
            self._learnt = _Learnt(present, self._spread(good, present))
        return self._learnt

    def _spread(self, good: list[int], present: np.ndarray) -> Spread | None:
        room = _NEWEST
        levels: list[list[int]] = []
        for level in (good, *reversed(self.levels[:-1])):
            kept = level[-room:] if room else []
            levels += [kept] if len(kept) > 1 else []
            room -= len(kept)
        used = sum(map(len, levels))
        if used < LEAST_NIGHTS:
            return None
        values = [present] if len(present) > 1 else []
        values += [_clipped([self._logs[night] for night in level]) for level in levels[len(values) :]]
        off = np.concatenate([level - float(level.mean()) for level in values])
        freedom = used - len(levels)
        return Spread(max(_FINEST, math.sqrt(float(off @ off) / freedom)), used, freedom)

    def restart(self, night: int, because: str) -> None:
        """Begin another level with this night; `because` says why somebody accepted it."""
        if self._logs:
            self.shifts.append(Shift(night, Change.UNCHANGED, math.exp(self._middle()), acknowledged=because))
        self._end_open(night)
        self.levels.append([])
        self._worse, self._improved = _Sum(), _Sum()
        self._learnt = None

    def step(self, night: int, value: float, *, regressed: bool) -> None:
        """Take in the next night's value, which must be above zero; `regressed` is what its sessions alone came to."""
        self._logs[night] = math.log(value)
        off = self._sigmas_off(night)
        self._learnt = None
        if off is not None:
            for one, sigmas in ((self._worse, -self.better * off), (self._improved, self.better * off)):
                one.add(night, max(-_MOST, min(_MOST, sigmas)))
        if regressed or self._alerts(self._worse, night) or self._is_still_down(night):
            self._fall(night, by_sessions=regressed)
            return
        self._end_open(night)
        self.levels[-1].append(night)
        since = self._improved.since
        if since is not None and night - since >= _SURE_OF_BETTER and self._alerts(self._improved, night):
            self._rise(since)

    def _is_still_down(self, night: int) -> bool:
        """Return whether a night of an open regression is nearer to the new level than to the old one."""
        if self._open is None:
            return False
        old = math.log(self._open.before)
        new = median(value for at, value in self._logs.items() if self._open.night <= at < night)
        return abs(self._logs[night] - new) < abs(self._logs[night] - old)

    def _fall(self, night: int, *, by_sessions: bool) -> None:
        if self._open is not None:
            return
        last = self.shifts[-1] if self.shifts else None
        if last is not None and last.ended is not None and night - last.ended <= _STILL_THE_SAME:
            self._open = last
            last.ended = None
        else:
            since = night if self._worse.since is None else self._worse.since
            self._open = Shift(since, Change.REGRESSED, math.exp(self._middle()), by_sessions)
            self.shifts.append(self._open)
        begun = self._open.night
        self.levels[-1] = [one for one in self.levels[-1] if one < begun]

    def _rise(self, since: int) -> None:
        self.shifts.append(Shift(since, Change.IMPROVED, math.exp(self._middle())))
        level = self.levels[-1]
        self.levels[-1:] = [[one for one in level if one < since], [one for one in level if one >= since]]
        self._worse, self._improved = _Sum(), _Sum()

    def _end_open(self, night: int) -> None:
        if self._open is not None:
            self._open.ended = night
            self._open = None
            self._worse.since = night if self._worse.total else None

    def _alerts(self, one: _Sum, night: int) -> bool:
        if one.total <= _LIMIT or one.since is None:
            return False
        new = median(value for at, value in self._logs.items() if one.since <= at <= night)
        return abs(new - self._middle()) >= math.log1p(self.least)

    def _middle(self) -> float:
        """Return the logarithm of the present level, by the nights that nothing speaks against."""
        nights = self.good()[-_NEWEST:] or self.levels[-1] or list(self._logs)
        return median(self._logs[night] for night in nights)

    def _sigmas_off(self, night: int) -> float | None:
        """Return how far a night is off its level, as a normal deviate: what Student's t makes of the nights so far."""
        known = self._learn()
        spread, level = known.spread, known.present
        if spread is None or len(level) < _LEAST_OF_LEVEL:
            return None
        from scipy.special import ndtri, stdtr

        error = spread.sigma * math.sqrt(1 + 1 / len(level))
        t = (self._logs[night] - float(level.mean())) / error
        return math.copysign(float(-ndtri(max(1e-12, float(stdtr(spread.freedom, -abs(t)))))), t)


def _clipped(logs: Sequence[float]) -> np.ndarray:
    """Bring values that are far out to where normal ones end: one bad night must not hide the next."""
    values = np.array(logs)
    if len(logs) < _LEAST_CLIPPED:
        return values
    middle = _middle_of(values)
    reach = _FAR_SIGMAS * _SIGMA_PER_MAD * _middle_of(np.abs(values - middle))
    if reach <= 0:
        return values
    clipped: np.ndarray = np.minimum(np.maximum(values, middle - reach), middle + reach)
    return clipped


def _middle_of(values: np.ndarray) -> float:
    """Return the median. numpy.median takes several times as long over so few."""
    ordered = sorted(values.tolist())
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
