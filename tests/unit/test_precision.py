"""How well a rate is known: the interval is Student's, and covers the truth as often as docs/metrics.md says."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.analysis.order_effect import session_rate
from melt.analysis.precision import Known, half_width, known
from melt.records import Metric, Outcome, Repeat, Verdict, Workload

_RATES = st.lists(st.floats(1.0, 1e4), min_size=2, max_size=20)
ASKED = Repeat(sessions=20, min_sessions=3, until_ci=0.02)


@given(_RATES)
def test_the_interval_is_that_of_students_t_on_logarithms(scipy_stats: ModuleType, rates: list[float]) -> None:
    logs = np.log(rates)
    assume(logs.std() > 1e-9)
    low, high = scipy_stats.t.interval(0.95, len(logs) - 1, loc=logs.mean(), scale=scipy_stats.sem(logs))
    found = half_width(rates)
    assert found is not None
    assert math.log1p(found) == pytest.approx((high - low) / 2, rel=1e-6)


@given(_RATES, st.floats(0.001, 1000))
def test_neither_unit_nor_direction_nor_order_matter(rates: list[float], factor: float) -> None:
    found = half_width(rates)
    others = (half_width([rate * factor for rate in rates]), half_width([1 / rate for rate in reversed(rates)]))
    assert others == (pytest.approx(found, rel=1e-6, abs=1e-9), pytest.approx(found, rel=1e-6, abs=1e-9))


def test_one_session_tells_nothing_and_equal_ones_all() -> None:
    assert half_width([]) is half_width([7.0]) is None
    assert half_width([7.0, 7.0]) == 0.0


@pytest.mark.parametrize(
    ("rates", "precise", "hopeless"),
    [
        ((), False, False),
        ((100.0, 100.0), False, False),
        ((100.0, 100.0, 100.0), True, False),
        ((100.0, 100.0, None), False, False),
        ((100.0, None, 100.0, 100.0), True, False),
        ((100.0, 110.0, 90.0), False, False),
        ((None, None), False, False),
        ((None, None, None), False, True),
        ((None, None, None, 100.0), False, False),
    ],
)
def test_least_sessions_count_those_with_a_rate_and_giving_up_those_without(
    rates: tuple[float | None, ...], precise: bool, hopeless: bool
) -> None:
    found = known(rates)
    assert (found.is_precise(ASKED), found.is_hopeless(ASKED)) == (precise, hopeless)
    assert not found.is_precise(Repeat(sessions=3))
    assert not found.is_hopeless(Repeat(sessions=3))


def test_exactly_as_precise_as_asked_is_enough() -> None:
    assert Known(3, 3, 0.02).is_precise(ASKED)
    assert not Known(3, 3, 0.0200001).is_precise(ASKED)


@pytest.mark.parametrize(
    ("outcome", "verdict", "counts"),
    [
        (Outcome.OK, Verdict.VALID, True),
        (Outcome.OK, Verdict.SUSPECT, True),
        (Outcome.OK, Verdict.INVALID, False),
        (Outcome.OOM, Verdict.INVALID, False),
    ],
)
def test_a_session_counts_with_the_rate_its_cell_is_run_for_unless_it_is_invalid(
    outcome: Outcome, verdict: Verdict, counts: bool
) -> None:
    bundle = make_bundle()
    metrics = (
        Metric(name="prefill_tps", value=500.0, unit="tok/s"),
        Metric(name="decode_tps", value=30.0, unit="tok/s", repetition=0),
        Metric(name="decode_tps", value=20.0, unit="tok/s"),
    )
    bundle = replace(bundle, metrics=metrics, stop=replace(bundle.stop, outcome=outcome, verdict=verdict))
    for workload, rate in ((Workload(n_prompt=8, n_gen=8), 20.0), (Workload(n_prompt=8), 500.0)):
        asked = replace(bundle, start=replace(bundle.start, spec=replace(bundle.start.spec, workload=workload)))
        assert session_rate(asked) == (rate if counts else None)
    assert session_rate(replace(bundle, metrics=())) is None


@pytest.mark.parametrize(("spread", "low", "high"), [(0.005, 0.93, 0.97), (0.02, 0.90, 0.95)])
def test_stopping_as_soon_as_it_looks_precise_costs_the_coverage_that_the_documentation_says(
    spread: float, low: float, high: float
) -> None:
    draws = np.random.default_rng(20).normal(math.log(100.0), spread, (1000, ASKED.sessions))
    covered = []
    for logs in draws.tolist():
        for n in range(ASKED.least_sessions, ASKED.sessions + 1):
            found = known([math.exp(value) for value in logs[:n]])
            if found.is_precise(ASKED):
                break
        assert found.half_width is not None
        covered.append(abs(fmean(logs[:n]) - math.log(100.0)) <= math.log1p(found.half_width))
    assert low <= fmean(covered) <= high
