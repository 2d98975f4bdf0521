"""What melt makes of a device, against what it must; a device is a file in tests/data/snapshots."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from snapshot_sheet import render as sheet

from melt.records import Sampling
from melt.targets.linux import parse_facts
from melt.targets.probe import dump_snapshot, load_snapshot
from melt.telemetry.base import Snapshot
from melt.telemetry.limits import trip_limits
from melt.telemetry.platforms import linux
from melt.telemetry.platforms.supply import RAPL_IS_PRIVATE
from melt.telemetry.schedule import make_schedule
from melt.units import UNITS

FOLDER = Path(__file__).parents[1] / "data" / "snapshots"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> dict[str, bytes]:
    return load_snapshot((FOLDER / f"{name}.json").read_bytes())


def render(snapshot: Snapshot) -> str:
    facts = parse_facts(snapshot, device_id_hint="local", kind="local")
    found = linux.discover(snapshot, Sampling())
    return sheet(facts, found, snapshot, {line.argv: f"$ {line.name}" for line in found.lines})


@pytest.mark.parametrize("name", NAMES)
def test_a_device_reads_as_expected(name: str) -> None:
    assert render(load(name)) == (FOLDER / f"{name}.expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_a_device_are_declared_well(name: str) -> None:
    found = linux.discover(load(name), Sampling(sensors_hz=100, process_hz=50))
    columns = [(stream.collector, stream.name) for stream in found.streams]
    assert len(set(columns)) == len(columns)
    assert all(UNITS[stream.quantity] == stream.unit for stream in found.streams)
    assert all(column.isidentifier() for _, column in columns)
    schedule = make_schedule(found)
    periods = {group.collector: group.period_ns for group in schedule.groups}
    assert periods["process"] == 20_000_000
    assert periods["process_memory"] == 100_000_000
    assert all(file.max_bytes < 0xFFFE for group in schedule.groups for file in group.files)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_a_job_do_not_depend_on_the_order_of_a_snapshot(name: str) -> None:
    """A journal is decoded with the schedule of the snapshot that was kept, not of the one that was taken."""
    taken = dict(reversed(load(name).items()))
    kept = load_snapshot(dump_snapshot(taken))
    assert list(taken) != list(kept)
    assert numbering(taken) == numbering(kept)


def numbering(snapshot: Snapshot) -> list[tuple[int, str, int, str]]:
    schedule = make_schedule(linux.discover(snapshot, Sampling()))
    files = [(file.cid, file.path, group.gid, group.collector) for group in schedule.groups for file in group.files]
    return files + [(stream.sid, " ".join(stream.argv), 0, stream.source.name) for stream in schedule.streams]


def test_an_empty_snapshot_still_offers_the_runner_itself() -> None:
    found = linux.discover({}, Sampling())
    assert {stream.site for stream in found.streams} == {"runner"}
    assert len(found.missing) == 3
    assert parse_facts({}, device_id_hint="shelf-3", kind="ssh").name == "shelf-3"


def test_rapl_that_only_root_may_read_is_said_once_with_what_to_do() -> None:
    snapshot = load("laptop-intel")
    assert linux.discover(snapshot, Sampling()).missing == (RAPL_IS_PRIVATE,)
    for path in [path for path in snapshot if path.endswith("/max_energy_range_uj")]:
        snapshot[path.replace("max_energy_range_uj", "energy_uj")] = b"1500000\n"
    found = linux.discover(snapshot, Sampling())
    assert found.missing == ()
    energies = {s.name: (s.site, s.wraps_at) for s in found.streams if s.name.startswith("rapl")}
    assert energies["rapl_package_0_j"] == ("package-0", 262143.32885)
    assert energies["rapl_package_0_core_j"] == ("package-0 core", 262143.32885)


def test_trips_are_whole_numbers_of_the_file_and_leave_out_what_is_no_chip() -> None:
    schedule = make_schedule(linux.discover(load("laptop-intel"), Sampling()))
    assert trip_limits(schedule, None).files == ()
    paths = {file.cid: file.source.streams[0].site for group in schedule.groups for file in group.files}
    limits = {paths[trip.cid]: trip.limit for trip in trip_limits(schedule, 94.5).files}
    assert limits["coretemp Package id 0"] == 94_500
    assert "x86_pkg_temp" in limits
    assert not any("nvme" in site for site in limits)


if __name__ == "__main__":
    sys.stdout.write(render(load_snapshot(Path(sys.argv[1]).read_bytes())))
