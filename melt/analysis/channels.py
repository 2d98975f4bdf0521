"""Which channels mean what: the only place where analysis looks at how a platform names its streams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from melt.analysis.series import Series, find
from melt.records import Stream
from melt.telemetry.renewal import counts
from melt.telemetry.sites import METER, RAIL, SOC, SYSTEM
from melt.traces import Trace

PLAUSIBLE_C = (1.0, 125.0)
"""Offline sensors say 0 or -256, broken ones several hundred; silicon is shut down before 125 °C."""

_DEVICE_SITE = re.compile(r"(^|\W)(psys|sys|system|device|vin|input|meter)$", re.IGNORECASE)
_PACKAGE_SITE = re.compile(r"^(package\S*|.*\W[ep]?(socket|package)\W?\d*)$", re.IGNORECASE)
_BATTERY_SITE = re.compile(r"^bat", re.IGNORECASE)
_RAIL_SITE = re.compile(f"^{RAIL}")
_MODULE_SITE = re.compile(rf"^{RAIL}(vdd_in|pom_5v_in)$", re.IGNORECASE)
"""The input of a Jetson's module: what its carrier board takes for itself, its drives and ports is not in it."""
_SOC_SITE = re.compile(rf"^{SOC}\w+(\+\w+)+$")
"""The sum of what an Apple chip's firmware computes for its parts; each of them alone is no meter."""
_SOC_AND_MEMORY_SITE = re.compile(rf"^{SOC}(?=.*\bdram\b)\w+(\+\w+)+$")
"""The same with its memory, which decoding keeps busy: the watts of the one are not those of the other."""
_GPU_SITE = re.compile(rf"^(?!.*\brail |{SOC}).*(gpu|nvidia)|^card", re.IGNORECASE)
_NOT_PROCESSOR = re.compile(r"bat|nvme|ssd|drive|wifi|iwl|spd|jc42|ambient|usb|pch|^ac$", re.IGNORECASE)

BATTERY, RAILS = "battery", "sum of power rails"
"""Scopes that energy treats on their own."""
_EXTERNAL = tuple(
    (f"external meter, {covers}", re.compile(f"^{METER}{covers}$")) for covers in ("whole device", "compute module")
)
_SCOPES = (
    # Calibrated, fast and no part of the device: what hangs on a device was put there to be believed.
    *_EXTERNAL,
    ("whole device", _DEVICE_SITE),
    ("compute module", _MODULE_SITE),
    ("CPU package", _PACKAGE_SITE),
    (BATTERY, _BATTERY_SITE),
    (RAILS, _RAIL_SITE),
    ("SoC model", _SOC_AND_MEMORY_SITE),
    ("SoC model without memory", _SOC_SITE),
    ("GPU board", _GPU_SITE),
)
"""What a power sensor covers, the widest and most trustworthy first."""

_ADDS_UP = ("CPU package", "GPU board", RAILS)


def is_runner(stream: Stream) -> bool:
    """Whether a stream is about the runner's process and not the device."""
    return stream.site == "runner"


def is_battery(stream: Stream) -> bool:
    """Whether a stream is about a battery."""
    return _BATTERY_SITE.search(stream.site) is not None


def is_renewal(stream: Stream) -> bool:
    """Whether a stream has a value where another one changed only: a silence of it is no silence of its meter."""
    return stream.site == SYSTEM or _SOC_SITE.match(stream.site) is not None


def runner_rss(traces: Iterable[Trace]) -> list[Series]:
    """Return the runner's resident memory in bytes."""
    return find(traces, lambda s: is_runner(s) and s.name == "rss_bytes")


def runner_swap(traces: Iterable[Trace]) -> list[Series]:
    """Return how much of the runner is swapped out, in bytes."""
    return find(traces, lambda s: is_runner(s) and s.name == "swap_bytes")


def runner_footprint(traces: Iterable[Trace], name: str = "footprint_bytes") -> list[Series]:
    """Return the runner's physical footprint in bytes, or the highest it ever had: what macOS accounts to it."""
    return find(traces, lambda s: is_runner(s) and s.name == name)


def runner_cpu_time(traces: Iterable[Trace]) -> list[Series]:
    """Return the runner's CPU time in seconds, user and system apart: cumulative."""
    return find(traces, lambda s: is_runner(s) and s.quantity == "duration" and s.cumulative)


def runner_major_faults(traces: Iterable[Trace]) -> list[Series]:
    """Return how many of the runner's pages had to come from the disk: cumulative."""
    return find(traces, lambda s: is_runner(s) and s.name == "faults_major")


def cpu_busy_time(traces: Iterable[Trace]) -> list[Series]:
    """Return the busy seconds of each CPU of the device: cumulative."""
    return find(traces, lambda s: s.quantity == "duration" and s.cumulative and s.name.endswith("_busy_s"))


def stolen_time(traces: Iterable[Trace]) -> list[Series]:
    """Return the seconds in which the hypervisor gave the CPUs to others: cumulative."""
    return find(traces, lambda s: s.quantity == "duration" and s.cumulative and s.name == "stolen_s")


def cpu_frequency(traces: Iterable[Trace]) -> list[Series]:
    """Return the frequency of each CPU in Hz."""
    return find(traces, lambda s: s.quantity == "frequency" and re.fullmatch(r"cpu\d+", s.site) is not None)


def gpu_frequency(traces: Iterable[Trace]) -> list[Series]:
    """Return the frequency of each graphics processor in Hz."""
    return find(traces, lambda s: s.quantity == "frequency" and _GPU_SITE.search(s.site) is not None)


