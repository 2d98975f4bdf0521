"""What every plug-in that adds channels must do: `pytest --pyargs melt.testing --melt-telemetry NAME`."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping

import pytest

from melt.plugins import TELEMETRY, find
from melt.records import Sampling
from melt.targets.probe import Snapshot, take_snapshot
from melt.targets.readers import OwnFiles
from melt.telemetry.base import Discovery, FileSource, LineSource
from melt.telemetry.platforms.added import Probe, declared_wrongly, joined
from melt.testing.cases import TelemetryCase, parametrize
from melt.testing.watching import touched
from melt.transports.local import LocalTransport

_GARBAGE = (
    b"",
    b"\0",
    b"\n",
    b"-",
    b"nan",
    b"1e999",
    b"9" * 400,
    b"\xff\xfe",
    b"{",
    b"a: b\nc: d",
    b"1 2 3 4 5 6 7 8 9",
)
_AT_MOST = 40
"""Of a snapshot with many files some are made odd."""
_SYSTEMS = {"linux", "android", "macos"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every plug-in that is asked for."""
    parametrize(metafunc, "telemetry_case", TelemetryCase)


class TestTelemetry:
    """A plug-in is asked on the host, with what files and programs of a device said. It never reaches the device."""

    @pytest.fixture
    def probe(self, telemetry_case: TelemetryCase) -> Probe:
        """Return what the entry point names."""
        plugin = find(TELEMETRY, telemetry_case.name)
        assert plugin is not None, f"no installed package offers telemetry '{telemetry_case.name}'"
        probe: Probe = plugin.load()
        assert {*probe.SYSTEMS} <= _SYSTEMS
        return probe

    @pytest.fixture
    def snapshots(self, probe: Probe, telemetry_case: TelemetryCase) -> Mapping[str, Snapshot]:
        """Return the author's snapshots, else one of this machine where the plug-in is for its system."""
        if telemetry_case.snapshots:
            return telemetry_case.snapshots
        if sys.platform not in probe.SYSTEMS:
            pytest.skip(f"it is for {', '.join(probe.SYSTEMS)}: give snapshots in pytest_melt_cases (snapshots=…)")
        return {"this machine": take_snapshot(LocalTransport(), OwnFiles(), probe.GLOBS, probe.COMMANDS)}

    def test_what_it_asks_of_a_device_can_be_asked(self, probe: Probe) -> None:
        assert declared_wrongly(probe) is None
        assert [glob for glob in probe.GLOBS if not glob.startswith("/")] == []

    def test_its_channels_can_be_sampled_and_stored(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        for snapshot in snapshots.values():
            joined(Discovery(), probe.discover(snapshot, Sampling()))

    def test_a_device_that_has_it_gives_channels(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        for name, snapshot in snapshots.items():
            found = probe.discover(snapshot, Sampling())
            assert found.streams, f"nothing was found on {name}, and what is missing: {found.missing}"

    def test_a_device_without_it_gives_none(self, probe: Probe) -> None:
        assert probe.discover({}, Sampling()).streams == ()

    def test_it_looks_at_the_snapshot_alone(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        """A run's channels are derived again when its results come home, perhaps days later and without the device."""
        for snapshot in snapshots.values():
            found, did = touched(lambda snapshot=snapshot: probe.discover(snapshot, Sampling()))  # type: ignore[misc]
            assert did == [], "discover touches no file, program or network"
            again = probe.discover(dict(reversed([*snapshot.items()])), Sampling())
            assert (again.streams, again.missing) == (found.streams, found.missing), "the same each time, in one order"

    def test_odd_content_is_no_defect(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        draws = random.Random(7)
        for snapshot in snapshots.values():
            odd = [(path, content) for path in snapshot for content in _GARBAGE]
            for path, content in draws.sample(odd, min(len(odd), _AT_MOST)):
                joined(Discovery(), probe.discover({**snapshot, path: content}, Sampling()))

    def test_files_give_a_number_for_each_column(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        for snapshot in snapshots.values():
            known = [file for file in probe.discover(snapshot, Sampling()).files if file.path in snapshot]
            read = {file.path: file.parse(snapshot[file.path]) for file in known}
            assert [file.path for file in known if len(read[file.path]) != len(file.streams)] == []
            assert not read or any(math.isfinite(value) for values in read.values() for value in values)

    def test_what_cannot_be_read_is_not_measured(self, probe: Probe, snapshots: Mapping[str, Snapshot]) -> None:
        for snapshot in snapshots.values():
            found = probe.discover(snapshot, Sampling())
            sources: tuple[FileSource | LineSource, ...] = (*found.files, *found.lines)
            for source in sources:
                for content in _GARBAGE:
                    values = source.parse(content)
                    assert len(values) == len(source.streams), f"{content!r} of {source}"
                    assert not any(map(math.isinf, values)), f"{content!r} of {source}"
                assert all(map(math.isnan, source.parse(b""))), f"nothing said is nothing measured, not 0: {source}"
