"""What a Linux machine offers to read, discovered from one snapshot of it: nothing is assumed to be there."""

from __future__ import annotations

from collections.abc import Mapping

from melt.records import Sampling, Stream
from melt.targets.cpus import parse_cpulist
from melt.targets.linux import virtualization
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import Discovery, FileSource
from melt.telemetry.parsers import allowed_cpus, cpu_times, joined, keyed, number, pressure, process_times
from melt.telemetry.platforms import heat, nvidia, supply
from melt.telemetry.platforms.columns import Collector, matching

_CPU = "/sys/devices/system/cpu"
_AMD_GPU = "/sys/class/drm/card*/device"

GLOBS: tuple[str, ...] = (
    "/proc/cpuinfo",
    "/proc/sys/kernel/arch",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/pressure/*",
    "/run/systemd/container",
    "/.dockerenv",
    "/sys/class/dmi/id/product_name",
    "/sys/class/dmi/id/sys_vendor",
    f"{_CPU}/online",
    f"{_CPU}/cpufreq/policy*/scaling_cur_freq",
    f"{_CPU}/cpufreq/policy*/affected_cpus",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/package_throttle_count",
    f"{_CPU}/cpu[0-9]*/topology/physical_package_id",
    "/sys/class/devfreq/*/cur_freq",
    f"{_AMD_GPU}/gpu_busy_percent",
    f"{_AMD_GPU}/mem_info_vram_used",
    *heat.GLOBS,
    *supply.GLOBS,
    *nvidia.GLOBS,
)

COMMANDS: Mapping[str, tuple[str, ...]] = nvidia.COMMANDS

EVIDENCE: Mapping[str, tuple[str, ...]] = {"dmesg": ("dmesg",)}
"""Asked after a run that did not end by itself: the kernel says whom it killed, and why. Often only root may ask."""

_SYSTEM_HZ = 10.0
"""Files that the kernel must compute are not read faster than this."""
_SLOW_HZ = 1.0
"""A battery's own controller renews its values about once a second; asking it more often only costs."""
_STAT_BYTES_PER_CPU = 160
_FILE_LIMIT_BYTES = 65_000

_MEMINFO = {
    "MemAvailable": "available",
    "MemFree": "free",
    "Cached": "cached",
    "Dirty": "dirty",
    "SwapFree": "swap_free",
}
_STATUS_MEMORY = {
    "VmRSS": "rss",
    "RssAnon": "rss_anon",
    "RssFile": "rss_file",
    "RssShmem": "rss_shmem",
    "VmHWM": "rss_peak",
    "VmSwap": "swap",
}
_STATUS_COUNTS = {
    "Threads": ("threads", False),
    "voluntary_ctxt_switches": ("switches_voluntary", True),
    "nonvoluntary_ctxt_switches": ("switches_involuntary", True),
}
_PRESSURE = {"cpu": ("some",), "io": ("some", "full"), "memory": ("some", "full")}


