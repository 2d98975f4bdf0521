"""In which state a Mac is: how hot it feels, what feeds it, how busy it is, how much memory the runner takes.

What the kernel tells in no file is asked of the agent (`kernel:` in agents/PROTOCOL.md), the rest of Apple's programs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from melt.records import Sampling
from melt.targets.macos import available_bytes, memory_bytes, settings
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import FileSource, LineSource, Parser
from melt.telemetry.parsers import cpu_times, keyed
from melt.telemetry.platforms.columns import Collector
from melt.telemetry.platforms.kernel import SYSTEM_HZ

_THERMAL_KEY = "com.apple.system.thermalpressurelevel"
_ASK_THERMAL = ("notifyutil", "-g", _THERMAL_KEY)
_ASK_BATTERY = ("ioreg", "-rw0", "-c", "AppleSmartBattery")
_ASK_MEMORY = ("vm_stat",)

BATTERY = "ioreg battery"

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "thermal pressure": _ASK_THERMAL,
    BATTERY: _ASK_BATTERY,
}

CPUS, USAGE = "kernel:cpus", "kernel:usage:{pid}"

_THERMAL_PERIOD_S = 1.0
_MEMORY_PERIOD_S = 1.0
_BATTERY_PERIOD_S = 5.0
"""The registry itself renews the battery's entries at most every few seconds."""
_BYTES_PER_CPU = 80
_PROPERTY = re.compile(r'^[ |]*"(\w+)" = (Yes|No|-?\d{1,20})[ \t]*$', re.MULTILINE)
_USAGE = {
    "cpu_user": ("user_ns", "duration", 1e9, True),
    "cpu_system": ("system_ns", "duration", 1e9, True),
    "faults_major": ("pageins", "count", 1.0, True),
    "rss": ("resident_bytes", "memory", 1.0, False),
    "footprint": ("footprint_bytes", "memory", 1.0, False),
    "footprint_peak": ("footprint_peak_bytes", "memory", 1.0, False),
}
"""Column -> the agent's name, quantity, how many of its units make one of ours, whether it is a counter."""


