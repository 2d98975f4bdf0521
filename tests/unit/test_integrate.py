"""What an energy may be off by: signals whose energy is known, and whether the truth lies within in 95 of 100 cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.analysis.integrate import Grade, Integral, added, integral, smallest_step, together
from melt.analysis.series import Series, Span
from melt.records import Reason, Stream

S = 1_000_000_000
BOOT_NS = 86_400 * 400 * S
EXACT = 1e-7
"""Joules that are lost in floating-point numbers."""


def at(seconds: float) -> int:
    return BOOT_NS + round(seconds * S)


def series(
    t_s: np.ndarray, values: np.ndarray, rate_hz: float, *, cumulative: bool = False, wraps_at: float | None = None
) -> Series:
    stream = Stream(
        collector="rails",
        name="x",
        quantity="energy" if cumulative else "power",
        unit="j" if cumulative else "w",
        site="psys",
        source="/sys/x",
        rate_hz=rate_hz,
        cumulative=cumulative,
        wraps_at=wraps_at,
    )
    return Series(stream, BOOT_NS + np.round(t_s * S).astype(np.int64), np.asarray(values, np.float64))


def measured(found: Integral | Reason) -> Integral:
    assert isinstance(found, Integral), found
    return found


def refused(found: Integral | Reason) -> Reason:
    assert isinstance(found, Reason), found
    return found


class Steps:
    """A power that jumps at random moments, `mean_s` apart on average, between 1 and 10 W; its energy is exact."""

    def __init__(self, random: np.random.Generator, mean_s: float) -> None:
        n = int(60 / mean_s) + 10
        self.edges = np.cumsum(random.exponential(mean_s, n))
        self.levels = random.uniform(1, 10, n + 1)

    def watts(self, t_s: np.ndarray) -> np.ndarray:
        return self.levels[np.searchsorted(self.edges, t_s, side="right")]

    def joules(self, t_s: np.ndarray) -> np.ndarray:
        knots = np.concatenate(([0.0], self.edges))
        counted = np.concatenate(([0.0], np.cumsum(self.levels[:-1] * np.diff(knots))))
        return np.interp(t_s, knots, counted)


def jittered(random: np.random.Generator, rate_hz: float, lost: float = 0.0) -> np.ndarray:
    """Times of 30 s of samples, each up to a fifth of a period late, a share of them lost."""
    t_s = np.arange(0, 30, 1 / rate_hz)
    t_s = t_s + random.uniform(0, 0.2 / rate_hz, len(t_s))
    kept = random.random(len(t_s)) >= lost
    kept[[0, -1]] = True
    return t_s[kept]


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("mean_s", [0.02, 0.1, 0.5, 2.0])
@pytest.mark.parametrize(("rate_hz", "length_s"), [(1, 3), (1, 12), (10, 0.3), (10, 3), (50, 1), (50, 12)])
def test_the_truth_lies_within_in_95_of_100_runs(
    cumulative: bool, mean_s: float, rate_hz: float, length_s: float
) -> None:
    """Bursts far shorter than the period, about as long, and far longer; jitter, and a sample in fifty lost."""
    hits, runs = 0, 100
    for seed in range(runs):
        random = np.random.default_rng(seed)
        power = Steps(random, mean_s)
        t_s = jittered(random, rate_hz, lost=0.02)
        values = power.joules(t_s) if cumulative else power.watts(t_s)
        begin = random.uniform(5, 15)
        true_j = float(np.diff(power.joules(np.array([begin, begin + length_s])))[0])
        found = measured(
            integral(series(t_s, values, rate_hz, cumulative=cumulative), (at(begin), at(begin + length_s)), Grade())
        )
        hits += abs(found.energy_j - true_j) <= found.uncertainty_j + EXACT
    assert hits >= 95 * runs // 100


@given(st.floats(0.5, 20), st.floats(0.2, 9), st.floats(0.1, 5), st.floats(0.0, 6.3))
def test_a_sine_is_integrated_within_the_bound_of_the_trapezoid_rule(
    begin: float, length: float, hz: float, phase: float
) -> None:
    """|f''| h² T / 12, with edges that are interpolated: twice that."""
    rate_hz = 100.0
    t_s = np.arange(0, 40, 1 / rate_hz)
    omega = 2 * math.pi * hz
    found = measured(
        integral(series(t_s, 5 + 2 * np.sin(omega * t_s + phase), rate_hz), (at(begin), at(begin + length)), Grade())
    )
    true_j = 5 * length - 2 / omega * (math.cos(omega * (begin + length) + phase) - math.cos(omega * begin + phase))
    bound_j = 2 * 2 * omega**2 / rate_hz**2 / 12 * (length + 2 / rate_hz)
    assert abs(found.energy_j - true_j) <= bound_j + EXACT
    assert abs(found.energy_j - true_j) <= found.uncertainty_j + EXACT


@settings(max_examples=settings.default.max_examples // 2)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3), st.floats(0.5, 10), st.floats(0.01, 15))
def test_scipy_integrates_to_the_same(
    scipy_integrate: ModuleType, seed: int, lost: float, begin: float, length: float
) -> None:
    """With the two edges put between the samples by hand: jitter and lost samples change nothing."""
    random = np.random.default_rng(seed)
    t_s = np.sort(jittered(random, 20.0, lost))
    watts = random.uniform(0, 10, len(t_s))
    one = series(t_s, watts, 1.0)
    t_s = (one.t_ns - BOOT_NS) / 1e9
    span = (at(begin), at(begin + length))
    a, b = ((edge - BOOT_NS) / 1e9 for edge in span)
    knots = np.union1d(t_s[(t_s > a) & (t_s < b)], [a, b])
    expected = scipy_integrate.trapezoid(np.interp(knots, t_s, watts), knots)
    assert measured(integral(one, span, Grade())).energy_j == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("width_s", [0.05, 0.35, 2.0])
def test_a_pulse_is_within_its_uncertainty_wherever_it_lies(width_s: float) -> None:
    rate_hz = 10.0
    t_s = np.arange(0, 20, 1 / rate_hz)
    for begin in np.arange(8.0, 8.2, 0.013):
        watts = 1 + 9.0 * ((t_s >= begin) & (t_s < begin + width_s))
        found = measured(integral(series(t_s, watts, rate_hz), (at(5), at(13)), Grade()))
        if watts.max() > 1:  # What no sample saw, nobody can know of.
            assert abs(found.energy_j - (8 + 9 * width_s)) <= found.uncertainty_j


def test_noise_averages_out_and_the_uncertainty_knows() -> None:
    random = np.random.default_rng(5)
    t_s = np.arange(0, 30, 0.01)
    found = measured(integral(series(t_s, 5 + random.normal(0, 0.5, len(t_s)), 100.0), (at(5), at(25)), Grade()))
    assert found.terms.rate_j == pytest.approx(2 * 0.5 * 0.01 * math.sqrt(2000), rel=0.05), "2 sigma h sqrt(n)"
    assert abs(found.energy_j - 100) <= found.uncertainty_j


def test_a_small_hole_costs_certainty_and_a_large_one_the_figure() -> None:
    t_s = np.arange(0, 30, 0.1)
    watts = 5 + np.sin(t_s)
    short = (t_s < 10) | (t_s > 10.65)
    found = measured(integral(series(t_s[short], watts[short], 10.0), (at(2), at(28)), Grade()))
    assert found.coverage == pytest.approx(1 - 0.8 / 26)
    assert found.longest_gap_s == pytest.approx(0.8)
    assert found.terms.gap_j == pytest.approx(0.8 * 2 / 2, rel=0.01), "the power was anywhere between its extremes"
    long = (t_s < 10) | (t_s > 14)
    reason = refused(integral(series(t_s[long], watts[long], 10.0), (at(2), at(28)), Grade()))
    assert reason.code == "energy_gap"
    assert reason.figures["coverage"] == pytest.approx(1 - 4.2 / 26)


def test_a_meter_that_stops_is_told_from_one_that_was_never_there() -> None:
    t_s = np.arange(0, 10, 0.1)
    one = series(t_s, 0 * t_s + 5, 10.0)
    stopped = refused(integral(one, (at(5), at(12)), Grade()))
    assert (stopped.code, stopped.figures["missing_s"]) == ("meter_stopped", pytest.approx(2.1))
    assert refused(integral(one, (at(12), at(14)), Grade())).code == "meter_absent"
    assert refused(integral(one, (at(-2), at(4)), Grade())).code == "meter_absent"


@pytest.mark.parametrize("step", [0.5, 0.04, 0.005])
def test_the_resolution_of_a_meter_is_found_in_its_values(step: float) -> None:
    t_s = np.arange(0, 30, 0.1)
    noisy = 5 + np.random.default_rng(1).normal(0, 2 * step, len(t_s))
    assert smallest_step(series(t_s, np.round(noisy / step) * step, 10.0)) == pytest.approx(step)
    counted = np.floor(np.cumsum(noisy) / step) * step
    assert smallest_step(series(t_s, counted, 10.0, cumulative=True)) == pytest.approx(step)


def test_steady_power_between_two_steps_is_off_by_half_a_step_throughout() -> None:
    t_s = np.arange(0, 30, 0.1)
    found = measured(integral(series(t_s, 0 * t_s + 4.8, 10.0), (at(5), at(25)), Grade(quantum=0.4)))
    assert found.terms.quantum_j == pytest.approx(0.2 * 20)


@given(st.floats(-0.02, 0.02), st.floats(5.0, 5.2), st.floats(0.05, 3))
def test_a_clock_that_is_off_moves_the_window_and_no_further(off_s: float, begin: float, length: float) -> None:
    """A burst of 9 W that begins with the window: what is cut off at its edges is in the term."""
    t_s = np.arange(0, 30, 0.0002)
    watts = 1 + 9.0 * ((t_s >= begin) & (t_s < begin + length))
    grade = Grade(clock_ns=20_000_000)
    found = measured(integral(series(t_s, watts, 5000.0), (at(begin + off_s), at(begin + length + off_s)), grade))
    assert abs(found.energy_j - 10 * length) <= found.uncertainty_j + 0.01
    assert found.terms.clock_j <= 2 * 9 * 0.02 + 0.01


@pytest.mark.parametrize("cumulative", [False, True])
def test_a_ripple_that_comes_round_where_the_clock_may_be_off_to_still_counts(cumulative: bool) -> None:
    """Moved by 10 ms, a window of 25 ms has the same energy of a ripple of 10 ms; moved by less, it has another."""
    t_s, turn = np.arange(0, 1, 0.0002), 2 * np.pi / 0.01
    values = 2 * t_s - np.cos(turn * t_s) / turn if cumulative else 2 + np.sin(turn * t_s)
    power = series(t_s, values, 5000, cumulative=cumulative)
    span = (at(0.5), at(0.525))
    found = measured(integral(power, span, Grade(clock_ns=10_000_000)))
    most_j = max(abs(_ripple_j(0.5 + off, turn) - _ripple_j(0.5, turn)) for off in np.arange(-0.01, 0.01, 1e-5))
    assert found.terms.clock_j == pytest.approx(most_j, rel=0.03)


def _ripple_j(begin_s: float, turn: float) -> float:
    return float(np.cos(turn * begin_s) - np.cos(turn * (begin_s + 0.025))) / turn


def test_a_hole_in_a_counter_hides_nothing_of_a_clock_that_is_off() -> None:
    # 2 W, and 6 W from 10 s on; a hole of 2 s within the span, over which the counter counts on.
    t_s = np.arange(0, 30, 0.1)
    t_s = t_s[(t_s < 14) | (t_s > 16)]
    counted = np.where(t_s < 10, 2 * t_s, 20 + 6 * (t_s - 10))
    counter = series(t_s, counted, 10.0, cumulative=True)
    found = measured(integral(counter, (at(10), at(20)), Grade(clock_ns=50_000_000)))
    assert found.energy_j == pytest.approx(60)
    assert found.terms.clock_j == pytest.approx(0.05 * 4)
    whole = measured(integral(counter, (at(0), at(29.9)), Grade(clock_ns=50_000_000)))
    assert whole.terms.clock_j >= 0.05 * 4, "nobody saw what lies beyond the samples"


def test_a_class_is_a_share_of_the_energy_and_an_offset_of_the_time() -> None:
    t_s = np.arange(0, 30, 0.1)
    grade = Grade(gain_ratio=0.03, offset_w=0.04)
    found = measured(integral(series(t_s, 0 * t_s + 5, 10.0), (at(5), at(25)), grade))
    assert found.terms.class_j == pytest.approx(math.hypot(3.0, 0.8))
    assert found.uncertainty_j == pytest.approx(found.terms.class_j)


def test_what_is_random_adds_in_quadrature_and_what_is_common_adds_up() -> None:
    t_s = np.arange(0, 30, 0.1)
    one = series(t_s, np.where((t_s * 10).round() % 2 == 0, 4.0, 6.0), 10.0)
    spans: list[Span] = [(at(2.05), at(4.05)), (at(6.05), at(8.05))]
    parts = [measured(integral(one, span, Grade(gain_ratio=0.05))) for span in spans]
    total = together(parts)
    assert total.terms.rate_j == pytest.approx(math.sqrt(2) * parts[0].terms.rate_j, rel=1e-3)
    assert total.terms.class_j == pytest.approx(2 * parts[0].terms.class_j, rel=1e-3)
    assert (total.time_s, total.samples, total.coverage) == (pytest.approx(4), 40, 1)
    rails = together(parts, at_once=True)
    assert (rails.time_s, rails.samples) == (pytest.approx(2), 20)
    assert added([]).total_j == 0


@pytest.mark.parametrize(
    ("watts", "begin"), [(lambda t: 5 + 0 * t, 5.0), (lambda t: 3 * t, 5.03), (lambda t: 5 + np.sin(9 * t), 5.07)]
)
def test_a_counter_and_the_power_that_it_counts_agree(watts: Callable[[np.ndarray], np.ndarray], begin: float) -> None:
    fine = np.arange(0, 30, 1e-4)
    counted = np.concatenate(([0.0], np.cumsum(watts(fine)[:-1] * 1e-4)))
    t_s = np.arange(0, 29.9, 0.1)
    counter = series(t_s, np.interp(t_s, fine, counted) % 50.0, 10.0, cumulative=True, wraps_at=50.0)
    span = (at(begin), at(begin + 7.77))
    found = measured(integral(counter, span, Grade()))
    true_j = float(np.diff(np.interp([begin, begin + 7.77], fine, counted))[0])
    assert abs(found.energy_j - true_j) <= found.uncertainty_j + 1e-3
    sampled = measured(integral(series(t_s, watts(t_s), 10.0), span, Grade()))
    assert abs(found.energy_j - sampled.energy_j) <= math.hypot(found.uncertainty_j, sampled.uncertainty_j) + 1e-3
