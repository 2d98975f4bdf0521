"""Energy over exact spans: analytic curves, wraps, gaps, and numpy and scipy as second opinions."""

from __future__ import annotations

import numpy as np
import pytest
from analysis_samples import BOOT_NS, S, at, channel, figures, notes, origins, run
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.integrate import Grade, Integral, integral, integrate
from melt.analysis.series import Series, find

SPAN_S = st.tuples(st.floats(0.5, 29), st.floats(0.001, 29)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def series(name, quantity, value, **how):
    (found,) = find([channel(name, quantity, value, **how)], lambda stream: True)
    return found


def series_energy_j(found, over):
    energy = integral(found, over, Grade())
    return energy.energy_j if isinstance(energy, Integral) else None


def span(seconds):
    return at(seconds[0]), at(seconds[1])


@given(SPAN_S, st.floats(-5, 5), st.floats(0, 100))
def test_a_ramp_is_integrated_exactly(seconds, slope, offset):
    power = series("p", "power", lambda t: slope * t + offset)
    a, b = ((edge - BOOT_NS) / 1e9 for edge in span(seconds))
    expected = slope * (b * b - a * a) / 2 + offset * (b - a)
    assert series_energy_j(power, span(seconds)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(SPAN_S)
def test_a_counter_and_its_power_agree(seconds):
    power = series("p", "power", lambda t: 3 * t)
    counter = series("e", "energy", lambda t: 1.5 * t * t, cumulative=True)
    # Between two samples the counter is taken as straight: off by at most slope * period^2 / 8 at each edge.
    assert series_energy_j(counter, span(seconds)) == pytest.approx(
        series_energy_j(power, span(seconds)), abs=2 * 3 * 0.01 / 8
    )


@given(st.floats(5, 20), st.floats(0.05, 8), st.floats(0.1, 20))
def test_energy_adds_up_over_adjacent_spans(start, first, second):
    power = series("p", "power", lambda t: 5 + np.sin(t) + (t > 9) * 4)
    middle, end = start + first, start + first + second
    parts = series_energy_j(power, (at(start), at(middle))) + series_energy_j(power, (at(middle), at(end)))
    assert parts == pytest.approx(series_energy_j(power, (at(start), at(end))), rel=1e-9)


def test_a_pulse_between_two_samples_of_a_span_counts_whole():
    # 10 W in one sample at 5.0 s only: two triangles of 0.1 s and 10 W.
    power = series("p", "power", lambda t: 10.0 * (np.abs(t - 5.0) < 0.01))
    assert series_energy_j(power, (at(4.5), at(5.5))) == pytest.approx(1.0)
    assert series_energy_j(power, (at(5.0), at(5.05))) == pytest.approx((10 + 5) / 2 * 0.05)


@given(st.lists(st.floats(0, 1e3), min_size=3, max_size=50))
def test_whole_samples_agree_with_numpy(watts):
    t_ns = BOOT_NS + np.arange(len(watts), dtype=np.int64) * S
    values = np.array(watts)
    whole = (int(t_ns[0]), int(t_ns[-1]))
    trapezoid = getattr(np, "trapezoid", None) or np.trapz  # The name before numpy 2.
    assert integrate(t_ns, values, whole) == pytest.approx(trapezoid(values, dx=1.0))


def test_uneven_samples_agree_with_scipy():
    scipy_integrate = pytest.importorskip("scipy.integrate")
    random = np.random.default_rng(3)
    t_ns = BOOT_NS + np.cumsum(random.integers(1, S, 500))
    values = random.random(500)
    seconds = (t_ns - t_ns[0]) / 1e9
    assert integrate(t_ns, values, (int(t_ns[0]), int(t_ns[-1]))) == pytest.approx(
        scipy_integrate.trapezoid(values, seconds)
    )


@given(st.floats(1, 40), st.floats(0.2, 15), st.floats(7.0, 500.0))
def test_wraps_of_a_counter_are_undone(start, length, wraps_at):
    # 20 W sampled each 0.1 s: 2 J a step, far less than the counter holds.
    counter = series("e", "energy", lambda t: (20.0 * t) % wraps_at, cumulative=True, wraps_at=wraps_at)
    assert series_energy_j(counter, (at(start), at(start + length))) == pytest.approx(20 * length, rel=1e-6)


def test_a_counter_that_begins_anew_is_not_guessed():
    counter = series("e", "energy", lambda t: np.where(t < 5, t, t - 5), cumulative=True)
    assert series_energy_j(counter, (at(4), at(6))) is None
    assert series_energy_j(counter, (at(6), at(7))) == pytest.approx(1)


@pytest.mark.parametrize("quantity", ["power", "energy"])
def test_holes_and_edges_outside_are_not_bridged(quantity):
    how = {"cumulative": True} if quantity == "energy" else {}
    holed = series("x", quantity, lambda t: t, drop=(5.0, 6.0), **how)
    assert series_energy_j(holed, (at(5.2), at(5.8))) is None
    assert series_energy_j(holed, (at(5.5), at(9))) is None
    assert series_energy_j(holed, (at(7), at(9))) is not None
    assert series_energy_j(holed, (at(-1), at(2))) is None
    assert series_energy_j(holed, (at(59), at(61))) is None


def test_a_counter_counts_on_through_a_hole_and_power_does_not():
    counter = series("e", "energy", lambda t: 10 * t, cumulative=True, drop=(5.0, 6.0))
    assert series_energy_j(counter, (at(3), at(9))) == pytest.approx(60)
    power = series("p", "power", lambda t: 10.0, drop=(5.0, 6.0))
    assert series_energy_j(power, (at(3), at(9))) is None


def test_a_counter_that_may_have_come_around_in_a_hole_tells_nothing():
    counter = series("e", "energy", lambda t: (10 * t) % 8, cumulative=True, wraps_at=8.0, drop=(5.0, 6.0))
    assert series_energy_j(counter, (at(3), at(9))) is None
    assert series_energy_j(counter, (at(7), at(9))) == pytest.approx(20)


def test_samples_that_were_not_measured_are_left_out():
    trace = channel("p", "power", lambda t: np.where((t * 10).round() % 2 == 0, 4.0, np.nan))
    (power,) = find([trace], lambda stream: True)
    assert isinstance(power, Series)
    assert series_energy_j(power, (at(1), at(3))) == pytest.approx(8.0)


def test_a_short_phase_of_a_meter_that_is_not_slow_is_interpolated():
    power = channel("package_w", "power", lambda t: 10.0, site="psys", unit="w", rate_hz=2.5)
    assert figures(run(traces=[power]), 1)["energy_prefill_j"] == pytest.approx(10.0), "two samples lie in its second"


def test_energy_per_phase_of_a_run():
    # 10 W for ever: prefill lasts 1 s, decoding 127 tokens 1.27 s.
    seen = run(traces=[channel("package_w", "power", lambda t: 10.0, site="psys", unit="w")])
    assert figures(seen)["energy_prefill_j"] == pytest.approx(10.0)
    assert figures(seen)["energy_decode_j"] == pytest.approx(12.7)
    assert figures(seen)["energy_per_token_j"] == pytest.approx(0.1)
    assert figures(seen)["power_mean_w"] == pytest.approx(10.0)
    assert origins(seen)["energy_decode_j"].startswith("whole device: psys; ")


@pytest.mark.parametrize(
    ("sites", "quantity", "watts", "note"),
    [
        (("package-0", "package-1", "package-0 core", "dram"), "energy", 20, "CPU package: package-0, package-1"),
        (("package-0", "psys"), "energy", 10, "whole device: psys"),
        (("gpu0", "gpu1"), "power", 20, "GPU board: gpu0, gpu1"),
        (("BAT0",), "power", 10, "battery: BAT0"),
    ],
)
def test_the_sensor_with_the_widest_scope_is_taken(sites, quantity, watts, note):
    how = {"cumulative": True, "wraps_at": 262_143.0} if quantity == "energy" else {}
    value = (lambda t: 10.0 * t) if quantity == "energy" else (lambda t: 10.0)
    seen = run(traces=[channel(f"{site}_x", quantity, value, site=site, **how) for site in sites])
    assert figures(seen)["power_mean_w"] == pytest.approx(watts)
    assert origins(seen)["power_mean_w"].startswith(note)


def test_a_battery_on_the_mains_measures_nothing():
    battery = channel("bat0_w", "power", lambda t: 10.0, site="BAT0", unit="w")
    mains = channel("ac_online", "state", lambda t: 1.0, site="AC")
    assert figures(run(traces=[battery, mains]))["power_mean_w"] is None


def test_a_sensor_that_ends_too_early_says_so():
    late = channel("psys_w", "power", lambda t: 10.0, site="psys", drop=(9.0, 60.0))
    seen = run(traces=[late])
    assert figures(seen)["energy_decode_j"] is None
    assert notes(seen)["energy_decode_j"] == "whole device: psys does not cover the span"
