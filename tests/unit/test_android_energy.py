"""Energy of phones: of the battery only while it feeds the phone, of rails by name, and not of moments too short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis_samples import channel, figures, notes, run

from melt.analysis.energy import NOT_ON_BATTERY
from melt.traces import Trace


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


def test_a_phone_on_its_charger_has_no_power_and_that_is_the_reason():
    done = run(traces=[battery(lambda t: 0 * t)])
    assert figures(done)["power_mean_w"] is None
    assert notes(done)["power_mean_w"] == NOT_ON_BATTERY


def test_charging_that_was_suspended_before_the_measured_part_does_no_harm():
    done = run(traces=[battery(lambda t: (t > 6) * 1.0)])
    assert figures(done)["power_mean_w"] == pytest.approx(3.0)


def test_a_repetition_on_the_charger_has_no_energy_and_the_others_have():
    """The second of three repetitions begins at 14 s."""
    done = run(traces=[battery(lambda t: 1.0 - ((t > 13.5) & (t < 17.5)))])
    assert [figures(done, repetition)["power_mean_w"] for repetition in (0, 1, 2)] == [
        pytest.approx(3.0),
        None,
        pytest.approx(3.0),
    ]


def test_rails_stand_in_for_a_battery_that_is_charged_and_are_called_a_sum():
    rails = [
        channel(f"rail_{n}_j", "energy", lambda t, n=n: n * t, site=f"rail {n}", unit="j", cumulative=True, rate_hz=1.0)
        for n in (1, 2)
    ]
    done = run(traces=[battery(lambda t: 0 * t), *rails])
    assert figures(done)["power_mean_w"] == pytest.approx(3.0)
    assert (notes(done)["power_mean_w"] or "").startswith("sum of power rails: rail 1, rail 2")


def test_a_rail_called_gpu_is_a_rail():
    rail = channel("rail_gpu_j", "energy", lambda t: t, site="rail VDD_GPU", unit="j", cumulative=True, rate_hz=1.0)
    assert (notes(run(traces=[rail]))["power_mean_w"] or "").startswith("sum of power rails")


def test_a_phase_shorter_than_a_few_values_of_the_gauge_has_no_energy():
    """Prefill takes one second, each repetition 2.3."""
    slow, fast = run(traces=[battery(lambda t: 0 * t + 1)]), run(traces=[battery(lambda t: 0 * t + 1, rate_hz=10.0)])
    assert figures(slow)["energy_prefill_j"] is None
    assert "too few" in (notes(slow)["energy_prefill_j"] or "")
    assert figures(fast)["energy_prefill_j"] == pytest.approx(3.0)
