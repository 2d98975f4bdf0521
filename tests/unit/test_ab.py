"""Verdicts of B against A: on planted data, by their symmetries, and against scipy."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, mannwhitneyu

from melt.analysis.ab import THRESHOLDS, TOO_FEW, Change, detectable, judge_ab, overall
from melt.analysis.ranks import hodges_lehmann, holm, mann_whitney_p
from melt.analysis.resample import Sample, _middle_draws, ratio_interval

RATE = "decode_tps"
LATENCY = "ttft_s"


def side(seed, sessions=6, repetitions=10, level=1.0):
    random = np.random.default_rng(seed)
    values = level * np.exp(
        0.01 * random.normal(size=(sessions, 1)) + 0.01 * random.normal(size=(sessions, repetitions))
    )
    return Sample(np.median(values, axis=1), values)


def judged(a, b, metric=RATE, threshold=0.03):
    (found,) = judge_ab({metric: (a, b)}, {metric: threshold})
    return found


@pytest.mark.parametrize(
    ("metric", "level", "change"),
    [
        (RATE, 0.92, Change.REGRESSED),
        (RATE, 1.08, Change.IMPROVED),
        (LATENCY, 1.08, Change.REGRESSED),
        (LATENCY, 0.92, Change.IMPROVED),
        (RATE, 1.0, Change.UNCHANGED),
    ],
)
def test_planted_changes_are_told_in_their_direction(metric, level, change):
    found = judged(side(1), side(2, level=level), metric)
    assert found.change is change
    assert found.low < level < found.high
    assert found.ratio == pytest.approx(level, rel=0.02)
    assert found.shift == pytest.approx(level - 1, abs=0.02)


def test_a_real_change_below_the_threshold_does_not_count():
    found = judged(side(1, sessions=30), side(2, sessions=30, level=0.98), threshold=0.05)
    assert found.high < 1
    assert found.change is Change.UNCHANGED


def test_too_few_sessions_are_inconclusive_and_say_what_they_would_have_seen():
    a, b = side(1, sessions=5), side(2, sessions=30, level=0.5)
    found = judged(a, b)
    assert (found.change, found.why, found.p_holm) == (Change.INCONCLUSIVE, TOO_FEW, None)
    assert 0.03 < found.detectable < 0.1
    lonely = judged(side(1, sessions=1), b)
    assert (lonely.low, lonely.ratio) == (None, pytest.approx(0.5, rel=0.05))


def test_what_has_no_ratio_is_shown_but_not_judged():
    warm, cool = Sample(np.full(6, 40.0)), Sample(np.full(6, 30.0))
    (found,) = judge_ab({"temperature_max_c": (cool, warm)}, {"temperature_max_c": 0.03})
    assert (found.change, found.ratio, found.shift) == (None, None, 10.0)
    zero = judged(Sample(np.zeros(6)), side(1))
    assert (zero.change, zero.ratio) == (None, None)
    missing = judged(Sample(np.array([])), side(1))
    assert (missing.change, missing.n_a, missing.a) == (None, 0, None)


def test_unlike_meters_are_incomparable():
    (found,) = judge_ab({RATE: (side(1), side(2, level=0.5))}, {RATE: 0.03}, {RATE: "another scope"})
    assert (found.change, found.why, found.ratio) == (Change.INCOMPARABLE, "another scope", None)


def test_holm_runs_over_what_is_judged_and_has_sessions_enough():
    samples = {RATE: (side(1), side(2, level=0.9)), LATENCY: (side(3), side(4)), "load_s": (side(5, 3), side(6, 3))}
    one, other, few = judge_ab({**samples}, {RATE: 0.03, LATENCY: 0.03, "load_s": 0.03})
    assert one.p_holm == pytest.approx(2 * one.p)
    assert few.p_holm is None
    alone, shown, _ = judge_ab(samples, {RATE: 0.03})
    assert alone.p_holm == alone.p
    assert (shown.change, shown.p) == (None, other.p)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


VALUES = st.lists(st.floats(0.5, 2.0), min_size=3, max_size=9)


@given(VALUES, VALUES, st.sampled_from([RATE, LATENCY]))
def test_swapping_the_sides_inverts_all_that_is_said(one, other, metric):
    a, b = Sample(np.array(one)), Sample(np.array(other))
    there, back = judged(a, b, metric), judged(b, a, metric)
    mirrored = {Change.REGRESSED: Change.IMPROVED, Change.IMPROVED: Change.REGRESSED}
    assert back.change is mirrored.get(there.change, there.change)
    assert (back.ratio, back.low, back.high) == pytest.approx((1 / there.ratio, 1 / there.high, 1 / there.low))
    assert back.shift == pytest.approx(-there.shift)
    assert back.p == there.p


@given(VALUES.filter(lambda values: len(values) >= 6), st.randoms(use_true_random=False))
def test_the_same_data_are_no_change_in_any_order(values, random):
    shuffled = random.sample(values, len(values))
    found = judged(Sample(np.array(values)), Sample(np.array(shuffled)), threshold=0.0)
    assert found.change in (Change.UNCHANGED, Change.INCONCLUSIVE)
    assert (found.ratio, found.p) == (1, 1)


def test_repetitions_within_sessions_widen_the_interval():
    a, b = (Sample(one.values, one.values[:, None] * np.linspace(0.9, 1.1, 9)) for one in (side(1), side(2)))
    low, high = ratio_interval(a, b)
    assert (low, high) == ratio_interval(a, b)
    alone = ratio_interval(Sample(a.values), Sample(b.values))
    assert high - low > 1.5 * (alone[1] - alone[0])
    uneven = a.repetitions.copy()
    uneven[0, 3:] = math.nan
    assert ratio_interval(Sample(a.values, uneven), b) != (low, high)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 20])
def test_the_middle_of_a_resample_is_drawn_as_if_all_of_it_were(n):
    drawn = _middle_draws(n, 100_000, 1)
    k, i = (n + 1) // 2, np.arange(n)
    # At most i: at least k of n draws are.
    expected = binom.sf(k - 1, n, (i + 1) / n)
    assert np.mean(drawn[0] <= i[:, None], axis=1) == pytest.approx(expected, abs=0.008)
    assert len(drawn) == (2 if n % 2 == 0 else 1)
    for low in range(n if len(drawn) == 2 else 0):
        # Both in one: exactly k draws are at most `low`, and all others above `high`.
        high = i[low:]
        expected = math.comb(n, k) * ((low + 1) / n) ** k * ((n - 1 - high) / n) ** (n - k)
        found = np.mean((drawn[0] <= low) & (drawn[1] > high[:, None]), axis=1)
        assert found == pytest.approx(expected, abs=0.008)


@pytest.mark.parametrize(("n", "m"), [(3, 4), (6, 6), (1, 5), (20, 3), (20, 20), (30, 40)])
def test_mann_whitney_agrees_with_scipy(n, m):
    random = np.random.default_rng(n * m)
    exact = n * m <= 400
    for _ in range(5):
        a, b = random.normal(0, 1, n), random.normal(0.7, 1, m)
        expected = mannwhitneyu(a, b, method="exact" if exact else "asymptotic").pvalue
        assert mann_whitney_p(a, b) == pytest.approx(expected, abs=1e-12)
        tied = np.append(np.round(a), 0.0), np.append(np.round(b), 0.0)
        least = 2 / math.comb(n + m + 2, n + 1)
        assert mann_whitney_p(*tied) == pytest.approx(max(least, mannwhitneyu(*tied, method="asymptotic").pvalue))
    assert mann_whitney_p(np.ones(6), np.ones(6)) == 1
    assert hodges_lehmann(np.array([1.0, 2.0]), np.array([4.0, 8.0])) == 4.5


def test_the_detectable_effect_shrinks_with_sessions_and_grows_with_tests():
    few, many = detectable(side(1), side(2)), detectable(side(1, 24), side(2, 24))
    assert many < 0.6 * few
    assert detectable(side(1), side(2), tests=8) > few
    assert detectable(side(1), side(2), threshold=0.5) > 0.5
    assert detectable(side(1, 1), side(2)) is None


def test_the_worst_verdict_stands_for_all():
    assert overall([Change.UNCHANGED, None, Change.INCONCLUSIVE]) is Change.INCONCLUSIVE
    assert overall([Change.IMPROVED, Change.REGRESSED, Change.INCONCLUSIVE]) is Change.REGRESSED
    assert overall([None]) is Change.INCONCLUSIVE


def test_false_alarms_stay_rare_where_pooling_cries_wolf():
    random = np.random.default_rng(7)
    told = pooled = 0
    for _ in range(150):
        a, b = (
            Sample(np.median(values, axis=1), values)
            for values in (
                np.exp(0.02 * random.normal(size=(6, 1)) + 0.015 * random.normal(size=(6, 10))) for _ in range(2)
            )
        )
        told += judged(a, b, threshold=0.0).change in (Change.REGRESSED, Change.IMPROVED)
        pooled += mann_whitney_p(a.repetitions.ravel(), b.repetitions.ravel()) < 0.05
    assert told <= 12
    assert pooled >= 45


def test_hundreds_of_figures_are_judged_in_a_moment():
    samples = {name: (side(1), side(2)) for name in THRESHOLDS}
    judge_ab(samples)
    begun = time.process_time()
    for _ in range(10):
        judge_ab(samples)
    assert time.process_time() - begun < 2.0, "80 figures; a second on the slowest machine this ran on"


def test_values_beyond_all_measure_have_an_interval_too():
    least, most = (Sample(np.array([value] * 6)) for value in (1e-300, 1e300))
    assert ratio_interval(least, most)[1] > 1e300
    assert ratio_interval(most, least)[0] >= 0
