"""Whether B differs from A: for each metric its ratio with an interval, a test, and a verdict that claims no more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from types import MappingProxyType

import numpy as np

from melt.analysis.columns import NO_RATIO, info, is_exact
from melt.analysis.names import METRICS
from melt.analysis.ranks import hodges_lehmann, holm, mann_whitney_p
from melt.analysis.resample import Sample, ratio_interval
from melt.analysis.statistics import MIN_SESSIONS

ALPHA = 0.05
POWER = 0.80

THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {
        "prefill_tps": 0.03,
        "decode_tps": 0.03,
        "ttft_s": 0.03,
        "itl_p95_s": 0.10,
        "inferences_per_s": 0.03,
        "inference_p99_s": 0.10,
        "first_inference_s": 0.10,
        "load_s": 0.10,
        "steady_tps": 0.03,
        "peak_rss_bytes": 0.02,
        "energy_per_token_j": 0.05,
        "energy_per_inference_j": 0.05,
    }
)
"""What is judged unless told otherwise, and the least change that anybody need care about. docs/metrics.md argues them.

Few, and each about something else: Holm divides what may go wrong among them. Most other metrics follow from these.
"""

DEFAULT_THRESHOLD = 0.05
"""Of a metric that is judged because somebody asked for it."""

TOO_FEW = "insufficient power"
"""Why nothing is said of under six sessions a side."""

INTERVAL_SESSIONS = 3
"""Under so many sessions a side, drawing them again says nothing of how far another one might lie."""

_FARTHEST = 5.0
"""Of a logarithm: nobody needs to know which change above a hundredfold would be seen."""

_MEDIAN_INEFFICIENCY = 1.15
"""Standard error of a median over that of a mean, at 6 to 10 values: 1.13 to 1.18; 1.25 of endless many."""


class Change(StrEnum):
    """What can be said of B against A."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"


_WORST_FIRST = (Change.REGRESSED, Change.IMPROVED, Change.INCONCLUSIVE, Change.UNCHANGED, Change.INCOMPARABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric of two sides. `a` and `b` are medians over sessions, in the metric's unit, None of no session.

    `ratio` is b / a, `low` to `high` its 95 % interval: 0.95 is 5 % less; None where values are not above zero. `shift`
    is Hodges and Lehmann's, in the metric's unit. `p` is of the Mann-Whitney test, `p_holm` the same within its family.
    `threshold` is the least change that counts; `detectable` the smallest one that would be told in 4 of 5 comparisons
    like this, both relative. `change` None: shown, but not judged; `why` tells a verdict's cause in a few words.
    """

    metric: str
    change: Change | None
    why: str | None = None
    n_a: int
    n_b: int
    a: float | None
    b: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    shift: float | None = None
    p: float | None = None
    p_holm: float | None = None
    threshold: float | None = None
    detectable: float | None = None


def judge_ab(
    samples: Mapping[str, tuple[Sample, Sample]],
    thresholds: Mapping[str, float] = THRESHOLDS,
    unlike: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Difference, ...]:
    """Judge B against A in every metric that has a threshold; the others are only shown.

    The metrics are one family: Holm's adjustment runs over those that have sessions enough. `unlike` tells of metrics
    whose figures do not compare, and why. A change is real if its adjusted p is under 5 % and its interval excludes 1;
    it counts if it also reaches the threshold, up or down by the same factor.
    """
    shown = {name: _shown(name, a, b, unlike.get(name)) for name, (a, b) in samples.items()}
    judged = {
        name for name, found in shown.items() if name in thresholds and found.ratio is not None and not is_exact(name)
    }
    enough = [name for name in samples if name in judged and min(side.n for side in samples[name]) >= MIN_SESSIONS]
    adjusted = dict(zip(enough, holm([shown[name].p or 0.0 for name in enough]), strict=True))
    for name in judged:
        a, b = samples[name]
        threshold = thresholds[name]
        shown[name] = _judged(
            replace(
                shown[name],
                p_holm=adjusted.get(name),
                threshold=threshold,
                detectable=detectable(a, b, threshold, tests=max(1, len(enough))),
            )
        )
    return tuple(shown.values())


def overall(changes: Iterable[Change | None]) -> Change:
    """Return the verdict over several: regressed if anything is, then improved, inconclusive, unchanged."""
    found = set(changes)
    return next((change for change in _WORST_FIRST if change in found), Change.INCONCLUSIVE)


def has_ratio(metric: str) -> bool:
    """Return whether a ratio of two values of a metric says anything: 40 degrees are not a third hotter than 30."""
    return info(metric).unit not in NO_RATIO


def detectable(a: Sample, b: Sample, threshold: float = 0.0, tests: int = 1) -> float | None:
    """Return the smallest relative change that would be told in 4 of 5 comparisons like this one.

    By how much sessions differ on each side; of several `tests` each has its share of the 5 %. None under two sessions
    a side.
    """
    if min(a.n, b.n) < 2 or min(a.values.min(), b.values.min()) <= 0:
        return None
    freedom = a.n + b.n - 2
    squares = sum(float(((logs := np.log(side.values)) - logs.mean()) @ (logs - logs.mean())) for side in (a, b))
    error = _MEDIAN_INEFFICIENCY * math.sqrt(squares / freedom * (1 / a.n + 1 / b.n))
    power = _student(POWER, freedom) * error
    return math.expm1(
        min(_FARTHEST, power + max(_student(1 - ALPHA / tests / 2, freedom) * error, math.log1p(threshold)))
    )


def _student(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t, within 3 %, by the expansion of Cornish and Fisher (Abramowitz 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _shown(metric: str, a: Sample, b: Sample, unlike: str | None) -> Difference:
    """Tell what was measured, and judge nothing but that it cannot be compared."""
    found = Difference(
        metric=metric,
        change=None,
        n_a=a.n,
        n_b=b.n,
        a=a.median if a.n else None,
        b=b.median if b.n else None,
    )
    if unlike is not None:
        return replace(found, change=Change.INCOMPARABLE, why=unlike)
    if not a.n or not b.n:
        return found
    found = replace(found, shift=hodges_lehmann(a.values, b.values), p=mann_whitney_p(a.values, b.values))
    if not has_ratio(metric) or min(a.values.min(), b.values.min()) <= 0:
        return found
    ratio = b.median / a.median
    if is_exact(metric):
        return replace(found, shift=None, p=None, ratio=ratio)
    if min(a.n, b.n) < INTERVAL_SESSIONS:
        return replace(found, ratio=ratio)
    low, high = ratio_interval(a, b)
    return replace(found, ratio=ratio, low=low, high=high)


def _judged(found: Difference) -> Difference:
    if found.p_holm is None:
        return replace(found, change=Change.INCONCLUSIVE, why=TOO_FEW)
    if found.ratio is None or found.low is None or found.high is None or found.threshold is None:
        return found
    room = math.log1p(found.threshold)
    size, low, high = math.log(found.ratio), math.log(found.low), math.log(found.high)
    real = found.p_holm <= ALPHA and (low > 0 or high < 0)
    if real and abs(size) >= room:
        better = (size > 0) == (METRICS[found.metric].better > 0)
        return replace(found, change=Change.IMPROVED if better else Change.REGRESSED)
    if -room < low and high < room:
        return replace(found, change=Change.UNCHANGED)
    return replace(found, change=Change.INCONCLUSIVE, why="a real change, too small to count" if real else None)
