"""What an NVIDIA Jetson says of itself beside what every Linux does."""

from __future__ import annotations

from melt.targets.probe import Snapshot, text_of

_RELEASE = "/etc/nv_tegra_release"
_COMPATIBLE = "/proc/device-tree/compatible"


def is_jetson(snapshot: Snapshot) -> bool:
    """Whether a snapshot is of a board with a Tegra chip: NVIDIA's release file says so, or the device tree."""
    return _RELEASE in snapshot or "nvidia,tegra" in (text_of(snapshot, _COMPATIBLE) or "")
