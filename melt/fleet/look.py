"""A look at a device that leaves nothing on it: what it is, and how it is now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from melt.analysis.channels import PLAUSIBLE_C
from melt.records import DeviceFacts, Sampling, Stream
from melt.targets.probe import ReadsFiles, Snapshot, take_snapshot
from melt.targets.readers import NoFiles, OwnFiles, ShellFiles
from melt.targets.system import identify, read_facts
from melt.telemetry.base import FileSource, LineSource
from melt.telemetry.platforms import Platform, platform
from melt.transports.base import Transport
from melt.transports.registry import open_transport

_ONCE = "once "
"""Before the name of a program that was asked for a single reading, in a snapshot."""


@dataclass(frozen=True, slots=True)
class Health:
    """The battery's level from 0 to 1, whether it charges, and a temperature with the sensor that says it.

    `hottest_c` is what the hottest plausible sensor says, of whatever it may be.
    """

    battery_ratio: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    sensor: str | None = None
    hottest_c: float | None = None


def look(selector: str) -> tuple[DeviceFacts, Health]:
    """Return what a device is and how it is. Raises UsageError, TransportError.

    Programs are asked only where no file tells a temperature, and only those that tell it or the battery: each takes
    time, and a run may be going on there, which they would disturb.
    """
    transport = open_transport(selector)
    try:
        system = identify(transport)
        reader = _reader(transport)
        facts, known = read_facts(system, transport, reader, selector)
        channels = platform(facts.os)
        snapshot = {**known, **reader.read(channels.GLOBS)}
        health = health_of(channels, snapshot)
        if health.temperature_c is None:
            asked = {name: channels.COMMANDS[name] for name in channels.HEALTH}
            snapshot |= take_snapshot(transport, reader, (), asked)
            lines = channels.discover(snapshot, Sampling()).lines
            once = {f"{_ONCE}{line.name}": line.once for line in lines if line.once is not None}
            health = health_of(channels, snapshot | take_snapshot(transport, reader, (), once))
    finally:
        transport.close()
    return facts, health


def _reader(transport: Transport) -> ReadsFiles:
    if transport.name == "local":
        return OwnFiles()
    return ShellFiles(transport) if transport.name.startswith("ssh:") else NoFiles()


def health_of(channels: Platform, snapshot: Snapshot) -> Health:
    """Say how a device is, from its channels; the battery's temperature, else that of the hottest sensor."""
    level, charging, battery, hottest, plausible = None, None, None, None, []
    for stream, value in _values(channels, snapshot):
        if stream.quantity == "level" and level is None:
            level = value
        elif stream.name.endswith("_charging"):
            charging = bool(charging) or value == 1
        elif stream.quantity == "temperature":
            if "battery" in (stream.site, stream.name) and battery is None:
                battery = (value, stream.site)
            hottest = max(hottest or (value, stream.site), (value, stream.site))
            plausible += [value] if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1] else []
    temperature_c, sensor = battery or hottest or (None, None)
    return Health(level, charging, temperature_c, sensor, max(plausible, default=None))


def _values(channels: Platform, snapshot: Snapshot) -> Iterator[tuple[Stream, float]]:
    found = channels.discover(snapshot, Sampling())
    programs = {tuple(argv): f"$ {name}" for name, argv in channels.COMMANDS.items()}
    sources: list[tuple[FileSource | LineSource, str]] = [(file, file.path) for file in found.files]
    sources += [(line, programs.get(line.argv, f"$ {_ONCE}{line.name}")) for line in found.lines]
    for source, key in sources:
        if key in snapshot:
            for stream, value in zip(source.streams, source.parse(snapshot[key]), strict=True):
                if not math.isnan(value):
                    yield stream, value
