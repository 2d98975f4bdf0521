"""The files below /sys: which a profile has, and how they follow the state of the phone.

Files are rewritten in place: who keeps one open, as samplers do, sees it change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from .profiles import Profile

BATTERY = "class/power_supply/battery"
USB = "class/power_supply/usb"
CPUFREQ = "devices/system/cpu/cpufreq"


class Sysfs:
    """Values by path below /sys."""

    def __init__(self, values: Mapping[str, str], denied: tuple[str, ...] = ()) -> None:
        self._values = dict(values)
        self._denied = denied
        self._root = Path("/sys")

    def create(self, root: Path) -> None:
        """Write all files below a folder that will be /sys; denied ones only their owner, root, can read."""
        for name, value in self._values.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
            denied = any(fnmatchcase(f"/sys/{name}", pattern) for pattern in self._denied)
            path.chmod(0o400 if denied else 0o444)

    def update(self, values: Mapping[str, str]) -> None:
        """Write what changed of the files that exist."""
        for name, value in values.items():
            if self._values.get(name, value) != value:
                self._values[name] = value
                self._rewrite(name)

    def set(self, values: Mapping[str, str]) -> None:
        """Write files, new ones too."""
        for name, value in values.items():
            path = self._root / name
            self._values[name] = value
            if path.exists():
                self._rewrite(name)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{value}\n")

    def _rewrite(self, name: str) -> None:
        data = f"{self._values[name]}\n".encode()
        fd = os.open(self._root / name, os.O_WRONLY)
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def sysfs_files(profile: Profile) -> Sysfs:
    """Return the files of a profile with what they say at boot; live ones are updated by the physics."""
    values: dict[str, str] = {}
    for number, zone in enumerate(profile.thermal.zones):
        values[f"class/thermal/thermal_zone{number}/type"] = zone.type
        values[f"class/thermal/thermal_zone{number}/temp"] = str(round(zone.rest_c * zone.per_c))
    values |= {
        f"{BATTERY}/type": "Battery",
        f"{BATTERY}/present": "1",
        f"{BATTERY}/technology": "Li-ion",
        f"{BATTERY}/health": "Good",
        f"{BATTERY}/charge_full": str(profile.battery.capacity_uah),
        f"{USB}/type": "USB",
    }
    for name in ("capacity", "status", "temp", "voltage_now", "current_now", "charge_counter"):
        values[f"{BATTERY}/{name}"] = "0"
    values[f"{USB}/online"] = "1"
    values |= _cpu_files(profile)
    values |= {name.removeprefix("/sys/"): value for name, value in profile.sysfs.items()}
    return Sysfs(values, profile.denied)


def _cpu_files(profile: Profile) -> dict[str, str]:
    values = {}
    last = len(profile.cpu_clusters) - 1
    for name in ("present", "online", "possible"):
        values[f"devices/system/cpu/{name}"] = f"0-{last}"
    first = 0
    for index, cluster in enumerate(profile.cpu.clusters):
        cpus = range(first, first + cluster.cpus)
        policy = {
            "affected_cpus": " ".join(map(str, cpus)),
            "related_cpus": " ".join(map(str, cpus)),
            "cpuinfo_min_freq": str(cluster.min_khz),
            "cpuinfo_max_freq": str(cluster.max_khz),
            "scaling_min_freq": str(cluster.min_khz),
            "scaling_max_freq": str(cluster.max_khz),
            "scaling_cur_freq": str(cluster.min_khz),
            "scaling_governor": cluster.governor,
            "scaling_available_governors": f"{cluster.governor} performance powersave",
        }
        values |= {f"{CPUFREQ}/policy{first}/{name}": value for name, value in policy.items()}
        for cpu in cpus:
            values[f"devices/system/cpu/cpu{cpu}/cpu_capacity"] = str(cluster.capacity)
            values[f"devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = "0"
        values[f"class/thermal/cooling_device{index}/type"] = f"thermal-cpufreq-{index}"
        values[f"class/thermal/cooling_device{index}/cur_state"] = "0"
        values[f"class/thermal/cooling_device{index}/max_state"] = "10"
        first += cluster.cpus
    return values
