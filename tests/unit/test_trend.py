"""Trends: the same as scipy's where scipy has them, and as seldom by chance as they claim."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.trend import Point, block_trend, trend

_DISTINCT = st.lists(st.floats(1, 1000), min_size=2, max_size=24, unique=True)


@given(values=_DISTINCT)
def test_a_series_has_scipys_probability_and_slope(scipy_stats: ModuleType, values: list[float]) -> None:
    found = trend(values)
    assert found is not None
    expected = scipy_stats.kendalltau(range(len(values)), values, method="exact")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.slope == pytest.approx(scipy_stats.theilslopes(values).slope)


def test_many_values_have_nearly_the_exact_probability(scipy_stats: ModuleType) -> None:
    values = np.random.default_rng(3).normal(size=60) + np.linspace(0, 0.8, 60)
    found = trend(values.tolist())
    assert found is not None
    assert found.p == pytest.approx(scipy_stats.kendalltau(range(60), values, method="exact").pvalue, rel=0.05)


def test_more_values_than_pairs_can_be_counted_of_are_averaged() -> None:
    values = np.linspace(1.0, 2.0, 100_000)
    found = trend(values.tolist())
    assert found is not None
    assert found.slope == pytest.approx(1e-5, rel=1e-3)
    assert found.p < 1e-9


def series(*values: float, first: int = 0) -> dict[int, tuple[float, float]]:
    return {first + i: (float(first + i), value) for i, value in enumerate(values)}


def test_a_single_group_has_the_probability_of_a_series() -> None:
    values = [3.0, 1.0, 4.0, 5.0, 9.0, 8.0]
    alone, group = trend(values), block_trend([series(*values)])
    assert alone is not None
    assert group is not None
    assert (group.p, group.slope) == (pytest.approx(alone.p), alone.slope)


def test_many_blocks_have_nearly_the_probability_that_all_orders_have() -> None:
    values = (np.random.default_rng(3).normal(size=10) + np.linspace(0, 1.5, 10)).tolist()
    alone, group = trend(values), block_trend([series(*values)])
    assert alone is not None
    assert group is not None
    assert group.p == pytest.approx(alone.p, abs=0.02)


def test_groups_that_share_their_luck_are_as_sure_as_one_of_them() -> None:
    values = [3.0, 1.0, 4.0, 5.0, 9.0, 8.0]
    one, many = block_trend([series(*values)]), block_trend([series(*values)] * 20)
    assert one is not None
    assert many is not None
    assert many.p == one.p


def test_groups_are_compared_with_their_own_kind_only() -> None:
    # Each falls, while all of them together would rise.
    found = block_trend([{i: (float(i), 10.0 * i), i + 1: (i + 1.0, 10.0 * i - 1)} for i in range(6)])
    assert found is not None
    assert found.slope == -1


def test_more_blocks_than_can_be_put_into_every_order_are_averaged() -> None:
    found = block_trend([series(*np.linspace(1.0, 2.0, 2000).tolist()) for _ in range(3)])
    assert found is not None
    assert found.p < 0.001
    assert found.slope == pytest.approx(1 / 2000, rel=0.01)


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


@pytest.mark.parametrize("groups", [[], [{}], [series(1.0, 2.0, 3.0, 4.0)], [series(1.0, first=i) for i in range(9)]])
def test_under_five_blocks_or_without_two_of_a_kind_there_is_no_trend(groups: list[dict[int, Point]]) -> None:
    assert block_trend(groups) is None
    assert trend([]) is None
    assert trend([1.0]) is None


@pytest.mark.parametrize("n", [5, 7, 12])
def test_chance_is_called_a_trend_no_oftener_than_it_claims(n: int) -> None:
    draws = np.random.default_rng(5)
    found = [trend(draws.normal(size=n).tolist()) for _ in range(2000)]
    share = sum(t is not None and t.p <= 0.05 for t in found) / len(found)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("n", [5, 10, 20, 60])
def test_neighbours_that_are_alike_are_called_a_trend_no_oftener_than_it_claims(n: int) -> None:
    draws = np.random.default_rng(6)
    trials, likeness = 2000, 0.3
    series = draws.normal(size=(n, trials))
    for i in range(1, n):
        series[i] = likeness * series[i - 1] + math.sqrt(1 - likeness**2) * series[i]
    found = [trend(values.tolist(), likeness) for values in series.T]
    share = sum(t is not None and t.p <= 0.05 for t in found) / trials
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_likeness_makes_an_order_likelier_and_changes_no_slope() -> None:
    values = [3.0, 1.0, 4.0, 5.0, 9.0, 8.0, 10.0]
    apart, alike = trend(values), trend(values, 0.3)
    assert apart is not None
    assert alike is not None
    assert apart.p < alike.p < 0.1
    assert alike.slope == apart.slope
    assert trend(values, 1e-9).p == pytest.approx(apart.p, abs=0.003)


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize(("n_groups", "n"), [(3, 5), (6, 6)])
def test_chance_is_called_a_trend_no_oftener_than_it_claims_also_where_blocks_share_it(
    n_groups: int, n: int, shared: float
) -> None:
    draws = np.random.default_rng(7)
    trials, alarms = 200, 0
    for _ in range(trials):
        luck = shared * draws.normal(size=n)
        found = block_trend([series(*(luck + draws.normal(size=n)).tolist()) for _ in range(n_groups)])
        alarms += found is not None and found.p <= 0.05
    assert alarms / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