def thermal_pressure(snapshot: Snapshot) -> list[LineSource]:
    """Watch the level at which the system holds back: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    if math.isnan(level(snapshot.get("$ thermal pressure", b""))[0]):
        return []
    asked = Collector("thermal_pressure", 1 / _THERMAL_PERIOD_S)
    stream = asked.stream("thermal_pressure", "state", site="device", source="notifyutil")
    return [LineSource("thermal_pressure", _ASK_THERMAL, (stream,), level, _THERMAL_PERIOD_S)]


def level(raw: bytes) -> tuple[float, ...]:
    """Read the level that notifyutil prints behind the name of the key."""
    found = re.search(rb"^" + re.escape(_THERMAL_KEY.encode()) + rb"[ \t]+(\d{1,3})[ \t]*$", raw, re.MULTILINE)
    return (float(found[1]) if found else math.nan,)


def battery(snapshot: Snapshot) -> list[LineSource]:
    """Watch what feeds a laptop and how full its battery is.

    Its current is no meter: the registry has it once a minute.
    """
    fields = properties(snapshot.get(f"$ {BATTERY}", b""))
    if fields.get("BatteryInstalled") == 0:
        return []
    asked = Collector("battery", 1 / _BATTERY_PERIOD_S)
    wanted = [(asked.stream(base, q, site=site, source="ioreg"), read) for base, q, site, read in _BATTERY]
    wanted = [(stream, read) for stream, read in wanted if not math.isnan(read(fields))]
    if not wanted:
        return []

    def parse(raw: bytes) -> tuple[float, ...]:
        found = properties(raw)
        return tuple(read(found) for _, read in wanted)

    return [LineSource("battery", _ASK_BATTERY, tuple(stream for stream, _ in wanted), parse, _BATTERY_PERIOD_S)]


def properties(raw: bytes) -> dict[str, float]:
    """Return the numbers of a registry entry, Yes as 1 and No as 0; those inside its dictionaries are passed over."""
    words = {"Yes": 1.0, "No": 0.0}
    found = _PROPERTY.findall(raw.decode(errors="replace"))
    return {key: words[value] if value in words else float(value) for key, value in found}


def _level(fields: Mapping[str, float]) -> float:
    now, most = fields.get("CurrentCapacity", math.nan), fields.get("MaxCapacity", math.nan)
    return now / most if 0 <= now <= most and most > 0 else math.nan


_BATTERY: tuple[tuple[str, str, str, Callable[[Mapping[str, float]], float]], ...] = (
    ("battery_charging", "state", "battery", lambda fields: fields.get("IsCharging", math.nan)),
    ("battery_discharging", "state", "battery", lambda fields: 1 - fields.get("ExternalConnected", math.nan)),
    ("battery_level", "level", "battery", _level),
    ("ac_online", "state", "ac", lambda fields: fields.get("ExternalConnected", math.nan)),
)


def memory(snapshot: Snapshot) -> list[LineSource]:
    """Watch how much memory is available, and how much the system has compressed for want of it."""
    if not memory_bytes(text_of(snapshot, "$ vm_stat") or ""):
        return []
    asked = Collector("memory", 1 / _MEMORY_PERIOD_S)
    streams = tuple(
        asked.stream(base, quantity, site="memory", source="vm_stat", cumulative=quantity == "count")
        for base, quantity in (("memory_available", "memory"), ("memory_compressed", "memory"), ("swapouts", "count"))
    )
    return [LineSource("memory", _ASK_MEMORY, streams, memory_said, _MEMORY_PERIOD_S)]


def memory_said(raw: bytes) -> tuple[float, ...]:
    """Read what is available, what the compressor occupies, and how many pages were ever swapped out."""
    text = raw.decode(errors="replace")
    pages = memory_bytes(text)
    available = available_bytes(text)
    swapouts = re.search(r"^Swapouts:[ \t]+(\d{1,18})\.?[ \t]*$", text, re.MULTILINE)
    return (
        math.nan if available is None else float(available),
        float(pages.get("Pages occupied by compressor", math.nan)),
        float(swapouts[1]) if swapouts else math.nan,
    )


def cpus(snapshot: Snapshot, sampling: Sampling) -> list[FileSource]:
    """Count the busy and the whole time of each CPU, in seconds."""
    count = settings(snapshot).get("hw.ncpu", "")
    if not re.fullmatch(r"\d{1,3}", count) or not int(count):
        return []
    system = Collector("system", min(sampling.sensors_hz, SYSTEM_HZ))
    numbers = range(int(count))
    streams = tuple(
        system.stream(f"cpu{n}_{kind}", "duration", site=f"cpu{n}", source=CPUS, cumulative=True)
        for n in numbers
        for kind in ("busy", "total")
    )
    times = cpu_times(numbers)
    # What it finds behind the CPUs is the time that a hypervisor took away, which macOS does not count.
    return [system.file(CPUS, streams, lambda raw: times(raw)[:-1], max_bytes=_BYTES_PER_CPU * len(numbers))]


def process(sampling: Sampling) -> list[FileSource]:
    """Watch the runner itself: its time, and its memory as macOS accounts for it (ri_phys_footprint)."""
    watched = Collector("process", sampling.process_hz)
    streams = tuple(
        watched.stream(base, quantity, site="runner", source="proc_pid_rusage", cumulative=cumulative)
        for base, (_, quantity, _, cumulative) in _USAGE.items()
    )
    return [watched.file(USAGE, streams, _usage(), max_bytes=1024)]


def _usage() -> Parser:
    numbers = keyed(*(name for name, *_ in _USAGE.values()))
    per_units = tuple(per_unit for _, _, per_unit, _ in _USAGE.values())

    def parse(raw: bytes) -> tuple[float, ...]:
        return tuple(value / per_unit for value, per_unit in zip(numbers(raw), per_units, strict=True))

    return parse
