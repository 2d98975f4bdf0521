"""Whether a series rises or falls as it goes on: rank tests, because one disturbed value must not make a trend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import NormalDist, fmean, median

_MAX_EXACT_PAIRS = 300
"""Up to so many pairs the probability is counted out (25 values in a row, say); beyond, it is nearly normal."""

_MAX_VALUES = 200
"""Longer series are averaged to so many values first: pairs grow with the square."""

Point = tuple[float, float]
"""When, and how much."""


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` is the median change per unit of time, `p` the chance of such an order if time did not matter."""

    slope: float
    p: float
    n: int


def trend(values: Sequence[float]) -> Trend | None:
    """Return the trend of values that follow each other, the slope per value; None under two."""
    length = math.ceil(len(values) / _MAX_VALUES)
    parts = [(start, values[start : start + length]) for start in range(0, len(values), length or 1)]
    return grouped_trend([[(start + (len(part) - 1) / 2, fmean(part)) for start, part in parts]])


def grouped_trend(groups: Sequence[Sequence[Point]]) -> Trend | None:
    """Return the trend that groups of points have in common, each compared with its own kind only; None without pairs.

    Two-sided Mann-Kendall test, of groups as Hirsch, Slack and Smith add up seasons (1982, docs/metrics.md): S is the
    number of pairs that rise less that of pairs that fall. Equal values count for neither, which makes p too large
    rather than too small. The slope is the median over all pairs (Theil-Sen). Times within a group must differ.
    """
    ordered = [sorted(group) for group in groups]
    pairs = [pair for group in ordered for pair in combinations(group, 2)]
    if not pairs:
        return None
    s = sum(1 if later[1] > earlier[1] else -1 if later[1] < earlier[1] else 0 for earlier, later in pairs)
    slope = median((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairs)
    sizes = tuple(sorted(len(group) for group in ordered if len(group) > 1))
    return Trend(slope=slope, p=_chance(abs(s), sizes), n=sum(sizes))


def _chance(s: int, sizes: tuple[int, ...]) -> float:
    """Return the probability of at least so much S, up or down, when every order within the groups is as likely."""
    if s == 0:
        return 1.0
    n_pairs = sum(n * (n - 1) // 2 for n in sizes)
    if n_pairs > _MAX_EXACT_PAIRS:
        variance = sum(n * (n - 1) * (2 * n + 5) / 18 for n in sizes)
        return 2 * NormalDist().cdf(-(s - 1) / math.sqrt(variance))
    # S = pairs - 2 * inversions: it is at least s where there are at most (pairs - s) / 2 inversions.
    shares = _inversion_shares(sizes)
    return min(1.0, 2 * math.fsum(shares[: (n_pairs - s) // 2 + 1]))


@cache
def _inversion_shares(sizes: tuple[int, ...]) -> tuple[float, ...]:
    """Return which share of all orders has 0, 1, 2, ... inversions, counted within groups of these sizes."""
    shares = [1.0]
    for n in sizes:
        for place in range(2, n + 1):
            # The next value may come before 0 to place - 1 of those that are there: so many inversions more.
            grown = [0.0] * (len(shares) + place - 1)
            for more in range(place):
                for count, share in enumerate(shares):
                    grown[count + more] += share / place
            shares = grown
    return tuple(shares)
