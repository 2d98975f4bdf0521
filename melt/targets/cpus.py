"""What is asked of a device's CPUs wherever it comes from: kernel lists, common features, how many threads to use."""

from __future__ import annotations

import re

from melt.records import Cpu, DeviceFacts
from melt.targets.probe import Snapshot, int_of, text_of

_SYS = "/sys/devices/system/cpu"

CPU_GLOBS: tuple[str, ...] = (
    "/proc/cpuinfo",
    "/proc/self/status",
    f"{_SYS}/online",
    f"{_SYS}/possible",
    f"{_SYS}/cpu[0-9]*/topology/core_id",
    f"{_SYS}/cpu[0-9]*/topology/physical_package_id",
    f"{_SYS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    f"{_SYS}/cpu[0-9]*/cpufreq/scaling_governor",
)
"""What `usable_cpus` and `common_features` are read from."""

_CPU_LIMIT = 8192
_AS_FAST = 0.75
"""Cores below this share of the fastest core's clock hold the others back: a layer is done when its last part is."""


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Return the CPUs of a kernel list such as `0-3,6`; a part that cannot be read is passed over."""
    cpus: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if found:
            first = int(found[1])
            cpus.update(range(first, min(int(found[2] or first), _CPU_LIMIT) + 1))
    return tuple(sorted(cpus))


def usable_cpus(snapshot: Snapshot) -> tuple[Cpu, ...]:
    """List the CPUs that are online and that a program started here may use.

    A container may have fewer than the machine, and a phone keeps some for the app in the foreground.
    """
    online = parse_cpulist(text_of(snapshot, f"{_SYS}/online") or text_of(snapshot, f"{_SYS}/possible") or "")
    if not online:
        cpuinfo = text_of(snapshot, "/proc/cpuinfo") or ""
        online = tuple(int(n) for n in re.findall(r"^processor[ \t]*:[ \t]*(\d{1,4})[ \t]*$", cpuinfo, re.MULTILINE))
    status = text_of(snapshot, "/proc/self/status") or ""
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    allowed = set(parse_cpulist(found[1])) if found else set(online)
    return tuple(_cpu(snapshot, index) for index in online if index in allowed)


def _cpu(snapshot: Snapshot, index: int) -> Cpu:
    folder = f"{_SYS}/cpu{index}"
    max_khz = int_of(snapshot, f"{folder}/cpufreq/cpuinfo_max_freq")
    return Cpu(
        index=index,
        max_hz=None if max_khz is None else max_khz * 1e3,
        core=int_of(snapshot, f"{folder}/topology/core_id"),
        package=int_of(snapshot, f"{folder}/topology/physical_package_id"),
        governor=text_of(snapshot, f"{folder}/cpufreq/scaling_governor"),
    )


def common_features(cpuinfo: str) -> tuple[str, ...]:
    """Return what every CPU of a /proc/cpuinfo can do, sorted: its `flags` (x86) or `Features` (Arm)."""
    lists = re.findall(r"^(?:flags|Features)[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return tuple(sorted(set.intersection(*(set(words.split()) for words in lists)))) if lists else ()


def default_threads(facts: DeviceFacts) -> int:
    """Return how many threads a runner gets when nobody says: one per fast physical core, at least one.

    A core's second hardware thread shares its vector units and its path to memory, and slows decoding down.
    """
    fastest_hz = max((cpu.max_hz for cpu in facts.cpus if cpu.max_hz), default=None)
    fast = [
        cpu
        for cpu in facts.cpus
        if not cpu.level and (not cpu.max_hz or fastest_hz is None or cpu.max_hz >= _AS_FAST * fastest_hz)
    ]
    return max(1, len({(cpu.package, cpu.index if cpu.core is None else cpu.core) for cpu in fast}))