def discover(snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return the channels that this machine offers and, a sentence each, what it does not."""
    sensors = Collector("sensors", sampling.sensors_hz)
    system = Collector("system", min(sampling.sensors_hz, _SYSTEM_HZ))
    slow = Collector("slow", min(sampling.sensors_hz, _SLOW_HZ))
    energy, missing = supply.rapl(snapshot, sensors)
    lines, gpu_missing = nvidia.gpus(snapshot, sampling.sensors_hz)
    files = [
        *_frequencies(snapshot, sensors),
        *heat.thermal_zones(snapshot, sensors),
        *heat.hwmon(snapshot, sensors, slow),
        *energy,
        *_gpus(snapshot, sensors),
        *_load(snapshot, system),
        *_memory(snapshot, system),
        *_pressures(snapshot, system),
        *_throttling(snapshot, system),
        *heat.cooling(snapshot, system),
        *supply.supplies(snapshot, slow),
        *_process(sampling),
    ]
    found = Discovery(tuple(files), tuple(lines))
    return Discovery(found.files, found.lines, (*missing, *gpu_missing, *_absent(snapshot, found, bool(missing))))


def _frequencies(snapshot: Snapshot, sensors: Collector) -> list[FileSource]:
    """Read each policy once and write it to the column of each of its CPUs."""
    found = []
    for path in matching(snapshot, f"{_CPU}/cpufreq/policy*/scaling_cur_freq"):
        folder = path.rpartition("/")[0]
        listed = (text_of(snapshot, f"{folder}/affected_cpus") or folder.rpartition("policy")[2]).replace(" ", ",")
        cpus = parse_cpulist(listed)
        streams = tuple(sensors.stream(f"cpu{n}_freq", "frequency", site=f"cpu{n}", source=path) for n in cpus)
        if streams:
            found.append(sensors.file(path, streams, number(1e-3, copies=len(streams)), max_bytes=64))
    return found


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


def _load(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    path = "/proc/stat"
    if path not in snapshot:
        return []
    cpus = parse_cpulist(text_of(snapshot, f"{_CPU}/online") or "")
    if not cpus:
        lines = (text_of(snapshot, path) or "").splitlines()
        cpus = tuple(int(w[3:]) for line in lines if (w := line.partition(" ")[0])[3:].isdecimal() and w[:3] == "cpu")

    def seconds(base: str, site: str) -> Stream:
        return system.stream(base, "duration", site=site, source=path, cumulative=True)

    streams = [seconds(f"cpu{n}_{kind}", f"cpu{n}") for n in cpus for kind in ("busy", "total")]
    limit = min(_FILE_LIMIT_BYTES, 4096 + _STAT_BYTES_PER_CPU * len(cpus))
    return [system.file(path, (*streams, seconds("stolen", "cpu")), cpu_times(cpus), max_bytes=limit)]


def _memory(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    path = "/proc/meminfo"
    if path not in snapshot:
        return []
    streams = tuple(system.stream(base, "memory", site="memory", source=path) for base in _MEMINFO.values())
    return [system.file(path, streams, keyed(*_MEMINFO))]


def _pressures(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    found = []
    for resource, kinds in _PRESSURE.items():
        path = f"/proc/pressure/{resource}"
        if text_of(snapshot, path) is not None:
            streams = tuple(
                system.stream(f"pressure_{resource}_{kind}", "duration", site=resource, source=path, cumulative=True)
                for kind in kinds
            )
            found.append(system.file(path, streams, pressure(*kinds), max_bytes=256))
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


def _process(sampling: Sampling) -> list[FileSource]:
    """Watch the runner itself. Its status costs the kernel more than its stat: at most ten times a second is enough."""
    times = Collector("process", sampling.process_hz)
    status = Collector("process_memory", min(sampling.process_hz, _SYSTEM_HZ))
    stat_path, status_path = "/proc/{pid}/stat", "/proc/{pid}/status"
    time_streams = (
        *(
            times.stream(base, "duration", site="runner", source=stat_path, cumulative=True)
            for base in ("cpu_user", "cpu_system")
        ),
        *(
            times.stream(base, "count", site="runner", source=stat_path, cumulative=True)
            for base in ("faults_minor", "faults_major")
        ),
        times.stream("last_cpu", "state", site="runner", source=stat_path),
    )
    status_streams = (
        *(status.stream(base, "memory", site="runner", source=status_path) for base in _STATUS_MEMORY.values()),
        *(
            status.stream(base, "count", site="runner", source=status_path, cumulative=cumulative)
            for base, cumulative in _STATUS_COUNTS.values()
        ),
        status.stream("cpus_allowed", "count", site="runner", source=status_path),
    )
    return [
        times.file(stat_path, time_streams, process_times, max_bytes=1024),
        status.file(status_path, status_streams, joined(keyed(*_STATUS_MEMORY, *_STATUS_COUNTS), allowed_cpus)),
    ]


def _is_x86(snapshot: Snapshot) -> bool:
    return b"vendor_id" in snapshot.get("/proc/cpuinfo", b"")


def _absent(snapshot: Snapshot, found: Discovery, private_rapl: bool) -> list[str]:
    """Say what is not there, and what would help; on a virtual machine nothing would."""
    quantities = {stream.quantity for stream in found.streams}
    has_power = not quantities.isdisjoint(("power", "energy", "current"))
    virtual = virtualization(snapshot)
    where = "" if virtual is None else f" in this virtual system ({virtual})"
    sentences = []
    if "temperature" not in quantities:
        help_ = "" if virtual else "; load the driver of the processor's sensors (coretemp, k10temp: `sensors-detect`)"
        sentences.append(f"temperature is not measured: no thermal zone and no hwmon chip{where}{help_}")
    if not has_power and not private_rapl:
        meter = "attach a power meter"
        help_ = "" if virtual else f"; load intel_rapl_msr, or {meter}" if _is_x86(snapshot) else f"; {meter}"
        sentences.append(f"power and energy are not measured: no RAPL, battery or power sensor{where}{help_}")
    if not any(stream.quantity == "frequency" and stream.site.startswith("cpu") for stream in found.streams):
        sentences.append(f"CPU frequency is not measured: the kernel has no cpufreq driver{where}")
    return sentences
