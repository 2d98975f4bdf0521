"""Whether two columns differ, judged on session medians; honest about too few of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from melt.analysis.resample import Sample, ratio_interval
from melt.analysis.statistics import MIN_SESSIONS


class Judgement(StrEnum):
    """What can be said of a difference from the first column."""

    HIGHER = "higher"
    LOWER = "lower"
    NO_DIFFERENCE = "no difference seen"
    TOO_FEW = "too few sessions to judge"


def judge_difference(base: Sequence[float], other: Sequence[float]) -> Judgement | None:
    """Judge whether `other` differs from `base`; None where a ratio says nothing."""
    if not base or not other or min(base) <= 0 or min(other) <= 0:
        return None
    if min(len(base), len(other)) < MIN_SESSIONS:
        return Judgement.TOO_FEW
    low, high = ratio_interval(*(Sample(np.asarray(side, np.float64)) for side in (base, other)))
    if low > 1:
        return Judgement.HIGHER
    return Judgement.LOWER if high < 1 else Judgement.NO_DIFFERENCE
