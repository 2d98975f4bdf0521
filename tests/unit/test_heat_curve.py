"""Curves whose heat is known: where they fall, how far, and what is no heat."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from heat_samples import BOOT_NS, S, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.analysis.heat_curve import (
    KEPT_RATIO,
    Curve,
    burst_tps,
    curve,
    decode_steps,
    is_long_enough,
    prefill_steps,
    steady,
    throttled_from_ns,
)
from melt.records import Window

Rate = Callable[[float], float]


def seen(rate: Rate, lasts_s: float, **how: object) -> Curve:
    found = curve(decode_steps(tokens(rate, lasts_s, **how)))
    assert found is not None
    assert is_long_enough(found)
    return found


def throttled_s(found: Curve) -> float | None:
    at_ns = throttled_from_ns(found, burst_tps(found)[0])
    return None if at_ns is None else (at_ns - BOOT_NS) / S


def step(at_s: float, to: float, of: float = 20.0) -> Rate:
    return lambda t: of if t < at_s else to * of


NOISES = (0.0, 0.05, 0.2)


@pytest.mark.parametrize("noise", NOISES)
def test_a_steady_curve_never_throttles(noise: float) -> None:
    found = seen(lambda t: 20.0, 120, noise=noise)
    assert throttled_s(found) is None
    assert burst_tps(found)[0] == pytest.approx(20, rel=0.01 + noise / 8)
    assert steady(found).rate_tps == pytest.approx(20, rel=0.001 + noise / 8)
    assert abs(steady(found).change_ratio) < 0.001 + noise / 4


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("at_s", "to"), [(60, 0.6), (100, 0.3), (30, 0.85)])
def test_a_step_is_found_where_it_is(noise: float, at_s: float, to: float) -> None:
    found = seen(step(at_s, to), 300, noise=noise)
    width_s = found.width_ns / S
    assert throttled_s(found) == pytest.approx(at_s, abs=width_s * (1 if noise < 0.1 else 3))
    assert burst_tps(found)[0] == pytest.approx(20, rel=0.005 + noise / 8)
    assert steady(found).rate_tps == pytest.approx(to * 20, rel=0.001 + noise / 8)


def test_prefill_is_no_slow_decoding() -> None:
    rates = seen(lambda t: 20.0, 60, prefill_s=1.5).rates
    assert np.nanmin(rates) == pytest.approx(20, rel=1e-6)
    assert np.nanmax(rates) == pytest.approx(20, rel=1e-6)


def test_heat_that_comes_within_the_first_seconds_does_not_lower_the_burst() -> None:
    found = seen(step(8, 0.6), 300, prefill_s=0.1, n_gen=16)
    assert burst_tps(found)[0] == pytest.approx(20, rel=0.01)
    assert throttled_s(found) == pytest.approx(8, abs=found.width_ns / S)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("at_s", [25, 40])
def test_heat_that_comes_early_in_a_long_run_does_not_hide(noise: float, at_s: float) -> None:
    found = seen(step(at_s, 0.66), 1800, prefill_s=0.1, n_gen=32, noise=noise)
    assert burst_tps(found)[0] == pytest.approx(20, rel=0.01 + noise / 8)
    assert throttled_s(found) == pytest.approx(at_s, abs=2 * found.width_ns / S)


def test_clocks_that_rise_first_do_not_lower_the_burst() -> None:
    found = seen(lambda t: 8.0 if t < 4 else 20.0, 120, n_gen=8, prefill_s=0.1)
    assert burst_tps(found)[0] == pytest.approx(20, rel=0.01)
    assert throttled_s(found) is None


def test_a_slow_fall_throttles_where_it_is_a_tenth_below() -> None:
    found = seen(lambda t: 12 + 8 * math.exp(-max(0.0, t - 60) / 40), 400, n_gen=16)
    expected_s = 60 - 40 * math.log((KEPT_RATIO * 20 - 12) / 8)
    assert throttled_s(found) == pytest.approx(expected_s, abs=2 * found.width_ns / S)
    assert steady(found).rate_tps == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("period_s", [10, 40])
def test_throttling_that_comes_and_goes_begins_where_it_first_comes(noise: float, period_s: float) -> None:
    found = seen(lambda t: 12.0 if t >= 60 and (t - 60) % period_s < period_s / 2 else 20.0, 300, noise=noise)
    assert throttled_s(found) == pytest.approx(60, abs=3 * found.width_ns / S)
    assert steady(found).spread_ratio > 0.1


@pytest.mark.parametrize("noise", NOISES)
def test_a_stall_and_a_dip_that_passes_are_no_throttling(noise: float) -> None:
    assert throttled_s(seen(lambda t: 20.0, 120, stalls=[(30, 0.8), (80, 1.0)], noise=noise)) is None
    assert throttled_s(seen(lambda t: 12.0 if 40 < t < 60 else 20.0, 240, noise=noise)) is None
    late = seen(step(200, 0.7), 300, stalls=[(50, 1.0), (150, 1.0)], noise=noise)
    assert throttled_s(late) == pytest.approx(200, abs=3 * late.width_ns / S)


def test_requests_that_say_the_same_time_are_no_stretch_of_it() -> None:
    at_once = [Window(phase="prefill", t0_ns=BOOT_NS, t1_ns=BOOT_NS + (i + 1) * S, n_tokens=64) for i in range(40)]
    found = curve(prefill_steps(at_once))
    assert found is not None
    assert not is_long_enough(found)


def test_what_comes_at_the_very_end_is_not_told() -> None:
    assert throttled_s(seen(step(293, 0.5), 300)) is None


def test_a_curve_of_few_requests_is_not_judged() -> None:
    long_requests = curve(decode_steps(tokens(lambda t: 20.0, 60, n_gen=256)))
    assert long_requests is not None
    assert not is_long_enough(long_requests)
    assert curve(decode_steps(tokens(lambda t: 20.0, 60, n_gen=1))) is None


def test_depth_that_grows_within_requests_does_not_show() -> None:
    """Each request becomes a third slower as it goes on; the requests are alike."""
    period_s = 2.0
    found = seen(lambda t: 60 / (1 + 0.5 * (t % period_s) / period_s), 120, n_gen=96, prefill_s=0.05)
    rates = found.rates[1:-1]
    assert (rates.max() - rates.min()) / rates.mean() < 0.1
    assert throttled_s(found) is None


def test_prefill_alone_has_a_curve_too() -> None:
    windows = [
        Window(phase="prefill", t0_ns=i * S, t1_ns=i * S + (S // 4 if i < 50 else S // 2), repetition=0, n_tokens=100)
        for i in range(100)
    ]
    found = curve(prefill_steps(windows))
    assert found is not None
    assert burst_tps(found)[0] == pytest.approx(400)
    assert steady(found).rate_tps == pytest.approx(200)
    assert throttled_from_ns(found, 400) == pytest.approx(50 * S, abs=found.width_ns)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.3, 0.8),
    st.floats(0.15, 0.7),
    st.floats(5, 40),
    st.integers(16, 40),
    st.floats(0.01, 0.5),
    st.integers(0, 1000),
)
def test_any_step_is_found(to: float, share: float, rate: float, n_gen: int, prefill_s: float, seed: int) -> None:
    # Forty requests at least, so that bins are of whole requests.
    lasts_s = max(60.0, 40 * (n_gen / (to * rate) + prefill_s))
    at_s = share * lasts_s
    found = seen(step(at_s, to, rate), lasts_s, n_gen=n_gen, prefill_s=prefill_s, noise=0.05, seed=seed)
    assert throttled_s(found) == pytest.approx(at_s, abs=2.01 * found.width_ns / S)
    assert burst_tps(found)[0] == pytest.approx(rate, rel=0.05)
    assert steady(found).rate_tps == pytest.approx(to * rate, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 2), st.integers(1, 50)), min_size=1, max_size=200))
def test_no_token_is_lost_between_bins(pieces: list[tuple[float, float, int]]) -> None:
    windows, now_s = [], 0.0
    for lasts_s, pause_s, n in pieces:
        windows.append(
            Window(
                phase="prefill",
                t0_ns=round(now_s * S),
                t1_ns=round((now_s + lasts_s) * S),
                repetition=0,
                n_tokens=n,
            )
        )
        now_s += lasts_s + pause_s
    found = curve(prefill_steps(windows))
    assert found is not None
    kept = found.t0_ns + len(found.rates) * found.width_ns >= windows[-1].t1_ns
    if kept:
        assert found.tokens.sum() == pytest.approx(sum(n for *_, n in pieces))
    assert found.tokens.sum() <= sum(n for *_, n in pieces) * (1 + 1e-9)
