"""What ends a run by itself on each kind of device, and what it is called when it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from analysis_samples import agent_events, make_start, run

from melt.records import Outcome, Sampling, TripLimit
from melt.targets.jobfile import PollTrip, Trip
from melt.telemetry.journal import Event
from melt.telemetry.limits import Limits, trip_limits
from melt.telemetry.platforms import android, linux, macos
from melt.telemetry.schedule import make_schedule

ZONE = "/sys/class/thermal/thermal_zone0"
BATTERY = "/sys/class/power_supply/battery/temp"
THERMAL = b"""IsStatusOverride: false
ThermalEventListeners:
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=31.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=33.0, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
	Temperature{mValue=30.1, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=CPU0}
"""


def zone(now: int, *points: tuple[str, int]) -> dict[str, bytes]:
    files = {f"{ZONE}/type": b"cpu-thermal\n", f"{ZONE}/temp": b"%d\n" % now}
    for i, (kind, limit) in enumerate(points):
        files[f"{ZONE}/trip_point_{i}_type"] = kind.encode() + b"\n"
        files[f"{ZONE}/trip_point_{i}_temp"] = b"%d\n" % limit
    return files


def on_linux(snapshot: Mapping[str, bytes], trip_c: float | None = None, **how: bool) -> Limits:
    return trip_limits(make_schedule(linux.discover(snapshot, Sampling())), trip_c, **how)


def on_a_phone(snapshot: Mapping[str, bytes], trip_c: float | None = None, **how: bool) -> Limits:
    return trip_limits(make_schedule(android.discover(snapshot, Sampling())), trip_c, **how)


def test_a_zone_is_kept_below_its_critical_point() -> None:
    found = on_linux(zone(45_000, ("passive", 85_000), ("critical", 115_000)))
    assert found.files == (Trip(found.files[0].cid, 112_000),)
    (limit,) = found.records
    assert (limit.site, limit.limit, limit.unit) == ("cpu-thermal", 112.0, "c")
    assert "115 °C" in limit.basis
    assert not found.as_asked


@pytest.mark.parametrize(
    "snapshot",
    [
        zone(45_000, ("passive", 85_000), ("hot", 95_000)),
        zone(45_000, ("critical", 50_000)),
        zone(45_000, ("critical", 0)),
        zone(45_000, ("critical", -274_000)),
        zone(45_000, ("critical", 999_000)),
        zone(75_000, ("critical", 80_000)),
        zone(101_000, ("critical", 100_000)),
    ],
)
def test_a_critical_point_that_cannot_be_true_is_none(snapshot: dict[str, bytes]) -> None:
    assert on_linux(snapshot).records == ()


def test_what_is_asked_comes_on_top_and_defaults_can_be_left_out() -> None:
    snapshot = zone(45_000, ("critical", 115_000))
    assert [trip.limit for trip in on_linux(snapshot, 80.5).files] == [80_500, 112_000]
    assert [trip.limit for trip in on_linux(snapshot, 80.5, defaults=False).files] == [80_500]
    assert on_linux(snapshot, defaults=False).records == ()


def test_a_phone_that_denies_its_zones_is_asked_by_its_services() -> None:
    said = {
        "$ dumpsys thermalservice": THERMAL,
        "$ dumpsys battery": b"  level: 80\n  scale: 100\n  temperature: 301\n",
    }
    own = on_a_phone(said)
    assert {(r.site, r.limit, r.unit) for r in own.records} == {("battery", 60.0, "c"), ("thermal status", 4.0, "1")}
    assert own.files == ()
    assert not own.as_asked
    asked = on_a_phone(said, 45.0)
    assert asked.as_asked
    trips = [trip for trips in asked.polls.values() for trip in trips]
    assert PollTrip(600, "  temperature: ") in trips
    assert PollTrip(4, "Thermal Status: ") in trips
    assert PollTrip(45, "Temperature{mValue=", "mName=CPU0,") in trips
    assert len(trips) == 3, "the case and the battery are no chips"


def test_a_device_that_is_hot_already_keeps_its_limits() -> None:
    (limit,) = on_linux(zone(98_000, ("critical", 104_500))).records
    assert limit.limit == 101.5


@pytest.mark.parametrize(
    ("raw", "watched"),
    [(b"301\n", True), (b"610\n", True), (b"700\n", False), (b"30100\n", False), (b"-400\n", False), (b"0\n", False)],
)
def test_a_battery_is_watched_where_its_number_can_be_true(raw: bytes, watched: bool) -> None:
    found = on_a_phone({BATTERY: raw, "/sys/class/power_supply/battery/status": b"Discharging\n"})
    assert [trip.limit for trip in found.files] == ([600] if watched else [])


def test_a_mac_has_nothing_to_watch() -> None:
    found = trip_limits(make_schedule(macos.discover({}, Sampling())), 90.0)
    assert (found.files, found.records, found.as_asked) == ((), (), False)


def test_of_chips_that_share_a_limit_the_hot_one_is_named() -> None:
    hot = b"\tTemperature{mValue=44.0, mType=1, mName=GPU, mStatus=0}\nCurrent cooling"
    said = {"$ dumpsys thermalservice": THERMAL.replace(b"Current cooling", hot)}
    found = on_a_phone(said, 60.0)
    ((sid, trips),) = found.polls.items()
    told = {"sid": sid, "poll_trip": trips.index(PollTrip(60, "Temperature{mValue=", "mName=GPU,")), "value": 61}
    start = replace(make_start(), trips=found.records)
    end = {"reason": "tripped", "t_ns": 1, "exit_code": None, "signal": 15}
    events = [*agent_events(exit_code=None, signal=15), Event("tripped", 1, {**told, "limit": 60})]
    assert run(BROKEN, start=start, events=events, end=end).reasons[0].message.startswith("GPU said 61.0 °C, ")


def test_a_device_too_hot_from_the_start_is_said_not_to_have_begun() -> None:
    limit = TripLimit(site="cpu", limit=80.0, unit="c", basis="as asked", channel="cid 0", per_unit=1e3)
    events = [Event("tripped", 1, {"cid": 0, "value": 91_000, "limit": 80_000})]
    end = {"reason": "tripped", "t_ns": 1, "exit_code": None, "signal": None}
    seen = run([], start=replace(make_start(), trips=(limit,)), events=events, end=end)
    assert seen.reasons[0].message.endswith("more than its limit of 80.0 °C (as asked): the runner was not started")


BROKEN = [{"event": "hello", "runner": "x"}]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"cid": 3, "value": 90_400, "limit": 90_000},
            "cpu said 90.4 °C, more than its limit of 90.0 °C (as asked): the runner was ended",
        ),
        (
            {"cid": 3, "value": 112_001, "limit": 112_000},
            "cpu said 112.0 °C, more than its limit of 112.0 °C (critical): the runner was ended",
        ),
        (
            {"sid": 5, "value": 4, "limit": 3},
            "thermal status said 4, more than its limit of 3 (too hot): the runner was ended",
        ),
        ({"cid": 9, "value": 1}, "the device became hotter than a limit and the runner was ended"),
    ],
)
def test_a_trip_names_sensor_value_and_limit(told: dict[str, object], message: str) -> None:
    trips = (
        TripLimit(site="cpu", limit=90.0, unit="c", basis="as asked", channel="cid 3", per_unit=1e3),
        TripLimit(site="cpu", limit=112.0, unit="c", basis="critical", channel="cid 3", per_unit=1e3),
        TripLimit(site="thermal status", limit=3.0, unit="1", basis="too hot", channel="sid 5", per_unit=1.0),
    )
    start = replace(make_start(), trips=trips)
    events = [*agent_events(exit_code=None, signal=15), Event("tripped", 1, told)]
    seen = run(
        BROKEN, start=start, events=events, end={"reason": "tripped", "t_ns": 1, "exit_code": None, "signal": 15}
    )
    assert seen.outcome is Outcome.FAILED
    (reason,) = seen.reasons
    assert (reason.code, reason.message) == ("tripped", message)
