"""What melt makes of a Mac, against what it must; a Mac is a file in tests/data/snapshots/macos."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshot_sheet import render as sheet

from melt.errors import AgentError
from melt.records import Sampling
from melt.targets.agent import AgentBinaries
from melt.targets.cpus import default_threads
from melt.targets.macos import FACT_COMMANDS, parse_facts
from melt.targets.probe import load_snapshot
from melt.telemetry.base import Snapshot
from melt.telemetry.platforms import macos
from melt.telemetry.platforms.macos_ioreport import ONE_DIE
from melt.telemetry.schedule import make_schedule
from melt.telemetry.sites import SOC
from melt.units import UNITS

FOLDER = Path(__file__).parents[1] / "data" / "snapshots" / "macos"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
POLLED = {argv: f"$ {name}" for name, argv in (*FACT_COMMANDS.items(), *macos.COMMANDS.items())}
COMMANDS = sorted({*FACT_COMMANDS, *macos.COMMANDS})


def load(name: str) -> dict[str, bytes]:
    return load_snapshot((FOLDER / f"{name}.json").read_bytes())


def last_lines(snapshot: Snapshot) -> dict[str, bytes]:
    """A program that goes on printing is shown by the last line that its look gave."""
    return {
        f"$ {name}": snapshot[f"$ {name}"].rstrip().rpartition(b"\n")[2]
        for name in ("ioreport", "macmon")
        if f"$ {name}" in snapshot
    }


def render(snapshot: Snapshot) -> str:
    facts = parse_facts(snapshot, device_id_hint="shelf-3", kind="ssh")
    found = macos.discover(snapshot, Sampling())
    streams = {line.argv: f"$ {line.name}" for line in found.lines if line.period_s is None}
    return sheet(facts, found, {**snapshot, **last_lines(snapshot)}, {**POLLED, **streams})


@pytest.mark.parametrize("name", NAMES)
def test_a_mac_reads_as_expected(name: str) -> None:
    assert render(load(name)) == (FOLDER / f"{name}.expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_a_mac_are_declared_well(name: str) -> None:
    found = macos.discover(load(name), Sampling(sensors_hz=100, process_hz=50))
    columns = [(stream.collector, stream.name) for stream in found.streams]
    assert len(set(columns)) == len(columns)
    assert all(UNITS[stream.quantity] == stream.unit for stream in found.streams)
    assert all(column.isidentifier() for _, column in columns)
    make_schedule(found)
    for line in found.lines:
        assert line.period_s is None or line.period_s >= 1, "each poll starts a program"


def test_threads_are_the_cores_of_the_fastest_kind() -> None:
    facts = parse_facts(load("m6-three-levels"), device_id_hint="x", kind="ssh")
    assert [cpu.level for cpu in facts.cpus] == [2] * 6 + [1] * 4 + [0] * 2
    assert default_threads(facts) == 2
    assert default_threads(parse_facts(load("virtual-mac"), device_id_hint="x", kind="ssh")) == 3
    assert default_threads(parse_facts({}, device_id_hint="x", kind="ssh")) == 1


def test_what_names_the_machine_to_its_maker_does_not_leave_it() -> None:
    snapshot = load("macbook-air-m2")
    facts = parse_facts(snapshot, device_id_hint="x", kind="ssh")
    assert "5C961F1B" not in repr(facts)
    assert "EXAMPLE" not in repr(facts)
    other = {**snapshot, "$ ioreg platform": b'      "IOPlatformUUID" = "00000000-0000-0000-0000-000000000001"\n'}
    assert parse_facts(other, device_id_hint="x", kind="ssh").device_id != facts.device_id
    del other["$ ioreg platform"]
    assert parse_facts(other, device_id_hint="x", kind="ssh").device_id != facts.device_id


def test_nothing_at_all_still_offers_the_runner_itself() -> None:
    found = macos.discover({}, Sampling())
    assert {stream.site for stream in found.streams} == {"runner"}
    assert len(found.missing) == 4
    facts = parse_facts({}, device_id_hint="shelf-3", kind="ssh")
    assert (facts.name, facts.cpus, facts.power_mode) == ("shelf-3", (), None)


def test_the_counters_of_half_an_ultra_are_not_taken_for_the_chip() -> None:
    found = macos.discover(load("mac-studio-m2-ultra"), Sampling())
    assert ONE_DIE in found.missing
    assert not any(stream.site.startswith(SOC) for stream in found.streams)


def test_a_virtual_mac_says_nothing_of_its_heat() -> None:
    """notifyutil prints 0 for a key that nobody ever posted."""
    assert not any(s.name == "thermal_pressure" for s in macos.discover(load("virtual-mac"), Sampling()).streams)


def test_nobody_is_told_to_install_the_macmon_that_is_there() -> None:
    snapshot = load("macbook-air-m2")
    said = snapshot["$ macmon"].splitlines()
    reading = {**json.loads(said[-1]), "sys_power": 0.0, "temp": {"cpu_temp_avg": 0.0, "gpu_temp_avg": 0.0}}
    snapshot["$ macmon"] = b"\n".join((*said[:2], json.dumps(reading).encode()))
    missing = macos.discover(snapshot, Sampling()).missing
    assert not any("brew" in sentence for sentence in missing)
    assert sum("macmon cannot read it here" in sentence for sentence in missing) == 2


def test_a_faster_rate_is_asked_for_as_far_as_the_programs_go() -> None:
    argvs = {line.name: line.argv for line in macos.discover(load("macbook-air-m2"), Sampling(power_hz=100)).lines}
    assert argvs["macmon"] == ("/opt/homebrew/bin/macmon", "pipe", "-i", "100")
    assert argvs["ioreport"][1:] == ("{streams}/ioreport_stream.py", "100")
    slow = {line.name: line.argv for line in macos.discover(load("macbook-air-m2"), Sampling(sensors_hz=0.5)).lines}
    assert slow["macmon"][-1] == "2000"


@given(st.dictionaries(st.sampled_from(COMMANDS), st.binary(max_size=80) | st.text(max_size=80).map(str.encode)))
def test_no_snapshot_is_too_odd(printed: dict[str, bytes]) -> None:
    snapshot = {f"$ {name}": raw for name, raw in printed.items()}
    for source in (*(found := macos.discover(snapshot, Sampling())).files, *found.lines):
        assert len(source.parse(b"\xff")) == len(source.streams)
    parse_facts(snapshot, device_id_hint="x", kind="ssh")


@given(st.sampled_from(NAMES), st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_line_is_too_odd(name: str, raw: bytes) -> None:
    found = macos.discover(load(name), Sampling())
    for source in (*found.files, *found.lines):
        assert len(source.parse(raw)) == len(source.streams)


def test_an_intel_mac_is_refused_in_one_sentence() -> None:
    binaries = AgentBinaries("v", Path("/nowhere"), {"aarch64-macos": {"file": "melt-agent-aarch64-macos"}})
    assert binaries.path("Darwin", "arm64").name == "melt-agent-aarch64-macos"
    with pytest.raises(AgentError, match=r"^this is an Intel Mac: melt measures Macs with Apple silicon only$"):
        binaries.path("Darwin", "x86_64")


def test_what_is_asked_for_is_asked_once() -> None:
    assert not FACT_COMMANDS.keys() & macos.COMMANDS.keys()


if __name__ == "__main__":
    sys.stdout.write(render(load_snapshot(Path(sys.argv[1]).read_bytes())))
