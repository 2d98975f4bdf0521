"""Everything that melt makes of a device's snapshot, a line each: what the expected sheets of tests/data hold."""

from __future__ import annotations

import dataclasses
import math

from melt.records import DeviceFacts
from melt.targets.cpus import default_threads
from melt.telemetry.base import Discovery, FileSource, LineSource, Snapshot

_WHERE_KNOWN = ("power_mode", "clocks_locked", "battery")
_OF_THE_MOMENT = ("cpus", "boot_id", "memory_bandwidth_bytes_per_s", "compute")


def render(facts: DeviceFacts, found: Discovery, snapshot: Snapshot, programs: dict[tuple[str, ...], str]) -> str:
    """Write the sheet. `programs` says where in the snapshot lies what a polled program printed."""
    lines = [
        f"fact {field.name}: {getattr(facts, field.name)}"
        for field in dataclasses.fields(facts)
        if field.name not in _OF_THE_MOMENT and not (field.name in _WHERE_KNOWN and getattr(facts, field.name) is None)
    ]
    lines += [f"fact cpu: {cpu}".replace(", level=None", "") for cpu in facts.cpus]
    lines.append(f"fact threads: {default_threads(facts)}")
    for file in found.files:
        trip = "" if file.trip_per_c is None else ", may trip"
        lines.append(f"file {file.path} at {file.rate_hz:g} Hz, {file.max_bytes} bytes{trip}")
        lines += _values(file, snapshot.get(file.path))
    for line in found.lines:
        every = "" if line.period_s is None else f" every {line.period_s:g} s"
        lines.append(f"program {' '.join(line.argv)}{every}")
        lines += _values(line, snapshot.get(programs.get(line.argv, "")))
    lines += [f"calibration {c.column}: {c.factor:g}, certain {c.certain}: {c.basis}" for c in found.calibrations]
    return "\n".join([*lines, *(f"missing {sentence}" for sentence in found.missing)]) + "\n"


def _values(source: FileSource | LineSource, raw: bytes | None) -> list[str]:
    numbers = source.parse(raw or b"")
    assert len(numbers) == len(source.streams)
    lines = []
    for stream, number in zip(source.streams, numbers, strict=True):
        counter = "" if not stream.cumulative else ", counter"
        wraps = "" if stream.wraps_at is None else f" to {stream.wraps_at:.12g}"
        shown = "-" if math.isnan(number) else f"{number:.12g}"
        what = f"{stream.collector}.{stream.name} ({stream.quantity}, {stream.unit}{counter}{wraps})"
        lines.append(f"    {what} of {stream.site}: {shown}")
    return lines
