"""What is asked of a device's CPUs wherever it comes from: kernel lists, common features, how many threads to use."""

from __future__ import annotations

import re

from melt.records import DeviceFacts

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


def common_features(cpuinfo: str) -> tuple[str, ...]:
    """Return what every CPU of a /proc/cpuinfo can do, sorted: its `flags` (x86) or `Features` (Arm)."""
    lists = re.findall(r"^(?:flags|Features)[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return tuple(sorted(set.intersection(*(set(words.split()) for words in lists)))) if lists else ()


def default_threads(facts: DeviceFacts) -> int:
    """Return how many threads a runner gets when nobody says: one per fast physical core, at least one.

    A core's second hardware thread shares its vector units and its path to memory, and slows decoding down.
    """
    fastest_hz = max((cpu.max_hz for cpu in facts.cpus if cpu.max_hz), default=None)
    fast = [cpu for cpu in facts.cpus if not cpu.max_hz or fastest_hz is None or cpu.max_hz >= _AS_FAST * fastest_hz]
    return max(1, len({(cpu.package, cpu.index if cpu.core is None else cpu.core) for cpu in fast}))
