"""Trends: the same as scipy's where scipy has them, and as seldom by chance as they claim."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from melt.analysis.trend import grouped_trend, trend

_DISTINCT = st.lists(st.floats(1, 1000), min_size=2, max_size=24, unique=True)


@given(_DISTINCT)
def test_a_series_has_scipys_probability_and_slope(values: list[float]) -> None:
    found = trend(values)
    assert found is not None
    expected = stats.kendalltau(range(len(values)), values, method="exact")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.slope == pytest.approx(stats.theilslopes(values).slope)
    assert found.n == len(values)


def test_many_values_have_nearly_the_exact_probability() -> None:
    values = np.random.default_rng(3).normal(size=60) + np.linspace(0, 0.8, 60)
    found = trend(values.tolist())
    assert found is not None
    assert found.p == pytest.approx(stats.kendalltau(range(60), values, method="exact").pvalue, rel=0.05)


def test_more_values_than_pairs_can_be_counted_of_are_averaged() -> None:
    values = np.linspace(1.0, 2.0, 100_000)
    found = trend(values.tolist())
    assert found is not None
    assert (found.n, found.slope) == (200, pytest.approx(1e-5, rel=1e-3))
    assert found.p < 1e-9


def test_the_probability_over_groups_is_that_of_all_orders_within_them() -> None:
    sizes = (3, 2, 3)
    scores = [
        sum(_score(order) for order in orders)
        for orders in itertools.product(*(itertools.permutations(range(n)) for n in sizes))
    ]
    for orders in (((0, 1, 2), (0, 1), (0, 1, 2)), ((0, 2, 1), (0, 1), (1, 0, 2)), ((2, 1, 0), (0, 1), (0, 1, 2))):
        score = abs(sum(_score(order) for order in orders))
        found = grouped_trend([[(float(i), float(v)) for i, v in enumerate(order)] for order in orders])
        assert found is not None
        expected = sum(abs(s) >= score for s in scores) / len(scores) if score else 1.0
        assert found.p == pytest.approx(expected)


def _score(order: tuple[int, ...]) -> int:
    return sum(1 if b > a else -1 for a, b in itertools.combinations(order, 2))


def test_groups_are_compared_with_their_own_kind_only() -> None:
    # Each falls, while all of them together would rise.
    found = grouped_trend([[(0.0, 1.0), (2.0, 0.9)], [(3.0, 5.0), (5.0, 4.9)], [(6.0, 9.0), (8.0, 8.9)]])
    assert found is not None
    assert found.slope == pytest.approx(-0.05)
    assert found.p == 0.25


@given(st.lists(st.sampled_from([1.0, 2.0]), min_size=2, max_size=12))
def test_equal_values_never_make_a_trend_likelier(values: list[float]) -> None:
    found = trend(values)
    assert found is not None
    rising = sorted(range(len(values)), key=lambda i: values[i])
    apart = trend([float(rising.index(i)) for i in range(len(values))])
    assert apart is not None
    assert 0 <= found.p <= 1
    if len(set(values)) == 1:
        assert (found.p, found.slope) == (1.0, 0.0)


@pytest.mark.parametrize("groups", [[], [[]], [[(0.0, 1.0)]], [[(0.0, 1.0)], [(1.0, 2.0)]]])
def test_without_two_values_of_a_kind_there_is_no_trend(groups: list[list[tuple[float, float]]]) -> None:
    assert grouped_trend(groups) is None
    assert trend([]) is None


@pytest.mark.parametrize("n", [5, 7, 12])
def test_chance_is_called_a_trend_no_oftener_than_it_claims(n: int) -> None:
    draws = np.random.default_rng(5)
    found = [trend(draws.normal(size=n).tolist()) for _ in range(2000)]
    share = sum(t is not None and t.p <= 0.05 for t in found) / len(found)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("n_groups", "n"), [(3, 6), (6, 2), (6, 3), (12, 6)])
def test_chance_within_groups_is_called_a_trend_no_oftener_than_it_claims(n_groups: int, n: int) -> None:
    draws = np.random.default_rng(7)
    trials, alarms = 600, 0
    for _ in range(trials):
        found = grouped_trend([list(enumerate(draws.normal(size=n).tolist())) for _ in range(n_groups)])
        alarms += found is not None and found.p <= 0.05
    assert alarms / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
