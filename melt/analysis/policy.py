"""By what a night is judged: which nights it is held against, and from which change on it counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from melt.analysis.ab import DEFAULT_THRESHOLD, THRESHOLDS
from melt.analysis.levels import LEAST_NIGHTS, Spread
from melt.records.acknowledgement import Acknowledgement

LEAST = 0.01
"""No threshold is learnt that is smaller, and no alert is about less: nobody is woken for it."""

_CHANCE = 1e-4
"""That a night is off by a learnt threshold by itself: seldom enough for a year of nights and a shelf of devices.

benchmarks/nightly.py simulates what comes of it.
"""
_SESSION_SIGMAS = 4.0
"""While few nights are known, and sessions stand in for them: nights may differ by more than their sessions tell."""
_MEDIAN_INEFFICIENCY = 1.25


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a night is held against: the newest `nights` good ones before it, or `sweeps`, whenever they were."""

    name: str
    nights: int = 0
    sweeps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least change that counts, as a share, and in words where it comes from: given, or learnt from what."""

    value: float
    how: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What was asked of the judge: `given` thresholds are shares by metric, `allowed` names fields of alike.FIELDS."""

    baseline: Baseline
    given: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    allowed: frozenset[str] = frozenset()
    acknowledged: tuple[Acknowledgement, ...] = ()

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What is judged: melt's own choice, and what thresholds were given for."""
        return tuple(dict.fromkeys((*THRESHOLDS, *self.given)))

    @cached_property
    def accepted(self) -> Mapping[str, Acknowledgement]:
        """What was acknowledged, by the change's id."""
        return {one.change_id: one for one in self.acknowledged}

    @cached_property
    def new_levels(self) -> Mapping[tuple[str, str, str], Acknowledgement]:
        """What was acknowledged of figures, by series, metric and first night."""
        return {
            (one.series_id, one.metric, one.sweep_id): one for one in self.acknowledged if one.series_id and one.metric
        }

    def least(self, metric: str) -> float:
        """Return what a change of level must exceed, however sure it is."""
        return self.given.get(metric, LEAST)

    def threshold(
        self, metric: str, spread: Spread | None, nights: Sequence[Sequence[float]], sessions: int
    ) -> Threshold:
        """Return from which change on one night of so many sessions counts against `nights`, each with its sessions.

        Given, else learnt: so much that a night is off these nights once in 10,000 nights, by Student's t. Until enough
        nights tell how much nights differ, sessions tell it, and no less than melt's own threshold is taken.
        """
        if metric in self.given:
            return Threshold(self.given[metric], "given")
        room = math.sqrt(1 + 1 / max(1, len(nights)))
        if spread is not None:
            # Loaded here: it takes a part of a second, and thresholds that are given never ask.
            from scipy.special import stdtrit

            value = math.expm1(float(stdtrit(spread.freedom, 1 - _CHANCE)) * spread.sigma * room)
            how = f"learnt: {spread.nights} nights differ by {spread.sigma:.1%}"
            return Threshold(max(LEAST, value), how)
        own = THRESHOLDS.get(metric, DEFAULT_THRESHOLD)
        sigma = _session_sigma(nights)
        few = f"until {LEAST_NIGHTS} nights are known"
        if sigma is None:
            return Threshold(own, f"melt's own, {few}")
        value = math.expm1(_SESSION_SIGMAS * _MEDIAN_INEFFICIENCY * sigma / math.sqrt(max(1, sessions)) * room)
        if value <= own:
            return Threshold(own, f"melt's own, {few}")
        return Threshold(value, f"learnt: sessions differ by {sigma:.1%}, {few}")


def _session_sigma(nights: Iterable[Sequence[float]]) -> float | None:
    """Return how much sessions of one night differ, as a standard deviation of logarithms; None if no night tells."""
    squares, freedom = 0.0, 0
    for values in nights:
        if len(values) > 1 and min(values) > 0:
            logs = np.log(values)
            squares += float(((logs - logs.mean()) ** 2).sum())
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else None
