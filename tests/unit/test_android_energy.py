"""Energy of phones: of the battery only while it feeds the phone, of rails by name, and not of moments too short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis_samples import channel, figures, generation, notes, origins, run, runner_said

from melt.analysis.battery import BYPASSED, CHARGED, UNREAD
from melt.traces import Trace


def column(name: str, quantity: str, value, unit: str = "1") -> Trace:
    return channel(name, quantity, value, site="battery", unit=unit, rate_hz=1.0)


def battery(discharging, *, rate_hz=1.0) -> Trace:
    """A battery of 3 W that says whether it feeds the phone; its power is what `derive` leaves of it."""
    power = channel("battery_power_w", "power", lambda t: 3.0 + 0 * t, site="battery", unit="w", rate_hz=rate_hz)
    state = channel("battery_discharging", "state", discharging, site="battery", rate_hz=rate_hz)
    fed = state.columns["battery_discharging"] != 1.0
    watts = np.where(fed, np.nan, power.columns["battery_power_w"])
    return replace(
        state,
        columns={**state.columns, "battery_power_w": watts},
        streams=(*state.streams, *power.streams),
    )


@pytest.mark.parametrize(("charging", "why"), [(1.0, CHARGED), (0.0, BYPASSED)])
def test_a_phone_on_its_charger_has_no_power_and_that_is_the_reason(charging, why):
    states = [
        column("battery_discharging", "state", lambda t: 0),
        column("battery_charging", "state", lambda t: charging),
    ]
    done = run(traces=[column("battery_current_a", "current", lambda t: -0.4), *states])
    assert figures(done)["power_mean_w"] is None
    assert notes(done)["power_mean_w"] == why


def test_a_phone_without_a_gauge_has_no_power_sensor_whatever_its_charger_does():
    assert notes(run(traces=[column("battery_charging", "state", lambda t: 1)]))["power_mean_w"] == "no power sensor"


def test_a_current_that_nobody_could_read_is_said_to_be_one():
    states = [column("battery_charging", "state", lambda t: 1), column("battery_discharging", "state", lambda t: 0)]
    done = run(traces=[column("battery_current_raw", "count", lambda t: 1234), *states])
    assert notes(done)["power_mean_w"] == UNREAD


def counter(charge_c) -> Trace:
    """A charge counter that moves in steps of 1 mAh."""
    return column("battery_charge_c_coulomb", "charge", lambda t: np.floor(charge_c(t) / 3.6) * 3.6, "c_coulomb")


@pytest.mark.parametrize(
    ("raw_per_a", "drop_c_per_s", "believed"),
    [(1.0, 0.75, True), (1.0, 0.3, True), (1.0, 0.0, True), (10.0, 0.75, False), (1e-3, 0.75, False)],
)
def test_a_current_that_the_charge_counter_contradicts_is_not_believed(raw_per_a, drop_c_per_s, believed):
    """0.75 A for a minute is 45 C. A counter that stands still contradicts nothing."""
    current = column("battery_current_a", "current", lambda t: 0.75 * raw_per_a, "a")
    done = run(traces=[battery(lambda t: 0 * t + 1, rate_hz=10.0), current, counter(lambda t: 9000 - drop_c_per_s * t)])
    assert (figures(done)["power_mean_w"] is not None) is believed
    assert believed or "misread" in notes(done)["power_mean_w"]


def test_a_current_that_no_battery_gives_is_not_believed():
    """0.4 A in microamperes, taken for milliamperes because the phone said 500 when it was nearly full."""
    current = column("battery_current_a", "current", lambda t: 400.0, "a")
    done = run(traces=[battery(lambda t: 0 * t + 1), current])
    assert figures(done)["power_mean_w"] is None
    assert "came to 400 A" in notes(done)["power_mean_w"]


def test_charging_between_two_stretches_on_the_battery_contradicts_nothing():
    def alone(t):
        return (t < 25) | (t > 45)

    current = column("battery_current_a", "current", lambda t: np.where(alone(t), 0.75, -2.0), "a")
    charge = counter(lambda t: 9000 - 0.75 * t + np.clip(t - 25, 0, 20) * 2.75)
    assert figures(run(traces=[battery(alone, rate_hz=10.0), current, charge]))["power_mean_w"] == pytest.approx(3.0)


def test_charging_that_was_suspended_before_the_measured_part_does_no_harm():
    done = run(traces=[battery(lambda t: (t > 6) * 1.0, rate_hz=10.0)])
    assert figures(done)["power_mean_w"] == pytest.approx(3.0)


def test_a_repetition_on_the_charger_has_no_energy_and_the_others_have():
    """The second of three repetitions begins at 14 s."""
    done = run(traces=[battery(lambda t: 1.0 - ((t > 13.5) & (t < 17.5)), rate_hz=10.0)])
    assert [figures(done, repetition)["power_mean_w"] for repetition in (0, 1, 2)] == [
        pytest.approx(3.0),
        None,
        pytest.approx(3.0),
    ]
    assert [m.note for m in done.metrics if m.name == "power_mean_w" and m.repetition == 1] == [BYPASSED]


def test_rails_stand_in_for_a_battery_that_is_charged_and_are_called_a_sum():
    rails = [
        channel(f"rail_{n}_j", "energy", lambda t, n=n: n * t, site=f"rail {n}", unit="j", cumulative=True, rate_hz=1.0)
        for n in (1, 2)
    ]
    done = run(traces=[battery(lambda t: 0 * t), *rails])
    assert figures(done)["power_mean_w"] == pytest.approx(3.0)
    assert origins(done)["power_mean_w"].startswith("sum of power rails: 1, 2;")


def test_a_rail_called_gpu_is_a_rail():
    rail = channel("rail_gpu_j", "energy", lambda t: t, site="rail VDD_GPU", unit="j", cumulative=True, rate_hz=1.0)
    assert origins(run(traces=[rail]))["power_mean_w"].startswith("sum of power rails")


def test_many_short_phases_are_not_told_apart_by_a_slow_gauge():
    """Ten requests in one repetition: prefill and decode take turns within the second between two values."""
    load, *_ = runner_said()
    requests = [generation(10 + 2.5 * i, 0) for i in range(10)]
    done = run([load, *requests], traces=[battery(lambda t: 0 * t + 1)])
    assert figures(done)["power_mean_w"] == pytest.approx(3.0)
    assert figures(done)["energy_decode_j"] is None
    assert "inside 10 windows, too few" in (notes(done)["energy_decode_j"] or "")


def test_a_phase_shorter_than_a_few_values_of_the_gauge_has_no_energy():
    """Prefill takes one second, each repetition 2.3."""
    slow, fast = run(traces=[battery(lambda t: 0 * t + 1)]), run(traces=[battery(lambda t: 0 * t + 1, rate_hz=10.0)])
    assert figures(slow)["energy_prefill_j"] is None
    assert "too few" in (notes(slow)["energy_prefill_j"] or "")
    assert figures(fast)["energy_prefill_j"] == pytest.approx(3.0)
