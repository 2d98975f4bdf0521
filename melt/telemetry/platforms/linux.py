"""What a Linux machine offers to read, discovered from one snapshot of it: nothing is assumed to be there."""

from __future__ import annotations

from collections.abc import Mapping

from melt.records import Sampling
from melt.targets.jetson import is_jetson
from melt.targets.linux import virtualization
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import Discovery, FileSource
from melt.telemetry.platforms import heat, jetson, jetson_rails, kernel, nvidia, supply
from melt.telemetry.platforms.columns import Collector, matching

_CPU = kernel.CPU
_AMD_GPU = "/sys/class/drm/card*/device"

GLOBS: tuple[str, ...] = (
    "/proc/cpuinfo",
    "/proc/sys/kernel/arch",
    "/run/systemd/container",
    "/.dockerenv",
    "/sys/class/dmi/id/product_name",
    "/sys/class/dmi/id/sys_vendor",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/package_throttle_count",
    f"{_CPU}/cpu[0-9]*/topology/physical_package_id",
    "/sys/class/devfreq/*/cur_freq",
    f"{_AMD_GPU}/gpu_busy_percent",
    f"{_AMD_GPU}/mem_info_vram_used",
    *kernel.GLOBS,
    *heat.GLOBS,
    *supply.GLOBS,
    *nvidia.GLOBS,
    *jetson.GLOBS,
)

COMMANDS: Mapping[str, tuple[str, ...]] = {**nvidia.COMMANDS, **jetson.COMMANDS}

HEALTH = tuple(COMMANDS)

EVIDENCE: Mapping[str, tuple[str, ...]] = {"dmesg": ("dmesg",)}
"""Asked after a run that did not end by itself: the kernel says whom it killed, and why. Often only root may ask."""


def discover(snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return the channels that this machine offers and, a sentence each, what it does not."""
    sensors = Collector("sensors", sampling.sensors_hz)
    system = Collector("system", min(sampling.sensors_hz, kernel.SYSTEM_HZ))
    slow = Collector("slow", min(sampling.sensors_hz, kernel.SLOW_HZ))
    energy, missing = supply.rapl(snapshot, sensors)
    lines, gpu_missing = nvidia.gpus(snapshot, sampling.sensors_hz) if jetson.heeds_nvidia_smi(snapshot) else ([], [])
    board = jetson.channels(snapshot, sampling, sensors, slow, gpu_is_told=bool(lines))
    files = [
        *kernel.frequencies(snapshot, sensors),
        *heat.thermal_zones(snapshot, sensors, asleep=is_jetson(snapshot)),
        *heat.hwmon(snapshot, sensors, slow, jetson_rails.CHIPS if is_jetson(snapshot) else ()),
        *energy,
        *_gpus(snapshot, sensors),
        *board.files,
        *kernel.load(snapshot, system),
        *kernel.memory(snapshot, system),
        *kernel.pressures(snapshot, system),
        *_throttling(snapshot, system),
        *heat.cooling(snapshot, system),
        *supply.supplies(snapshot, slow),
        *kernel.process(sampling),
    ]
    found = Discovery(tuple(files), (*lines, *board.lines))
    power_is_told = bool(missing) or jetson.NO_POWER in board.missing
    missing += [*gpu_missing, *board.missing, *_absent(snapshot, found, power_is_told)]
    return Discovery(found.files, found.lines, tuple(missing))


def _gpus(snapshot: Snapshot, sensors: Collector) -> list[FileSource]:
    """Read devfreq clocks (the GPU and memory of Arm boards) and amdgpu's own files."""
    found = []
    for path in matching(snapshot, "/sys/class/devfreq/*/cur_freq"):
        site = path.split("/")[4]
        found.append(sensors.sensor(path, f"devfreq_{site}", "frequency", site=site))
    for path in matching(snapshot, f"{_AMD_GPU}/gpu_busy_percent"):
        site = path.split("/")[4]
        found.append(sensors.sensor(path, f"{site}_busy", "utilization", site=site, per_unit=100))
    for path in matching(snapshot, f"{_AMD_GPU}/mem_info_vram_used"):
        site = path.split("/")[4]
        found.append(sensors.sensor(path, f"{site}_vram", "memory", site=site))
    return found


def _throttling(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    """Count thermal throttling (Intel): one file per CPU, and one per package."""
    found = []
    for path in matching(snapshot, f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count"):
        site = path.split("/")[5]
        found.append(system.sensor(path, f"{site}_throttled", "count", site=site, cumulative=True))
    seen = set()
    for path in matching(snapshot, f"{_CPU}/cpu[0-9]*/thermal_throttle/package_throttle_count"):
        package = text_of(snapshot, f"{path.rpartition('/thermal_throttle')[0]}/topology/physical_package_id") or "0"
        if package not in seen:
            seen.add(package)
            site = f"package{package}"
            found.append(system.sensor(path, f"{site}_throttled", "count", site=site, cumulative=True))
    return found


def _is_x86(snapshot: Snapshot) -> bool:
    return b"vendor_id" in snapshot.get("/proc/cpuinfo", b"")


def _absent(snapshot: Snapshot, found: Discovery, power_is_told: bool) -> list[str]:
    """Say what is not there, and what would help; on a virtual machine nothing would."""
    quantities = {stream.quantity for stream in found.streams}
    has_power = not quantities.isdisjoint(("power", "energy", "current"))
    virtual = virtualization(snapshot)
    where = "" if virtual is None else f" in this virtual system ({virtual})"
    sentences = []
    if "temperature" not in quantities:
        help_ = "" if virtual else "; load the driver of the processor's sensors (coretemp, k10temp: `sensors-detect`)"
        sentences.append(f"temperature is not measured: no thermal zone and no hwmon chip{where}{help_}")
    if not has_power and not power_is_told:
        meter = "attach a power meter"
        help_ = "" if virtual else f"; load intel_rapl_msr, or {meter}" if _is_x86(snapshot) else f"; {meter}"
        sentences.append(f"power and energy are not measured: no RAPL, battery or power sensor{where}{help_}")
    if not any(stream.quantity == "frequency" and stream.site.startswith("cpu") for stream in found.streams):
        sentences.append(f"CPU frequency is not measured: the kernel has no cpufreq driver{where}")
    return sentences
