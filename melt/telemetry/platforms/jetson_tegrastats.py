"""NVIDIA's tegrastats, the last resort of a Jetson: a line of text per reading, whose form changes with each JetPack.

Labels change their case, CPUs are `off`, a clock may be missing or be a list, a rail shows one to three values of which
the first is the present one, and without root some fields are not there at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from melt.records import Sampling, Stream
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import LineSource
from melt.telemetry.platforms.columns import Collector, slug
from melt.telemetry.platforms.jetson_rails import site_of

_FASTEST_HZ = 10.0

_PROBE = """
[ -e /etc/nv_tegra_release ] || grep -q nvidia,tegra /proc/device-tree/compatible 2>/dev/null || exit 1
rails=/sys/bus/i2c/devices
cat $rails/*/hwmon/hwmon*/curr1_input $rails/*/iio:device*/in_power0_input 2>/dev/null | grep -q . && exit 1
timeout 5 tegrastats --interval 500 | head -n 1
"""
"""One line, and only of a Jetson whose rails no file tells."""

COMMANDS: Mapping[str, tuple[str, ...]] = {"tegrastats": ("sh", "-c", _PROBE)}

_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*) +(-?\d{1,7})(?:mW(?:/-?\d+mW)*|/-?\d+)(?!\S)")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d{1,4}(?:\.\d+)?)C(?![^\s/])")
_ENGINE = re.compile(r"(?<!\S)(EMC|GR3D)_FREQ +(?:(\d{1,3})%)?(?:@\[?(\d{1,5}(?:,\d{1,5})*)\]?)?(?!\S)")

_PLAUSIBLE_C = (-100.0, 250.0)
_CONSTANT = "pmic"
"""Not measured: it says 50 or 100, whatever the board does."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a line says, in our units. `busy` is 0 to 1; both it and `freq_hz` are by engine, EMC and GR3D (the GPU)."""

    rails_w: dict[str, float] = field(default_factory=dict)
    temps_c: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    freq_hz: dict[str, float] = field(default_factory=dict)


def read_line(line: str) -> Reading:
    """Read a line of tegrastats; what it does not hold, or is switched off, is left out."""
    reading = Reading()
    for label, milliwatts in _RAIL.findall(line):
        reading.rails_w.setdefault(label, int(milliwatts) / 1e3)
    for label, degrees in _TEMPERATURE.findall(line):
        if slug(label) != _CONSTANT and _PLAUSIBLE_C[0] <= float(degrees) <= _PLAUSIBLE_C[1]:
            reading.temps_c.setdefault(label, float(degrees))
    for engine, percent, megahertz in _ENGINE.findall(line):
        # Without root the memory's load reads 0 %, whatever it is, and its clock is left out.
        if percent and (megahertz or engine != "EMC"):
            reading.busy[engine] = int(percent) / 100
        if megahertz:
            reading.freq_hz[engine] = max(map(int, megahertz.split(","))) * 1e6
    return reading


def channels(snapshot: Snapshot, sampling: Sampling, told: Collection[str]) -> list[LineSource]:
    """Return the stream of what tegrastats knows and no file tells; none where it said nothing.

    `told` is as in jetson_jtop. A temperature that is there only while its part is switched on is found when it is on
    in the snapshot.
    """
    first = read_line(text_of(snapshot, "$ tegrastats") or "")
    rate_hz = sampling.sensors_hz if sampling.power_hz is None else sampling.power_hz
    period_ms = round(1e3 / min(rate_hz, _FASTEST_HZ))
    collector = Collector("tegrastats", 1e3 / period_ms)
    columns: list[tuple[Stream, Callable[[Reading], float]]] = []

    def add(base: str, quantity: str, site: str, part: str, key: str) -> None:
        stream = collector.stream(base, quantity, site=site, source="tegrastats")
        columns.append((stream, lambda now: getattr(now, part).get(key, math.nan)))

    for label in first.rails_w if "rails" not in told else ():
        site = site_of(label)
        if site is not None:
            add(f"rail_{label}_power", "power", site, "rails_w", label)
    for label in first.temps_c if "temperature" not in told else ():
        add(label, "temperature", label, "temps_c", label)
    for engine, name in (("EMC", "emc"), ("GR3D", "gpu")):
        if engine in first.busy and f"{name}_busy" not in told:
            add(f"{name}_busy", "utilization", name, "busy", engine)
        if engine in first.freq_hz and f"{name}_freq" not in told:
            add(f"{name}_freq", "frequency", name, "freq_hz", engine)
    if not columns:
        return []

    def parse(raw: bytes) -> tuple[float, ...]:
        now = read_line(raw.decode(errors="replace"))
        return tuple(read(now) for _, read in columns)

    argv = ("tegrastats", "--interval", str(period_ms))
    return [LineSource("tegrastats", argv, tuple(stream for stream, _ in columns), parse)]
