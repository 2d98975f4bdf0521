"""One module per operating system: which files are worth reading, and what their contents offer.

Other packages add channels: `added`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Protocol, cast

from melt.errors import DeviceError
from melt.records import Sampling
from melt.telemetry.base import Discovery, Snapshot
from melt.telemetry.platforms.added import Probe, probes_for, with_probe

_MODULES = {
    "android": "melt.telemetry.platforms.android",
    "linux": "melt.telemetry.platforms.linux",
    "macos": "melt.telemetry.platforms.macos",
}


class Platform(Protocol):
    """What a platform module offers. `HEALTH` names those of its commands that tell of the battery and of heat."""

    GLOBS: tuple[str, ...]
    COMMANDS: Mapping[str, tuple[str, ...]]
    HEALTH: tuple[str, ...]
    EVIDENCE: Mapping[str, tuple[str, ...]]

    def discover(self, snapshot: Snapshot, sampling: Sampling) -> Discovery:
        """Turn one snapshot into channels; pure."""
        ...


def platform(os_name: str) -> Platform:
    """Return what reads an operating system as `DeviceFacts.os` names it, plug-ins included. Raises DeviceError."""
    if os_name not in _MODULES:
        raise DeviceError(f"melt cannot read {os_name!r} devices yet; it knows: {', '.join(_MODULES)}")
    return _platform(os_name)


@cache
def _platform(os_name: str) -> Platform:
    own = cast(Platform, importlib.import_module(_MODULES[os_name]))
    probes, broken = probes_for(os_name)
    if not probes and not broken:
        return own
    return _Extended(own, probes, broken)


class _Extended:
    """A platform with the channels of plug-ins behind its own."""

    def __init__(self, own: Platform, probes: Mapping[str, Probe], broken: tuple[str, ...]) -> None:
        self._own, self._probes, self._broken = own, probes, broken
        self.GLOBS: tuple[str, ...] = (*own.GLOBS, *(glob for probe in probes.values() for glob in probe.GLOBS))
        commands = {name: argv for probe in probes.values() for name, argv in probe.COMMANDS.items()}
        # A command of the platform's own keeps its name.
        self.COMMANDS: Mapping[str, tuple[str, ...]] = {**commands, **own.COMMANDS}
        self.HEALTH, self.EVIDENCE = own.HEALTH, own.EVIDENCE

    def discover(self, snapshot: Snapshot, sampling: Sampling) -> Discovery:
        """Turn one snapshot into channels; pure. What a plug-in lacks is a sentence among what is missing."""
        found = self._own.discover(snapshot, sampling)
        for who, probe in self._probes.items():
            found = with_probe(found, who, probe, snapshot, sampling)
        return replace(found, missing=(*found.missing, *self._broken))
