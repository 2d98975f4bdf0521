"""Small statistics that never mistake "nothing measured" for zero. The session is the statistical unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev

MIN_SESSIONS = 6
"""Fewer sessions cannot be judged: with 2 % between sessions and 1.5 % between repetitions, pooling the repetitions of
three sessions finds a difference where there is none in 46 % of trials; six sessions bring that to 6 %."""

_POWER_SIGMAS = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.80)
"""Two-sided 5 % significance and 80 % power, in standard errors of the difference: 2.80."""

_SIGMA_PER_MAD = 1 / NormalDist().inv_cdf(0.75)
_MEDIAN_INEFFICIENCY = math.sqrt(math.pi / 2)


@dataclass(frozen=True, slots=True)
class Summary:
    """Session medians boiled down. `low` and `high` are the quartiles from 6 values on, before that the extremes."""

    n: int
    median: float
    low: float
    high: float
    mad: float

    @property
    def spread_kind(self) -> str:
        """Which spread `low` and `high` are."""
        return "IQR" if self.n >= MIN_SESSIONS else "min-max"


def measured(values: Iterable[float | None]) -> list[float]:
    """Return the values that were measured and are finite."""
    return [v for v in values if v is not None and math.isfinite(v)]


def median_of(values: Iterable[float | None]) -> float | None:
    """Return the median of what was measured, None when nothing was."""
    kept = measured(values)
    if len(kept) == 1:
        return kept[0]
    return median(kept) if kept else None


def mean_reach(values: Sequence[float], confidence: float = 0.95) -> float:
    """Return how far the interval of Student's t reaches to each side of the mean. `values` must be two or more."""
    # Loaded here: it takes half a second, and most commands never ask.
    from scipy.special import stdtrit

    n = len(values)
    return float(stdtrit(n - 1, (1 + confidence) / 2)) * stdev(values, fmean(values)) / math.sqrt(n)


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-quantile, linear between the two nearest of the sorted values. `values` must not be empty."""
    return _quantile(sorted(values), q)


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarize(values: Iterable[float | None]) -> Summary | None:
    """Boil values down to median, spread and median absolute deviation; None when nothing was measured."""
    kept = sorted(measured(values))
    if not kept:
        return None
    middle = median(kept)
    mad = median([abs(v - middle) for v in kept])
    low, high = (0.25, 0.75) if len(kept) >= MIN_SESSIONS else (0.0, 1.0)
    return Summary(len(kept), middle, _quantile(kept, low), _quantile(kept, high), mad)


def variation(values: Sequence[float]) -> float | None:
    """Return the coefficient of variation: sample standard deviation over mean; None under two values or around 0."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    if mean == 0:
        return None
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) / abs(mean)


def detectable_effect(a: Summary, b: Summary) -> float | None:
    """Return the smallest relative difference between two medians that such samples would show in 4 of 5 trials.

    A fraction of a's median. The standard deviation of each side is taken from its MAD, the standard error of a median
    is 1.25 times that of a mean. None when a side has fewer than 3 values, or all of them are equal.
    """
    if min(a.n, b.n) < 3:
        return None
    variance = sum((_MEDIAN_INEFFICIENCY * _SIGMA_PER_MAD * side.mad) ** 2 / side.n for side in (a, b))
    base = abs(a.median)
    return _POWER_SIGMAS * math.sqrt(variance) / base if variance > 0 and base > 0 else None
