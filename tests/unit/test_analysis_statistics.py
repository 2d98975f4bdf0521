"""Small statistics: known values, and how often the judgement is wrong where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.judgement import Judgement, judge_difference
from melt.analysis.statistics import detectable_effect, median_of, quantile, summarize, variation

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60)


def test_summary_of_few_values_shows_the_extremes():
    seen = summarize([3.0, None, 1.0, 2.0, math.nan])
    assert (seen.n, seen.median, seen.low, seen.high, seen.mad) == (3, 2.0, 1.0, 3.0, 1.0)
    assert seen.spread_kind == "min-max"


def test_summary_of_many_values_shows_the_quartiles():
    seen = summarize([1.0, 2.0, 3.0, 4.0, 5.0, 100.0, 7.0])
    assert (seen.n, seen.median, seen.low, seen.high) == (7, 4.0, 2.5, 6.0)
    assert seen.spread_kind == "IQR"


def test_nothing_measured_is_none():
    assert summarize([None, math.nan]) is None
    assert median_of([]) is None
    assert variation([1.0]) is None
    assert variation([-1.0, 1.0]) is None


@given(VALUES, st.floats(0, 1))
def test_quantiles_agree_with_numpy(values, q):
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=30))
def test_variation_agrees_with_numpy(values):
    assert variation(values) == pytest.approx(float(np.std(values, ddof=1) / np.mean(values)), abs=1e-9)


def test_detectable_effect():
    # Both sides: MAD 1, sigma 1.4826; a median of 5 has a standard error of 1.2533 * sigma / sqrt(5).
    side = summarize([98.0, 99.0, 100.0, 101.0, 102.0])
    expected = 2.8016 * math.sqrt(2) * 1.2533 * 1.4826 / math.sqrt(5) / 100
    assert detectable_effect(side, side) == pytest.approx(expected, rel=1e-3)
    assert detectable_effect(summarize([1.0, 2.0]), side) is None
    assert detectable_effect(summarize([5.0] * 5), summarize([6.0] * 5)) is None


def test_judgement():
    a, b = [10.0, 10.2, 9.9, 10.1, 10.0, 10.3], [11.0, 11.1, 10.9, 11.3, 11.2, 11.0]
    assert judge_difference(a, b) is Judgement.HIGHER
    assert judge_difference(b, a) is Judgement.LOWER
    assert judge_difference(a, a) is Judgement.NO_DIFFERENCE
    assert judge_difference(a[:5], b) is Judgement.TOO_FEW
    assert judge_difference([], b) is None
    assert judge_difference([0.0, *a], b) is None


def test_judgement_is_seldom_wrong_and_finds_what_matters():
    random = np.random.default_rng(11)

    def share(effect, sessions, judgements):
        draws = [(random.normal(100, 2, sessions), random.normal(100 * effect, 2, sessions)) for _ in range(60)]
        return sum(judge_difference(list(a), list(b)) in judgements for a, b in draws) / len(draws)

    assert share(1.0, 10, (Judgement.HIGHER, Judgement.LOWER)) <= 0.12
    assert share(0.94, 10, (Judgement.LOWER,)) >= 0.9
