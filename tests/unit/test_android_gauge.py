"""What a raw battery current is concluded to be, by the phones that are known to differ, and where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.telemetry.derive import with_derived
from melt.telemetry.platforms.columns import Collector
from melt.telemetry.platforms.gauge import Reading, calibrate
from melt.traces import Trace

KNOWN = {
    "Mi A1: microamperes, positive while discharging": (Reading(412_000, "Discharging"), 1e-6, True),
    "P8 Lite: milliamperes, negative while discharging": (Reading(-412, "Discharging"), -1e-3, True),
    "Galaxy S21: milliamperes, positive while charging": (Reading(398, "Charging"), -1e-3, False),
    "SM8250: microamperes, negative while charging": (Reading(-1_753_000, "Charging"), 1e-6, False),
    # github.com/MatteCarra/AccA/issues/27
    "Mi 8: microamperes, negative while charging": (Reading(-326_171, "Charging"), 1e-6, False),
    # hugmouse.github.io/gotermux-docs/0.1/termux-api/termux-battery-status
    "as documented: microamperes, negative while discharging": (Reading(-820_000, "Discharging"), -1e-6, True),
    # gh0st.tistory.com/6
    "Samsung of 2018: milliamperes, positive while charging": (Reading(321, "Charging"), -1e-3, False),
    # github.com/VR-25/acc/issues/291
    "of 2025: microamperes, negative while charging": (Reading(-1_330_000, "Charging"), 1e-6, False),
    # github.com/google/perfetto/issues/1441
    "P Smart 2019: milliamperes": (Reading(-200, "Discharging"), -1e-3, True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_phones_are_told_apart(name: str) -> None:
    reading, factor, certain = KNOWN[name]
    found = calibrate([reading])
    assert found is not None
    assert (found.factor, found.certain) == (pytest.approx(factor), certain)
    assert str(reading.raw) in found.basis


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [Reading(0, "Discharging")],
        [Reading(3_000, "Discharging")],  # 3 A in milliamperes or 3 mA in microamperes
        [Reading(7, "Discharging")],
        [Reading(400_000, "Full")],
        [Reading(976, "Not charging")],  # a Pixel 3a, in microamperes: github.com/MatteCarra/AccA/issues/35
        [Reading(400_000, None)],
        [Reading(400_000, "Discharging"), Reading(-400_000, "Discharging")],
    ],
)
def test_what_cannot_be_told_is_not_guessed(readings: list[Reading]) -> None:
    assert calibrate(readings) is None


def test_a_reading_while_discharging_decides_over_one_while_charging() -> None:
    """A phone at work may draw more than its charger gives, and say that it charges."""
    found = calibrate([Reading(-250_000, "Charging"), Reading(-900_000, "Discharging")])
    assert found is not None
    assert (found.factor, found.certain) == (-1e-6, True)


def counted(raw: int, amperes: float, status: str = "Discharging") -> list[Reading]:
    return [Reading(raw, status, charge_c=9_000 - amperes * t_s, t_s=t_s) for t_s in (0.0, 60.0)]


def test_the_charge_counter_tells_the_unit_where_the_size_does_not() -> None:
    found = calibrate(counted(3_000, 3.0))
    assert found is not None
    assert found.factor == 1e-3
    assert calibrate(counted(3_000, 0.2)) is None, "neither unit fits"


def test_a_charge_counter_that_contradicts_leaves_it_open() -> None:
    """500 looks like milliamperes, but the battery lost 500 times that."""
    assert calibrate(counted(500, 0.5)) is not None
    assert calibrate(counted(500_000, 500.0)) is None


@given(
    st.lists(
        st.builds(
            Reading,
            st.integers(-(10**8), 10**8),
            st.sampled_from(["Charging", "Discharging", "Not charging", "Full", None, "?"]),
            st.none() | st.floats(0, 1e5),
            st.none() | st.floats(0, 1e6),
        )
    )
)
def test_a_certain_calibration_is_positive_while_discharging(readings: list[Reading]) -> None:
    found = calibrate(readings)
    if found is not None and found.certain:
        assert all(r.raw * found.factor >= 0 for r in readings if r.status == "Discharging")


def test_a_battery_has_power_only_while_it_feeds_the_phone() -> None:
    slow = Collector("slow", 1.0)
    base = "/sys/class/power_supply/battery"
    streams = (
        slow.stream("battery_voltage", "voltage", site="battery", source=f"{base}/voltage_now"),
        slow.stream("battery_current", "current", site="battery", source=f"{base}/current_now"),
        slow.stream("battery_discharging", "state", site="battery", source=f"{base}/status"),
    )
    columns = dict(
        zip(
            (s.name for s in streams),
            (np.full(4, 4.0), np.array([-0.5, 0.1, 0.5, 0.5]), np.array([0.0, 0.0, 1.0, np.nan])),
            strict=True,
        )
    )
    trace = Trace(collector="slow", t_ns=np.arange(4, dtype=np.int64) * 10**9, columns=columns, streams=streams)
    power = with_derived(trace).columns["battery_power_w"]
    np.testing.assert_array_equal(power, [np.nan, np.nan, 2.0, np.nan])


def test_a_current_that_was_a_riddle_at_first_is_read_when_the_charger_is_off() -> None:
    """A full phone on its charger says little; then charging is suspended for the run."""
    slow = Collector("slow", 1.0)
    base = "/sys/class/power_supply/battery"
    streams = (
        slow.stream("battery_voltage", "voltage", site="battery", source=f"{base}/voltage_now"),
        slow.stream("battery_current_raw", "count", site="battery", source=f"{base}/current_now"),
        slow.stream("battery_discharging", "state", site="battery", source=f"{base}/status"),
    )
    values = (np.full(3, 4.0), np.array([15.0, -250_000.0, -500_000.0]), np.array([0.0, 1.0, 1.0]))
    columns = dict(zip((s.name for s in streams), values, strict=True))
    trace = Trace(collector="slow", t_ns=np.arange(3, dtype=np.int64) * 10**9, columns=columns, streams=streams)
    derived = with_derived(trace).columns
    np.testing.assert_allclose(derived["battery_current_a"][1:], [0.25, 0.5])
    np.testing.assert_allclose(derived["battery_power_w"], [np.nan, 1.0, 2.0])
