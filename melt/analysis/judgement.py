"""Whether two columns differ, judged on session medians; honest about too few of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from melt.analysis.statistics import MIN_SESSIONS

_RESAMPLES = 4000
_CONFIDENCE = 0.95
_SEED = 20


class Judgement(StrEnum):
    """What can be said of a difference from the first column."""

    HIGHER = "higher"
    LOWER = "lower"
    NO_DIFFERENCE = "no difference seen"
    TOO_FEW = "too few sessions to judge"


def ratio_interval(base: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of median(other) / median(base), sessions drawn with replacement.

    The draws are the same every time. `base` must be positive.
    """
    draws = np.random.default_rng(_SEED)
    medians = [
        np.median(draws.choice(np.asarray(side, np.float64), (_RESAMPLES, len(side))), axis=1) for side in (other, base)
    ]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(medians[0] / medians[1], (tail, 1 - tail))
    return float(low), float(high)


def judge_difference(base: Sequence[float], other: Sequence[float]) -> Judgement | None:
    """Judge whether `other` differs from `base`; None where a ratio says nothing (a side is empty or not positive)."""
    if not base or not other or min(base) <= 0:
        return None
    if min(len(base), len(other)) < MIN_SESSIONS:
        return Judgement.TOO_FEW
    low, high = ratio_interval(base, other)
    if low > 1:
        return Judgement.HIGHER
    return Judgement.LOWER if high < 1 else Judgement.NO_DIFFERENCE
