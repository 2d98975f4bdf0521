"""What an NVIDIA Jetson says of itself beside what every Linux does: JetPack, GPU, power mode, and fixed clocks.

Power modes are nvpmodel's, clocks are fixed by jetson_clocks: https://docs.nvidia.com/jetson/archives/ ("Power and
Performance"). What both print differs little from JetPack 4 to 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from melt.targets.devicetree import tree_text
from melt.targets.probe import Snapshot, text_of

_RELEASE = "/etc/nv_tegra_release"

CPU_CLOCKS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
GPU_CLOCKS = tuple(f"/sys/class/devfreq/*.{name}" for name in ("gpu", "gp10b", "gv11b", "ga10b"))
"""Folders with the limits of clocks; the GPU's is named after the device tree, which differs by chip and JetPack."""

CPU_LIMITS = ("scaling_min_freq", "scaling_max_freq")
GPU_LIMITS = ("min_freq", "max_freq")

FACT_GLOBS: tuple[str, ...] = (
    _RELEASE,
    *(f"{CPU_CLOCKS}/{name}" for name in CPU_LIMITS),
    *(f"{folder}/{name}" for folder in GPU_CLOCKS for name in GPU_LIMITS),
)

# Some users have no sbin in their PATH. nvpmodel complains of files that only root reads, and fails then, having
# printed the mode; where there is no such program the command fails as well, and nothing is kept of it.
QUERY = ("sh", "-c", 'PATH=$PATH:/usr/sbin; nvpmodel -q 2>/dev/null; [ "$?" -lt 126 ]')

FACT_COMMANDS: dict[str, tuple[str, ...]] = {"nvpmodel": QUERY}

_GPUS = {
    "tegra210": "Maxwell",
    "tegra186": "Pascal",
    "tegra194": "Volta",
    "tegra234": "Ampere",
    "tegra264": "Blackwell",
}

# https://developer.nvidia.com/embedded/jetpack-archive and https://developer.nvidia.com/embedded/jetson-linux-archive
_JETPACKS = {
    "39.2.2": "7.2.2",
    "39.2.1": "7.2.1",
    "39.2.0": "7.2",
    "38.4.0": "7.1",
    "38.2.2": "7.0",
    "38.2.1": "7.0",
    "38.2.0": "7.0",
    "36.5.2": "6.2.3",
    "36.5.0": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4.2": "6.1.1",
    "36.4.0": "6.1",
    "36.3.0": "6.0",
    "36.2.0": "6.0 DP",
    "35.6.5": "5.1.7",
    "35.6.4": "5.1.6",
    "35.6.3": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.1": "5.1.5",
    "35.6.0": "5.1.4",
    "35.5.0": "5.1.3",
    "35.4.1": "5.1.2",
    "35.3.1": "5.1.1",
    "35.2.1": "5.1",
    "35.1.0": "5.0.2",
    "34.1.1": "5.0.1 DP",
    "34.1.0": "5.0 DP",
    "32.7.6": "4.6.6",
    "32.7.5": "4.6.5",
    "32.7.4": "4.6.4",
    "32.7.3": "4.6.3",
    "32.7.2": "4.6.2",
    "32.7.1": "4.6.1",
    "32.6.1": "4.6",
    "32.5.2": "4.5.1",
    "32.5.1": "4.5.1",
    "32.5.0": "4.5",
    "32.4.4": "4.4.1",
    "32.4.3": "4.4",
    "32.4.2": "4.4 DP",
    "32.3.1": "4.3",
    "32.2.3": "4.2.3",
    "32.2.1": "4.2.2",
    "32.2.0": "4.2.1",
    "32.1.0": "4.2",
}


def is_jetson(snapshot: Snapshot) -> bool:
    """Whether a snapshot is of a board with a Tegra chip: NVIDIA's release file says so, or the device tree."""
    return _RELEASE in snapshot or chip(snapshot) is not None


def chip(snapshot: Snapshot) -> str | None:
    """Return the chip, `tegra234`. JetPack 5 names a family (`tegra23x`) behind it."""
    words = re.findall(r"\bnvidia,(tegra\d+)(?:\0|$)", tree_text(snapshot, "compatible") or "")
    return words[-1] if words else None


def name(snapshot: Snapshot) -> str | None:
    """Return the board's name, which firmware repeats elsewhere in other words."""
    return tree_text(snapshot, "model")


def os_build(snapshot: Snapshot) -> str | None:
    """Return `JetPack 6.2 (L4T 36.4.3)`, `L4T 99.1.0` where no JetPack of that release is known, or None."""
    said = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]*\d)", text_of(snapshot, _RELEASE) or "")
    if said is None:
        return None
    release = f"{said[1]}.{said[2]}"
    jetpack = _JETPACKS.get(release)
    return f"JetPack {jetpack} (L4T {release})" if jetpack else f"L4T {release}"


def gpu(snapshot: Snapshot, driver: str | None = None) -> str | None:
    """Name the GPU in the chip. `driver` is its version where nvidia-smi told it, JetPack 6 and later."""
    family = _GPUS.get(chip(snapshot) or "")
    if family is None:
        return None
    return f"integrated {family} GPU" + (f", driver {driver}" if driver else "")


def power_mode(snapshot: Snapshot) -> str | None:
    """Return the name of nvpmodel's power mode, None where there is none or none was set."""
    said = parse_mode((snapshot.get("$ nvpmodel") or b"").decode(errors="replace"))
    return None if said is None else said[0]


def parse_mode(text: str) -> tuple[str, int] | None:
    """Read the name and number of the mode out of what `nvpmodel -q` printed."""
    said = re.search(r"^NV Power Mode:[ \t]*(\S.*?)[ \t\r]*\n[ \t]*(\d{1,4})[ \t\r]*$", text, re.MULTILINE)
    return (said[1], int(said[2])) if said else None


def clocks_locked(snapshot: Snapshot) -> bool | None:
    """Whether the lowest clock that CPUs and GPU may take is their highest, as jetson_clocks does it. None: unknown."""
    cpus = list(_limits(snapshot, "/sys/devices/system/cpu/", CPU_LIMITS))
    gpus = list(_limits(snapshot, "/sys/class/devfreq/", GPU_LIMITS))
    return all(low == high for low, high in [*cpus, *gpus]) if cpus else None


def _limits(snapshot: Snapshot, begin: str, names: tuple[str, str]) -> Iterable[tuple[bytes, bytes]]:
    low, high = names
    for path in snapshot:
        if path.startswith(begin) and path.endswith(f"/{low}"):
            highest = snapshot.get(path.removesuffix(low) + high)
            if highest is not None:
                yield snapshot[path].strip(), highest.strip()
