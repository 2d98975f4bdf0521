"""Whether a series rises or falls as it goes on: rank tests, because one disturbed value must not make a trend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
from statistics import NormalDist, fmean, median

import numpy as np

MIN_BLOCKS = 5
"""Four blocks are in order, up or down, in one of twelve cases by chance: too often to conclude anything."""

_MAX_EXACT = 25
"""Up to so many values in a row the probability is counted out; beyond, it is nearly normal."""

_MAX_VALUES = 200
"""Longer series are averaged to so many values first: pairs grow with the square."""

_MAX_BLOCKS = 24
_ALL_ORDERS_UP_TO = 7
_DRAWN_ORDERS = 4000
_DRAWN_SERIES = 20_000
_SEED = 20

Point = tuple[float, float]
"""When, and how much."""


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` is the median change per unit of time, `p` the chance of such an order if time did not matter."""

    slope: float
    p: float


def trend(values: Sequence[float], likeness: float = 0.0) -> Trend | None:
    """Return the trend of values that follow each other, the slope per value; None under two.

    Two-sided Mann-Kendall test: S is the number of pairs that rise less that of pairs that fall. Equal values count for
    neither, which makes p too large rather than too small. The slope is the median over all pairs (Theil-Sen).
    `likeness` is the correlation of each value with the next where there is no trend. With 0 every order is as likely;
    else orders are as likely as in drawn series of that correlation, for like neighbours rise and fall for long.
    """
    length = math.ceil(len(values) / (_MAX_EXACT if likeness else _MAX_VALUES))
    parts = [(start, values[start : start + length]) for start in range(0, len(values), length or 1)]
    points = [(start + (len(part) - 1) / 2, fmean(part)) for start, part in parts]
    pairs = list(combinations(points, 2))
    if not pairs:
        return None
    s = abs(sum(_sign(*pair) for pair in pairs))
    return Trend(
        slope=_slope(pairs), p=_chance_alike(s, len(points), likeness) if likeness else _chance(s, len(points))
    )


def block_trend(groups: Sequence[Mapping[int, Point]]) -> Trend | None:
    """Return the trend that groups of points have in common, each by its block; None under MIN_BLOCKS blocks.

    S adds up the pairs within each group, as Hirsch, Slack and Smith add up seasons (1982, docs/metrics.md): groups are
    not compared with each other. What is as likely by chance is any order of whole blocks, because runs next to each
    other share their luck: were they taken for independent, a luck of 1 % made a trend of nothing in 13 % of sweeps.
    """
    blocks = sorted({block for group in groups for block in group})
    if len(blocks) < MIN_BLOCKS:
        return None
    n = min(len(blocks), _MAX_BLOCKS)
    place = {block: i * n // len(blocks) for i, block in enumerate(blocks)}
    rises = np.zeros((n, n))
    pairs: list[tuple[Point, Point]] = []
    for group in groups:
        for (a, first), (b, second) in combinations(sorted(_averaged(group, place).items()), 2):
            pairs.append((first, second))
            rises[a, b] += _sign(first, second)
            rises[b, a] -= _sign(first, second)
    if not pairs:
        return None
    return Trend(slope=_slope(pairs), p=_chance_of_blocks(rises))


def _averaged(group: Mapping[int, Point], place: Mapping[int, int]) -> dict[int, Point]:
    found: dict[int, list[Point]] = {}
    for block, point in group.items():
        found.setdefault(place[block], []).append(point)
    return {i: (fmean(t for t, _ in points), fmean(v for _, v in points)) for i, points in found.items()}


def _sign(first: Point, second: Point) -> int:
    return 1 if second[1] > first[1] else -1 if second[1] < first[1] else 0


def _slope(pairs: Sequence[tuple[Point, Point]]) -> float:
    """Return the median change per time over pairs; two at the same time tell nothing."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] != a[0]]
    return median(slopes) if slopes else 0.0


def _chance(s: int, n: int) -> float:
    """Return the probability of at least so much S, up or down, when every order of n values is as likely."""
    if s == 0:
        return 1.0
    if n > _MAX_EXACT:
        return 2 * NormalDist().cdf(-(s - 1) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18))
    # S = pairs - 2 * inversions: it is at least s where there are at most (pairs - s) / 2 inversions.
    return min(1.0, 2 * math.fsum(_inversion_shares(n)[: (n * (n - 1) // 2 - s) // 2 + 1]))


@cache
def _inversion_shares(n: int) -> tuple[float, ...]:
    """Return which share of all orders of n values has 0, 1, 2, ... inversions."""
    shares = [1.0]
    for place in range(2, n + 1):
        # The next value may come before 0 to place - 1 of those that are there: so many inversions more.
        grown = [0.0] * (len(shares) + place - 1)
        for more in range(place):
            for count, share in enumerate(shares):
                grown[count + more] += share / place
        shares = grown
    return tuple(shares)


def _chance_alike(s: int, n: int, likeness: float) -> float:
    """Return the probability of at least so much S, up or down, in series whose neighbours are alike."""
    # Of drawn series, the one that was found is one more.
    as_much = len(_drawn_scores(n, likeness)) - int(np.searchsorted(_drawn_scores(n, likeness), s))
    return (as_much + 1) / (_DRAWN_SERIES + 1)


@cache
def _drawn_scores(n: int, likeness: float) -> np.ndarray:
    """Return |S| of normal series of first-order autocorrelation `likeness`, sorted; the draws are always the same."""
    draws = np.random.default_rng(_SEED)
    series = draws.normal(size=(n, _DRAWN_SERIES))
    for i in range(1, n):
        series[i] = likeness * series[i - 1] + math.sqrt(1 - likeness**2) * series[i]
    scores = np.zeros(_DRAWN_SERIES, np.int16)
    for i in range(n - 1):
        scores += np.sign(series[i + 1 :] - series[i]).sum(axis=0).astype(np.int16)
    return np.sort(np.abs(scores))


def _chance_of_blocks(rises: np.ndarray) -> float:
    """Return the probability of at least so much S in a chance order of the blocks; the draws are always the same."""
    n = len(rises)
    first, second = np.triu_indices(n, 1)
    orders = _orders(n)
    scores = np.abs(rises[orders[:, first], orders[:, second]].sum(axis=1))
    as_much = int((scores >= abs(rises[first, second].sum())).sum())
    # Of drawn orders, the one that was found is one more.
    return as_much / len(orders) if n <= _ALL_ORDERS_UP_TO else (as_much + 1) / (len(orders) + 1)


@cache
def _orders(n: int) -> np.ndarray:
    if n <= _ALL_ORDERS_UP_TO:
        return np.array(list(permutations(range(n))))
    return np.random.default_rng(_SEED).permuted(np.tile(np.arange(n), (_DRAWN_ORDERS, 1)), axis=1)
