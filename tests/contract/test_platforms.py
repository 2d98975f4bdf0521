"""melt's own platforms, held against what melt.testing asks of every plug-in that adds channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from melt.records import Sampling
from melt.targets.probe import Snapshot, load_snapshot
from melt.telemetry.platforms import android, linux, macos
from melt.telemetry.platforms.added import Probe
from melt.testing import test_telemetry

_FOLDER = Path(__file__).parents[1] / "data" / "snapshots"
_PLATFORMS: Mapping[str, tuple[ModuleType, str]] = {
    "linux": (linux, "*.json"),
    "android": (android, "android/*.json"),
    "macos": (macos, "macos/*.json"),
}


@pytest.mark.parametrize("system", _PLATFORMS)
class TestPlatform(test_telemetry.TestTelemetry):
    @pytest.fixture
    def probe(self, system: str) -> Probe:
        module, _ = _PLATFORMS[system]
        offered = {name: getattr(module, name) for name in ("GLOBS", "COMMANDS", "discover")}
        return cast(Probe, SimpleNamespace(SYSTEMS=(system,), **offered))

    @pytest.fixture
    def snapshots(self, system: str) -> Mapping[str, Snapshot]:
        return {path.stem: load_snapshot(path.read_bytes()) for path in sorted(_FOLDER.glob(_PLATFORMS[system][1]))}

    def test_a_device_without_it_gives_none(self, probe: Probe) -> None:
        """Of every device the runner itself can be watched, and nothing else."""
        found = probe.discover({}, Sampling()).streams
        assert {stream.site for stream in found} <= {"runner"}