def throttle_counts(traces: Iterable[Trace]) -> list[Series]:
    """Return how often the hardware throttled: cumulative."""
    return find(traces, lambda s: s.quantity == "count" and s.cumulative and "throttled" in s.name)


def cooling_states(traces: Iterable[Trace]) -> list[Series]:
    """Return how much the kernel slows a processor down to cool it; 0: not at all."""
    return find(traces, lambda s: s.quantity == "state" and s.name.startswith("cooling_"))


def thermal_status(traces: Iterable[Trace]) -> list[Series]:
    """Return the throttling status that a phone reports of itself, 0 none to 6 shutdown."""
    return find(traces, lambda s: s.quantity == "state" and s.name == "thermal_status")


def thermal_pressure(traces: Iterable[Trace]) -> list[Series]:
    """Return the thermal pressure that a Mac reports of itself, 0 nominal to 4 sleeping."""
    return find(traces, lambda s: s.quantity == "state" and s.name == "thermal_pressure")


def stood_still(traces: Sequence[Trace]) -> bool:
    """Whether there were counters of a chip's parts, and no moment at which they moved."""
    moved = find(traces, lambda s: _SOC_SITE.match(s.site) is not None)
    return not moved and any(map(counts, traces))


def clock_limits(traces: Iterable[Trace]) -> list[Series]:
    """Return the highest clock that each group of CPUs may run at, in Hz."""
    return find(traces, lambda s: s.quantity == "frequency" and "_limit_" in s.name)


def governors(traces: Iterable[Trace]) -> list[Series]:
    """Return the CPU governor of each group of CPUs, as a number that stands for its name."""
    return find(traces, lambda s: s.quantity == "state" and s.name.endswith("_governor"))


def power_modes(traces: Iterable[Trace]) -> list[Series]:
    """Return a Jetson's power mode and whether its clocks are fixed, as numbers that stand for them."""
    return find(traces, lambda s: s.quantity == "state" and s.name in ("nvpmodel", "jetson_clocks"))


def screen(traces: Iterable[Trace]) -> list[Series]:
    """Return whether the screen is on, 1 or 0."""
    return find(traces, lambda s: s.quantity == "state" and s.name == "screen_on")


def battery_level(traces: Iterable[Trace]) -> list[Series]:
    """Return how full the battery that feeds the device is, 0 to 1; a mouse's has another name."""
    return find(traces, lambda s: s.quantity == "level" and _BATTERY_SITE.match(s.site) is not None)


def charging(traces: Iterable[Trace]) -> list[Series]:
    """Return whether a battery is being charged, 1 or 0."""
    return find(traces, lambda s: s.quantity == "state" and s.name.endswith("_charging"))


def discharging(traces: Iterable[Trace]) -> list[Series]:
    """Return whether a battery alone feeds the device, 1 or 0."""
    return find(traces, lambda s: s.quantity == "state" and s.name.endswith("_discharging"))


def temperatures(traces: Iterable[Trace]) -> list[Series]:
    """Return the believable temperatures in °C, those of drives and batteries only where there is no other.

    A sensor that never moves is passed over when another does: firmware of virtual machines and some power chips say
    one number for ever.
    """
    low, high = PLAUSIBLE_C
    believable = []
    for series in find(traces, lambda s: s.quantity == "temperature"):
        kept = (series.values > low) & (series.values < high)
        if kept.any():
            believable.append(Series(series.stream, series.t_ns[kept], series.values[kept]))
    processors = [s for s in believable if not _NOT_PROCESSOR.search(s.stream.site)] or believable
    return [s for s in processors if s.values.min() < s.values.max()] or processors


def battery_temperatures(traces: Iterable[Trace]) -> list[Series]:
    """Return the temperatures of batteries in °C: slow, and what a phone's case feels like."""
    low, high = PLAUSIBLE_C
    found = find(traces, lambda s: s.quantity == "temperature" and is_battery(s))
    return [s for s in found if low < float(s.values.min()) and float(s.values.max()) < high]


def power_meter(traces: Sequence[Trace], *, battery: bool = True) -> tuple[str, list[Series]] | None:
    """Return the scope of the best power sensor and the series that add up to it; None when there is no sensor.

    `battery`: whether what a battery says may be believed.

    Within a scope a counter of energy is better than samples of power: the hardware integrated it. A battery measures
    the device only while nothing else feeds it.
    """
    counters = find(traces, lambda s: s.quantity == "energy" and s.cumulative)
    powers = find(traces, lambda s: s.quantity == "power")
    for scope, site in _SCOPES:
        if scope == BATTERY and (not battery or _on_mains(traces)):
            continue
        for kind in (counters, powers):
            found = {s.stream.site: s for s in reversed(kind) if site.search(s.stream.site)}
            if found:
                series = sorted(found.values(), key=lambda s: s.stream.site)
                return scope, series if scope in _ADDS_UP else series[:1]
    return None


def _on_mains(traces: Sequence[Trace]) -> bool:
    """Whether anything but a battery fed the device. Batteries of a known state have no power while they are fed."""
    known = {s.stream.site for s in discharging(traces)}
    mains = find(traces, lambda s: s.quantity == "state" and s.name.endswith("_online"))
    fed = [s for s in charging(traces) if s.stream.site not in known]
    return any(bool((s.values > 0).any()) for s in (*mains, *fed))
