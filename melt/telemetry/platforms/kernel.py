"""What every Linux kernel offers to read, a phone's and a board's too: clocks, load, memory, the runner itself."""

from __future__ import annotations

from melt.records import Sampling, Stream
from melt.targets.cpus import parse_cpulist
from melt.targets.probe import Snapshot, keyed_bytes, text_of
from melt.telemetry.base import FileSource
from melt.telemetry.parsers import allowed_cpus, cpu_times, joined, keyed, name_number, number, pressure, process_times
from melt.telemetry.platforms.columns import Collector, matching

CPU = "/sys/devices/system/cpu"

GLOBS: tuple[str, ...] = (
    "/proc/stat",
    "/proc/meminfo",
    "/proc/pressure/*",
    f"{CPU}/online",
    f"{CPU}/present",
    f"{CPU}/cpufreq/policy*/scaling_cur_freq",
    f"{CPU}/cpufreq/policy*/affected_cpus",
    f"{CPU}/cpufreq/policy*/scaling_governor",
    f"{CPU}/cpufreq/policy*/scaling_max_freq",
)

SYSTEM_HZ = 10.0
"""Files that the kernel must compute are not read faster than this."""
SLOW_HZ = 1.0
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
_MEMINFO_OF_TEGRA = {"NvMapMemUsed": "nvmap"}
"""What the GPU and other engines of a Jetson have taken of the memory that they share with the CPUs."""
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


def frequencies(snapshot: Snapshot, sensors: Collector) -> list[FileSource]:
    """Read each policy's clock once for the columns of its CPUs; its limit and its governor once a second."""
    found = []
    slow = Collector("policies", min(sensors.rate_hz, SLOW_HZ))
    for path in matching(snapshot, f"{CPU}/cpufreq/policy*/scaling_cur_freq"):
        folder = path.rpartition("/")[0]
        listed = (text_of(snapshot, f"{folder}/affected_cpus") or folder.rpartition("policy")[2]).replace(" ", ",")
        cpus = parse_cpulist(listed)
        streams = tuple(sensors.stream(f"cpu{n}_freq", "frequency", site=f"cpu{n}", source=path) for n in cpus)
        if streams:
            found.append(sensors.file(path, streams, number(1e-3, copies=len(streams)), max_bytes=64))
    for path in matching(snapshot, f"{CPU}/cpufreq/policy*/scaling_max_freq"):
        site = path.split("/")[-2]
        found.append(slow.sensor(path, f"{site}_limit", "frequency", site=site, per_unit=1e-3))
    for path in matching(snapshot, f"{CPU}/cpufreq/policy*/scaling_governor"):
        site = path.split("/")[-2]
        found.append(slow.file(path, (slow.stream(f"{site}_governor", "state", site=site, source=path),), name_number))
    return found


def load(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    """Count the busy and total seconds of each CPU, also of those that are off: a power mode may switch them on."""
    path = "/proc/stat"
    if path not in snapshot:
        return []
    cpus = parse_cpulist(text_of(snapshot, f"{CPU}/present") or text_of(snapshot, f"{CPU}/online") or "")
    if not cpus:
        lines = (text_of(snapshot, path) or "").splitlines()
        cpus = tuple(int(w[3:]) for line in lines if (w := line.partition(" ")[0])[3:].isdecimal() and w[:3] == "cpu")

    def seconds(base: str, site: str) -> Stream:
        return system.stream(base, "duration", site=site, source=path, cumulative=True)

    streams = [seconds(f"cpu{n}_{kind}", f"cpu{n}") for n in cpus for kind in ("busy", "total")]
    limit = min(_FILE_LIMIT_BYTES, 4096 + _STAT_BYTES_PER_CPU * len(cpus))
    return [system.file(path, (*streams, seconds("stolen", "cpu")), cpu_times(cpus), max_bytes=limit)]


def memory(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    """Read how much memory is free, available and cached."""
    path = "/proc/meminfo"
    if path not in snapshot:
        return []
    here = keyed_bytes(snapshot, path)
    kinds = _MEMINFO | {key: base for key, base in _MEMINFO_OF_TEGRA.items() if key in here}
    streams = tuple(system.stream(base, "memory", site="memory", source=path) for base in kinds.values())
    return [system.file(path, streams, keyed(*kinds))]


def pressures(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    """Count the seconds in which work stood still for want of CPU, disk or memory."""
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


def process(sampling: Sampling) -> list[FileSource]:
    """Watch the runner itself. Its status costs the kernel more than its stat: at most ten times a second is enough."""
    times = Collector("process", sampling.process_hz)
    status = Collector("process_memory", min(sampling.process_hz, SYSTEM_HZ))
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
