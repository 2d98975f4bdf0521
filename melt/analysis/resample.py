"""Cluster bootstrap: sessions are drawn with replacement, then repetitions within each. Equal data, equal answers."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from melt.traces import Values

_RESAMPLES = 2000
_MOST_DRAWS = 400_000
_FEWEST_RESAMPLES = 500
"""Of hundreds of sessions with repetitions fewer resamples do, for their medians differ by less."""

CONFIDENCE = 0.95

_MOST_LOG = math.log(sys.float_info.max)
"""What is further apart than a number can say is as far apart as one can."""

_SEEDS = (20, 21)
"""One for each side, so that both are drawn independently."""

_INNER_DRAWS = 1536
_FEWEST_INNER = 16
"""Ways to draw a session's repetitions are laid in beforehand, as many for all sessions of a side together: a session
then takes one of its own. Drawing them anew for each resample would cost a hundred times as much and tell the same."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sessions of one side gave for one metric.

    `values` has shape (n,): one for each session. `repetitions` has shape (n, r), NaN where a session has fewer; None:
    nothing is known of what lies within sessions.
    """

    values: Values
    repetitions: Values | None = None

    @property
    def n(self) -> int:
        """How many sessions there are."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The median over sessions; NaN of none."""
        return float(np.median(self.values)) if self.n else math.nan


def ratio_interval(a: Sample, b: Sample) -> tuple[float, float]:
    """Return the 95 % interval of median(b) / median(a). All values must be above zero, and no side empty.

    The order of sessions does not matter, and the interval of a to b is the inverse of that of b to a.
    """
    a, b = _in_order(a), _in_order(b)
    rank_a, rank_b = _rank(a), _rank(b)
    first, second = (a, b) if rank_a <= rank_b else (b, a)
    times = min(map(_times, (a, b)))
    draws = np.log(_medians(second, times, _SEEDS[1])) - np.log(_medians(first, times, _SEEDS[0]))
    low, high = _ends(draws)
    if rank_a == rank_b:
        high = max(-low, high)
        low = -high
    elif first is b:
        low, high = -high, -low
    return math.exp(min(low, _MOST_LOG)), math.exp(min(high, _MOST_LOG))


def _ends(draws: Values) -> tuple[float, float]:
    """Return the ends of the interval, as numpy.quantile would: it takes longer over them than drawing does."""
    tail = (1 - CONFIDENCE) / 2
    ordered = np.sort(draws)
    last = len(draws) - 1
    return _at(ordered, tail * last), _at(ordered, (1 - tail) * last)


def _at(ordered: Values, place: float) -> float:
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (place - below) * (high - low)


def _in_order(sample: Sample) -> Sample:
    order = np.argsort(sample.values, kind="stable")
    within = None if sample.repetitions is None else sample.repetitions[order]
    return Sample(sample.values[order], within)


def _rank(sample: Sample) -> tuple[int, list[float]]:
    """Tell two sides apart by what is in them, so that it does not matter which of them is named first."""
    return sample.n, sample.values.tolist()


def _times(sample: Sample) -> int:
    """Return how many resamples a side can afford."""
    if _within(sample) is None:
        return _RESAMPLES
    return max(_FEWEST_RESAMPLES, min(_RESAMPLES, _MOST_DRAWS // sample.n))


def _within(sample: Sample) -> Values | None:
    """Return the repetitions of a side where there is anything to draw among them."""
    return None if sample.repetitions is None or sample.repetitions.shape[1] < 2 else sample.repetitions


def _medians(sample: Sample, times: int, seed: int) -> Values:
    """Return the median over sessions of each resample, shape (times,). The values are in order."""
    within = _within(sample)
    if within is None:
        below, *above = np.take(sample.values, _middle_draws(sample.n, times, seed))
        medians: Values = (below + above[0]) / 2 if above else below
        return medians
    sessions, ways = _session_draws(sample.n, times, seed)
    return _middle(np.take(_session_values(sample.values, within, seed), sessions * _ways(sample.n) + ways))


def _middle(values: Values) -> Values:
    """Return medians over the last axis. numpy.median is three times as slow on many short rows."""
    ordered = np.sort(values, axis=-1)
    n = values.shape[-1]
    middle: Values = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    return middle


def _session_values(values: Values, repetitions: Values, seed: int) -> Values:
    """Return each session's value as other draws of its repetitions would have it, shape (n, ways).

    It is moved by as much as their median is: a session's figure need not be the median of its repetitions.
    """
    counts = np.count_nonzero(np.isfinite(repetitions), axis=1)
    packed = np.take_along_axis(repetitions, np.argsort(~np.isfinite(repetitions), axis=1, kind="stable"), axis=1)
    moved = np.repeat(values[:, None], _ways(len(values)), axis=1)
    for count in np.unique(counts[counts > 1]):
        rows = np.flatnonzero(counts == count)
        own = packed[rows, :count]
        picks = _inner_draws(len(rows), int(count), _ways(len(values)), seed)
        drawn = _middle(np.take_along_axis(own[:, None, :], picks, axis=2))
        middle = _middle(own)[:, None]
        # A repetition that took no time, or gave energy back, has no ratio to the others.
        usable = (own > 0).all(axis=1)
        moved[rows[usable]] *= drawn[usable] / middle[usable]
    return moved


def _ways(n: int) -> int:
    return max(_FEWEST_INNER, math.ceil(_INNER_DRAWS / n))


@lru_cache(maxsize=32)
def _middle_draws(n: int, times: int, seed: int) -> Indices:
    """Return which of n ordered values stand in the middle of each resample, shape (1 or 2, times).

    Drawing n values with replacement is taking value floor(n u) for each of n uniform u, and the k-th smallest u is
    distributed as Beta(k, n - k + 1); above it the others are uniform again, and the next one is the least of n - k.
    So the two in the middle are drawn at once, whatever n: the same distribution as sorting all n draws has.
    https://en.wikipedia.org/wiki/Order_statistic#Order_statistics_sampled_from_a_uniform_distribution
    """
    random = np.random.default_rng((seed, n))
    k = (n + 1) // 2
    below = random.beta(k, n - k + 1, times)
    places = [below]
    if n % 2 == 0:
        places.append(below + (1 - below) * (1 - random.random(times) ** (1 / (n - k))))
    return np.minimum((n * np.stack(places)).astype(np.intp), n - 1)


@lru_cache(maxsize=32)
def _session_draws(n: int, times: int, seed: int) -> tuple[Indices, Indices]:
    """Return which session each place of each resample takes, and which of its ways, both of shape (times, n)."""
    random = np.random.default_rng((seed, n))
    return random.integers(0, n, (times, n)), random.integers(0, _ways(n), (times, n))


@lru_cache(maxsize=32)
def _inner_draws(n: int, count: int, ways: int, seed: int) -> Indices:
    return np.random.default_rng((seed, n, count)).integers(0, count, (n, ways, count))
