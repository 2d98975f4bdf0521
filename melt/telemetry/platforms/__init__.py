"""One module per operating system: which files are worth reading, and what their contents offer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from melt.errors import DeviceError
from melt.records import Sampling
from melt.telemetry.base import Discovery, Snapshot

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
    """Return the module for an operating system as `DeviceFacts.os` names it. Raises DeviceError."""
    module = _MODULES.get(os_name)
    if module is None:
        raise DeviceError(f"melt cannot read {os_name!r} devices yet; it knows: {', '.join(_MODULES)}")
    return cast(Platform, importlib.import_module(module))
