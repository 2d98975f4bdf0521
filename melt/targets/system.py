"""Which system a device runs: where melt's folder lies there, and which files and commands tell what it is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from melt.records import DeviceFacts
from melt.targets.probe import ReadsFiles, Snapshot, take_snapshot
from melt.transports.base import Transport

_LINUX = "melt.targets.linux"
_ANDROID = "melt.targets.android"
_MACOS = "melt.targets.macos"


class System(Protocol):
    """What the module of an operating system offers."""

    FACT_GLOBS: tuple[str, ...]
    FACT_COMMANDS: Mapping[str, tuple[str, ...]]

    def root(self, transport: Transport) -> str:
        """Return melt's folder on the device; it need not exist yet. Raises UsageError, TransportError."""
        ...

    def parse_facts(self, snapshot: Snapshot, *, device_id_hint: str, kind: str) -> DeviceFacts:
        """Return what a snapshot says of its device; pure. What it does not say is None."""
        ...


def read_facts(
    system: System, transport: Transport, reader: ReadsFiles, selector: str
) -> tuple[DeviceFacts, dict[str, bytes]]:
    """Look at a device and return what it is, with the snapshot that says so. Raises TransportError, AgentError.

    `reader` is the agent, or what stands in for it where none is to be left on the device.
    """
    known = take_snapshot(transport, reader, system.FACT_GLOBS, system.FACT_COMMANDS)
    return system.parse_facts(known, device_id_hint=selector, kind=selector.partition(":")[0]), known


def identify(transport: Transport) -> System:
    """Ask a device which system it runs. Raises TransportError."""
    return cast(System, importlib.import_module(_module(transport)))


def _module(transport: Transport) -> str:
    if transport.run(("uname", "-s")).stdout.strip() == b"Darwin":
        return _MACOS
    sdk = transport.run(("getprop", "ro.build.version.sdk"))
    return _ANDROID if sdk.exit_code == 0 and sdk.stdout.strip().isdigit() else _LINUX
