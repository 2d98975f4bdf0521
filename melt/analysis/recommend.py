"""Limits on a level, and the level that is recommended under them. A figure that is not known meets no limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from melt.analysis.choice import (
    DECODE,
    ENERGY,
    HEAT,
    LOSS,
    MEMORY,
    QUANTITIES,
    SIZE,
    SUSTAINED,
    TTFT,
    Candidate,
    Relation,
    dominated,
    relation,
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on a quantity, in its unit: at least where more is better, else at most.

    `flag` is what asked for it, `said` the bound as it was written there.
    """

    flag: str
    quantity: str
    bound: float
    said: str

    @property
    def at_least(self) -> bool:
        """Whether figures must be the bound or more."""
        return QUANTITIES[self.quantity].better > 0


FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "--min-tps": DECODE,
        "--min-sustained-tps": SUSTAINED,
        "--max-ttft": TTFT,
        "--max-memory": MEMORY,
        "--max-size": SIZE,
        "--max-energy": ENERGY,
        "--max-temperature-rise": HEAT,
        "--max-quality-loss": LOSS,
    }
)
"""The flags that bound something, and what."""


class Met(StrEnum):
    """Whether a level meets a limit."""

    MET = "met"
    MISSED = "missed"
    NOT_CERTAIN = "not certain"
    NOT_MEASURED = "not measured"


GOALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "quality": (LOSS, DECODE, SIZE),
        "speed": (DECODE, LOSS, SIZE),
        "size": (SIZE, LOSS, DECODE),
        "energy": (ENERGY, LOSS, DECODE),
    }
)
"""What is wanted most of levels that meet the limits; where that cannot be told apart the next decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to take and why. `level` None: no level meets all limits for certain, or nothing was asked for.

    `met` has the state of each limit by level, in the order of the limits. `eligible` meet all. `ties` cannot be told
    apart from `level` in what `goal` asks for first. `passed_over` would be preferred, but miss or may miss a limit.
    `nearest` is the level that comes nearest where `level` is None, `short` by what share it misses at most; None where
    all levels are as far.
    """

    goal: str | None
    limits: tuple[Limit, ...]
    met: Mapping[str, tuple[Met, ...]]
    level: str | None = None
    eligible: tuple[str, ...] = ()
    ties: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    nearest: str | None = None
    short: float | None = None


def state_of(candidate: Candidate, limit: Limit) -> Met:
    """Say whether a level meets a limit: for certain only if its whole interval does."""
    figure = candidate.figures.get(limit.quantity)
    if figure is None or not candidate.runs:
        return Met.NOT_MEASURED
    low, high = figure.reach
    worst, best = (low, high) if limit.at_least else (-high, -low)
    bound = limit.bound if limit.at_least else -limit.bound
    if worst >= bound:
        return Met.MET
    return Met.NOT_CERTAIN if best >= bound else Met.MISSED


def recommend(candidates: Sequence[Candidate], limits: Sequence[Limit], goal: str | None = None) -> Recommendation:
    """Choose among the levels that meet all limits and that no other one of these dominates.

    `goal` None: the best quality where speed, memory or the like is bounded; where quality alone is, the fastest; where
    nothing is, nothing is recommended.
    """
    goal = goal or _natural_goal(limits)
    met = {c.level: tuple(state_of(c, limit) for limit in limits) for c in candidates}
    told = Recommendation(goal=goal, limits=tuple(limits), met=met)
    able = [c for c in candidates if c.runs]
    if goal is None or not able:
        return told
    eligible = [c for c in able if all(state is Met.MET for state in met[c.level])]
    # A level that lacks what is wanted most cannot be the best in it.
    wanted = [c for c in eligible if GOALS[goal][0] in c.figures]
    if not wanted:
        told = replace(told, eligible=tuple(c.level for c in eligible))
        near = min(able, key=lambda c: _shortfall(c, limits))
        if len(able) > 1 and len({_shortfall(c, limits) for c in able}) == 1:
            return told
        return replace(told, nearest=near.level, short=_short(near, limits))
    beaten = dominated(wanted)
    chosen, ties = _best([c for c in wanted if c.level not in beaten], GOALS[goal])
    better = (Relation.BETTER, Relation.SEEMS_BETTER)
    passed = [c.level for c in able if c not in eligible and relation(c, chosen, GOALS[goal][0]) in better]
    return replace(
        told, level=chosen.level, eligible=tuple(c.level for c in eligible), ties=ties, passed_over=tuple(passed)
    )


def _natural_goal(limits: Sequence[Limit]) -> str | None:
    if not limits:
        return None
    return "speed" if all(limit.quantity == LOSS for limit in limits) else "quality"


def _best(candidates: Sequence[Candidate], order: Sequence[str]) -> tuple[Candidate, tuple[str, ...]]:
    """Return the best by the first quantity, of those that are even with it the best by the next, and who was even."""
    pool, ties = list(candidates), tuple[str, ...]()
    for i, name in enumerate(order):
        sign = QUANTITIES[name].better
        known = [c for c in pool if name in c.figures]
        if not known:
            continue
        best = max(known, key=lambda c: sign * c.figures[name].value)
        pool = [c for c in known if c is best or relation(c, best, name) is Relation.EVEN]
        if i == 0:
            ties = tuple(c.level for c in pool)
    return pool[0], tuple(level for level in ties if level != pool[0].level)


def _shortfall(candidate: Candidate, limits: Sequence[Limit]) -> tuple[int, int, int, float]:
    states = [state_of(candidate, limit) for limit in limits]
    return (
        states.count(Met.NOT_MEASURED),
        states.count(Met.MISSED),
        states.count(Met.NOT_CERTAIN),
        _short(candidate, limits) or 0.0,
    )


def _short(candidate: Candidate, limits: Sequence[Limit]) -> float | None:
    """Return by what share of its bound a level misses the limit that it misses most, None where it misses none."""
    shares = []
    for limit in limits:
        figure = candidate.figures.get(limit.quantity)
        if figure is not None and limit.bound > 0:
            gap = limit.bound - figure.value if limit.at_least else figure.value - limit.bound
            shares.append(gap / limit.bound)
    worst = max(shares, default=0.0)
    return worst if worst > 0 else None
