"""Tests and shifts by rank, and what is left of a p among many. With numpy alone: scipy.stats takes 2 s to load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from melt.traces import Values

_EXACT_PAIRS = 400
"""Above so many pairs of values (20 against 20) the normal distribution is as good as the exact one."""

_MOST_VALUES = 300
"""Of a side, whose differences from all of the other are looked at one by one."""


def mann_whitney_p(a: Values, b: Values) -> float:
    """Return the two-sided p of the Mann-Whitney test that neither side tends to be higher; 1 where a side is empty.

    Exact without ties, by the normal distribution with ties, then never below what the exact test could give.
    """
    n, m = len(a), len(b)
    if not n or not m:
        return 1.0
    ordered = np.sort(b)
    below = int(np.searchsorted(ordered, a, "left").sum())
    equal = int(np.searchsorted(ordered, a, "right").sum()) - below
    larger = max(below + equal / 2, n * m - below - equal / 2)
    _, ties = np.unique(np.concatenate((a, b)), return_counts=True)
    if ties.max() == 1 and n * m <= _EXACT_PAIRS:
        ways = _ways(min(n, m), max(n, m))
        return min(1.0, 2 * sum(ways[int(larger) :]) / math.comb(n + m, n))
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(0.0, larger - n * m / 2 - 0.5) / math.sqrt(variance)
    return min(1.0, max(math.erfc(z / math.sqrt(2)), 2 / math.comb(total, n)))


def hodges_lehmann(a: Values, b: Values) -> float:
    """Return the median of all differences between a value of b and one of a; NaN where a side is empty."""
    if not len(a) or not len(b):
        return math.nan
    return float(np.median(_thinned(b)[:, None] - _thinned(a)[None, :]))


def _thinned(values: Values) -> Values:
    """Return values with the same quantiles, at most `_MOST_VALUES` of them."""
    if len(values) <= _MOST_VALUES:
        return values
    thinned: Values = np.quantile(values, (np.arange(_MOST_VALUES) + 0.5) / _MOST_VALUES)
    return thinned


def holm(p: Sequence[float]) -> list[float]:
    """Return each p as Holm adjusts it: believing those of at most 5 % is wrong anywhere in 5 of 100 families."""
    adjusted = [1.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, p[index] * (len(p) - rank)))
        adjusted[index] = largest
    return adjusted


@lru_cache(maxsize=256)
def _ways(n: int, m: int) -> tuple[int, ...]:
    """Return in how many orders of n and m values U is 0, 1, ... n m."""
    # N(n, m, u) = N(n, m - 1, u) + N(n - 1, m, u - m), by the side of the largest value: row `own` holds n = own.
    table = np.zeros((n + 1, n * m + 1), np.int64)
    table[:, 0] = 1
    for others in range(1, m + 1):
        for own in range(1, n + 1):
            table[own, others:] += table[own - 1, :-others]
    return tuple(table[n].tolist())
