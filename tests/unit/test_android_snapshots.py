"""What melt makes of a phone, against what it must; a phone is a file in tests/data/snapshots/android."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshot_sheet import render as sheet

from melt.records import Sampling
from melt.targets.android import FACT_COMMANDS, FACT_GLOBS, parse_facts
from melt.targets.probe import load_snapshot
from melt.telemetry.base import Snapshot
from melt.telemetry.platforms import android
from melt.telemetry.schedule import make_schedule
from melt.units import UNITS

FOLDER = Path(__file__).parents[1] / "data" / "snapshots" / "android"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
PROGRAMS = {argv: f"$ {name}" for name, argv in android.COMMANDS.items()}
PATHS = sorted({path for name in NAMES for path in load_snapshot((FOLDER / f"{name}.json").read_bytes())})


def load(name: str) -> dict[str, bytes]:
    return load_snapshot((FOLDER / f"{name}.json").read_bytes())


def render(snapshot: Snapshot) -> str:
    facts = parse_facts(snapshot, device_id_hint="shelf-3", kind="adb")
    return sheet(facts, android.discover(snapshot, Sampling()), snapshot, PROGRAMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_phone_reads_as_expected(name: str) -> None:
    assert render(load(name)) == (FOLDER / f"{name}.expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_a_phone_are_declared_well(name: str) -> None:
    found = android.discover(load(name), Sampling(sensors_hz=100, process_hz=50))
    columns = [(stream.collector, stream.name) for stream in found.streams]
    assert len(set(columns)) == len(columns)
    assert all(UNITS[stream.quantity] == stream.unit for stream in found.streams)
    assert all(column.isidentifier() for _, column in columns)
    schedule = make_schedule(found)
    assert len(schedule.polls) == len(found.lines)
    assert all(poll.period_ns >= 1_000_000_000 for poll in schedule.polls), "each poll starts a program"


def test_nothing_at_all_still_offers_the_runner_itself() -> None:
    found = android.discover({}, Sampling())
    assert {stream.site for stream in found.streams} == {"runner"}
    assert len(found.missing) == 5
    assert parse_facts({}, device_id_hint="shelf-3", kind="adb").name == "shelf-3"


def test_charging_that_ends_makes_the_sign_certain() -> None:
    snapshot = load("virtual-pixel-8")
    (charging,) = android.discover(snapshot, Sampling()).calibrations
    assert not charging.certain
    battery = "/sys/class/power_supply/battery"
    snapshot |= {f"{battery}/status": b"Discharging\n", f"{battery}/current_now": b"-380000\n"}
    found = android.discover(snapshot, Sampling())
    assert (found.calibrations[0].factor, found.calibrations[0].certain) == (charging.factor, True)
    assert not any("not certain" in sentence for sentence in found.missing)


def test_a_gauge_that_contradicts_itself_is_kept_raw() -> None:
    snapshot = load("virtual-pixel-8") | {"$ cat current_now": b"-380000\n"}
    found = android.discover(snapshot, Sampling())
    assert found.calibrations == ()
    assert "battery_current_raw" in {stream.name for stream in found.streams}


@given(st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=64) | st.integers().map(lambda n: b"%d\n" % n)))
def test_no_snapshot_is_too_odd(snapshot: dict[str, bytes]) -> None:
    found = android.discover(snapshot, Sampling())
    for source in (*found.files, *found.lines):
        assert len(source.parse(b"\xff")) == len(source.streams)
    parse_facts(snapshot, device_id_hint="x", kind="adb")


def test_what_is_asked_for_is_asked_once() -> None:
    assert len(set(FACT_GLOBS)) == len(FACT_GLOBS)
    assert not FACT_COMMANDS.keys() & android.COMMANDS.keys()


if __name__ == "__main__":
    sys.stdout.write(render(load_snapshot(Path(sys.argv[1]).read_bytes())))
