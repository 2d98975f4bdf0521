"""A series judged night by night, each by what was known then: which nights are good follows from those before them.

Nothing of it is kept: the same store and the same flags come to the same verdicts. What people accepted is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from melt.analysis.ab import Change, Difference, judge_ab
from melt.analysis.alike import FIELDS, short
from melt.analysis.changepoints import change_id
from melt.analysis.history import TESTED, Night, Series
from melt.analysis.levels import Watch
from melt.analysis.names import METRICS
from melt.analysis.policy import Policy, Threshold
from melt.analysis.resample import Sample
from melt.analysis.statistics import MIN_SESSIONS

_MOST_UNCHANGED = 0.10
"""An interval that reaches further is not called unchanged, however large a threshold was learnt."""

_TOO_NOISY = "too much spread"


@dataclass(frozen=True, slots=True)
class Unlike:
    """Why a night's figures are not held against those before: what became another, and the id to accept it by."""

    change_id: str
    what: str


@dataclass(slots=True)
class Judged:
    """What a night came to. By metric: its threshold, the nights it was held against, what makes it unlike them."""

    night: int
    differences: tuple[Difference, ...] = ()
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    against: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unlike: dict[str, Unlike] = field(default_factory=dict)


class Replay:
    """One series under one policy. `watches` holds what is known of each metric after the newest night taken in."""

    def __init__(self, series: Series, policy: Policy) -> None:
        self.series = series
        self.policy = policy
        self.watches: dict[str, Watch] = {}
        self._known: dict[str, str] = {}
        self._scopes: dict[str, str] = {}
        self._values: list[Mapping[str, float]] = []

    def nights(self, last: int) -> Iterator[Judged]:
        """Take in all nights up to `last` and give what came of each; figures of the last one are told in full.

        Of the others they are left out where they are not off by the threshold: no verdict hangs on them.
        """
        for index, night in enumerate(self.series.nights[: last + 1]):
            yield self._step(index, night, thorough=index == last)

    def values(self, metric: str, last: int) -> dict[int, float]:
        """Return the medians of the nights that could be held against each other, by index."""
        return {index: one[metric] for index, one in enumerate(self._values[: last + 1]) if metric in one}

    def _step(self, index: int, night: Night, *, thorough: bool) -> Judged:
        metrics = [name for name in self.policy.metrics if _is_judged(name, night)]
        judged = Judged(index)
        self._values.append({})
        changed = self._changed(index, night)
        self._accept(index, night, metrics, changed)
        for name in metrics:
            if changed is not None and changed.change_id not in self.policy.accepted:
                judged.unlike[name] = changed
            elif (other := self._other_scope(night, name)) is not None:
                judged.unlike[name] = other
        self._hold_against_others(index, night, metrics, judged, thorough=thorough)
        regressed = {one.metric for one in judged.differences if one.change is Change.REGRESSED}
        medians = {name: median(night.values[name]) for name in metrics if name not in judged.unlike}
        self._values[-1] = medians
        for name, value in medians.items():
            self._watch(name).step(index, value, regressed=name in regressed)
            if name in night.scopes:
                self._scopes[name] = night.scopes[name]
        if night.verdict is not None and (changed is None or changed.change_id in self.policy.accepted):
            self._known |= {name: value for name, value in night.found.items() if value is not None}
        return judged

    def _watch(self, metric: str) -> Watch:
        if metric not in self.watches:
            self.watches[metric] = Watch(METRICS[metric].better, self.policy.least(metric))
        return self.watches[metric]

    def _accept(self, index: int, night: Night, metrics: Sequence[str], changed: Unlike | None) -> None:
        """Begin new levels where somebody accepted one, or the condition that became another."""
        condition = None if changed is None else self.policy.accepted.get(changed.change_id)
        if not self._differing(night, self._known):
            # Tagged nights may have been otherwise all along: the level goes on where the night before was as this one.
            condition = None
        if condition is not None:
            self._known = {}
        for name in metrics:
            key = (self.series.series_id, name, night.sweep_id)
            scope = self._other_scope(night, name)
            accepted = condition or self.policy.new_levels.get(key)
            if scope is not None and accepted is None:
                accepted = self.policy.accepted.get(scope.change_id)
            if accepted is not None and name in self.watches:
                self._scopes.pop(name, None)
                self._watch(name).restart(index, accepted.because)

    def _hold_against_others(
        self, index: int, night: Night, metrics: Sequence[str], judged: Judged, *, thorough: bool
    ) -> None:
        sides: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
        worth = thorough
        for name in metrics:
            against = self._against(name, index)
            before = [self.series.nights[one].values[name] for one in against]
            if not before:
                continue
            own = night.values[name]
            watch = self._watch(name)
            judged.against[name] = against
            judged.thresholds[name] = self.policy.threshold(name, watch.spread(), before, len(own))
            pooled = [value for values in before for value in values]
            sides[name] = pooled, own
            size = METRICS[name].better * math.log(median(own) / median(pooled))
            enough = min(len(own), len(pooled)) >= MIN_SESSIONS
            # A night that is not off by the threshold is no worse whatever the test says, and tests take their time.
            worth |= enough and name not in judged.unlike and -size >= math.log1p(judged.thresholds[name].value)
        if worth:
            thresholds = {name: one.value for name, one in judged.thresholds.items()}
            unlike = {name: one.what for name, one in judged.unlike.items()}
            samples = {name: (Sample(np.array(a)), Sample(np.array(b))) for name, (a, b) in sides.items()}
            judged.differences = tuple(map(self._modestly, judge_ab(samples, thresholds, unlike)))

    def _modestly(self, found: Difference) -> Difference:
        """Call nothing unchanged only because a device is so noisy that its threshold holds every interval."""
        if found.change is not Change.UNCHANGED or found.low is None or found.high is None:
            return found
        farthest = max(-math.log(found.low), math.log(found.high))
        if found.metric in self.policy.given or farthest < math.log1p(_MOST_UNCHANGED):
            return found
        return replace(found, change=Change.INCONCLUSIVE, why=_TOO_NOISY)

    def _against(self, metric: str, index: int) -> tuple[int, ...]:
        nights = self.series.nights
        baseline = self.policy.baseline
        if baseline.sweeps:
            chosen = (one for one, night in enumerate(nights) if night.sweep_id in baseline.sweeps and one != index)
            return tuple(one for one in chosen if _is_judged(metric, nights[one]))
        return tuple(self._watch(metric).good()[-baseline.nights :])

    def _changed(self, index: int, night: Night) -> Unlike | None:
        """Say which of the conditions that must agree became another. Unknown is no difference."""
        if night.verdict is None:
            return None
        known: dict[str, str | None] = {**self._known}
        for one, other in enumerate(self.series.nights):
            if one != index and other.sweep_id in self.policy.baseline.sweeps:
                known |= {name: value for name, value in other.found.items() if value is not None}
        told = self._differing(night, known)
        return self._unlike(", ".join(told)) if told else None

    def _differing(self, night: Night, known: Mapping[str, str | None]) -> list[str]:
        return [
            f"{title} {short(before)} -> {short(value)}"
            for name, title in FIELDS.items()
            if name not in TESTED and name not in self.policy.allowed
            if (value := night.found.get(name)) is not None and (before := known.get(name)) not in (None, value)
        ]

    def _other_scope(self, night: Night, metric: str) -> Unlike | None:
        own, known = night.scopes.get(metric), self._scopes.get(metric)
        if own is None or known is None or own == known:
            return None
        return self._unlike(f"{METRICS[metric].title} was measured of {known} -> {own}")

    def _unlike(self, what: str) -> Unlike:
        return Unlike(change_id(self.series.start.device.device_id, what), what)


def _is_judged(metric: str, night: Night) -> bool:
    return min(night.values.get(metric, ()), default=0.0) > 0
