"""The files below /sys of a board, each where its kernel has it; what moves is written by physics.py.

Files are rewritten in place, so that who keeps one open sees it change, and never cut: between a shorter value and the
cut a reader would find the old one's last digits.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from .profiles import Profile, Rails
from .texts import emc_cap

CPU = "devices/system/cpu"
ZONES = "devices/virtual/thermal"
FAN_JP6 = "devices/platform/pwm-fan/hwmon/hwmon0"
TACHO_JP6 = "devices/platform/bus@0/39c0000.tachometer/hwmon/hwmon2"
FAN_JP4 = "devices/pwm-fan"
EMC_JP6 = "kernel/debug/bpmp/debug/clk/emc"
EMC_JP4 = "kernel/debug/clk/override.emc"
TREE = "firmware/devicetree/base"


class Sysfs:
    """Files by path below a folder that is, or will be, /sys."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._said: dict[str, str] = {}

    def create(self, name: str, value: object, mode: int = 0o644) -> None:
        """Write a new file, with the folders above it."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        path.chmod(mode)

    def property(self, name: str, *values: str) -> None:
        """Write a property of the device tree, whose strings end in a zero byte and not in a line's end."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(value + "\0" for value in values))

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link to a folder below /sys, relative as the kernel's are."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(self._root / target, path.parent))

    def read(self, name: str) -> str:
        """Return what a file says now, whoever wrote it."""
        return (self._root / name).read_text().strip("\n\0 ")

    def integer(self, name: str) -> int:
        """Return a file's whole number."""
        return int(self.read(name))

    def update(self, name: str, value: object) -> None:
        """Let a file say something else from now on."""
        text = str(value)
        if self._said.get(name) != text:
            overwrite(self._root / name, text)
            self._said[name] = text


def overwrite(path: Path, text: str) -> None:
    """Write a file in place; a shorter text is followed by empty lines."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, text.encode().rstrip(b"\n").ljust(os.fstat(fd).st_size - 1, b"\n") + b"\n", 0)
    finally:
        os.close(fd)


def gpu_folder(profile: Profile) -> str:
    """Return the GPU's device."""
    return f"devices/{profile.gpu.folder}"


def gpu_devfreq(profile: Profile) -> str:
    """Return where the GPU's clock is."""
    return f"{gpu_folder(profile)}/devfreq/{profile.gpu.address}"


def channels(rails: Rails) -> list[str]:
    """Return the names of the meter's channels, in their order."""
    return list(dict.fromkeys(filter(None, (rails.total, rails.gpu, rails.cpu, rails.rest))))


def rails_folder(profile: Profile) -> str:
    """Return where the meter's values are."""
    rails = profile.rails
    device = f"devices/{rails.folder}/{rails.device}"
    return f"{device}/hwmon/hwmon1" if rails.layout == "hwmon" else f"{device}/iio:device0"


def make_sysfs(root: Path, profile: Profile) -> Sysfs:
    """Write all files of a board at rest, in its default power mode; return them."""
    sysfs = Sysfs(root)
    _cpus(sysfs, profile)
    _gpu(sysfs, profile)
    _rails(sysfs, profile)
    _zones(sysfs, profile)
    _memory(sysfs, profile)
    _fan(sysfs, profile)
    sysfs.property(f"{TREE}/model", profile.model)
    sysfs.property(f"{TREE}/compatible", *profile.compatible)
    sysfs.property(f"{TREE}/serial-number", profile.serial)
    (root / "kernel/debug").chmod(0o700)  # debugfs is root's alone
    (root / "class/power_supply").mkdir(parents=True)
    return sysfs


def _cpus(sysfs: Sysfs, profile: Profile) -> None:
    cpu = profile.cpu
    mode = profile.mode(profile.default_mode)
    bounds = [*cpu.clusters, cpu.count]
    sysfs.create(f"{CPU}/online", f"0-{mode.cpus - 1}")
    sysfs.create(f"{CPU}/possible", f"0-{cpu.count - 1}")
    sysfs.create(f"{CPU}/present", f"0-{cpu.count - 1}")
    for first, end in itertools.pairwise(bounds):
        policy = f"{CPU}/cpufreq/policy{first}"
        members = " ".join(str(number) for number in range(first, end))
        for name, value in {
            "affected_cpus": members,
            "related_cpus": members,
            "cpuinfo_max_freq": cpu.steps_khz[-1],
            "cpuinfo_min_freq": cpu.steps_khz[0],
            "cpuinfo_cur_freq": cpu.lowest_khz,
            "scaling_available_frequencies": " ".join(map(str, cpu.steps_khz)),
            "scaling_available_governors": "performance schedutil",
            "scaling_cur_freq": cpu.lowest_khz,
            "scaling_driver": "tegra194" if not profile.legacy_debugfs else "tegra",
            "scaling_governor": "schedutil",
            "scaling_max_freq": mode.cpu_max_khz,
            "scaling_min_freq": cpu.lowest_khz,
        }.items():
            sysfs.create(f"{policy}/{name}", value)
        for number in range(first, end):
            sysfs.create(f"{CPU}/cpu{number}/online", int(number < mode.cpus))
            sysfs.create(f"{CPU}/cpu{number}/topology/core_id", number - first)
            sysfs.create(f"{CPU}/cpu{number}/topology/physical_package_id", cpu.clusters.index(first))
            sysfs.link(f"{CPU}/cpu{number}/cpufreq", policy)


def _gpu(sysfs: Sysfs, profile: Profile) -> None:
    gpu, device, devfreq = profile.gpu, gpu_folder(profile), gpu_devfreq(profile)
    mode = profile.mode(profile.default_mode)
    sysfs.property(f"{device}/of_node/name", "gpu")
    for name, value in {
        "load": 0,
        "railgate_enable": 1,
        "enable_3d_scaling": 1,
        "tpc_pg_mask": mode.gpu_mask or 0,
        "power/control": "auto",
    }.items():
        sysfs.create(f"{device}/{name}", value)
    for name, value in {
        "available_frequencies": " ".join(map(str, gpu.steps_hz)),
        "available_governors": "performance nvhost_podgov",
        "cur_freq": gpu.steps_hz[0],
        "governor": "nvhost_podgov",
        "max_freq": mode.gpu_max_hz,
        "min_freq": gpu.steps_hz[0],
    }.items():
        sysfs.create(f"{devfreq}/{name}", value)
    sysfs.link(f"{devfreq}/device", device)
    sysfs.link(f"class/devfreq/{gpu.address}", devfreq)


def _rails(sysfs: Sysfs, profile: Profile) -> None:
    rails, folder = profile.rails, rails_folder(profile)
    device = f"devices/{rails.folder}/{rails.device}"
    sysfs.create(f"{device}/name", "ina3221" if rails.layout == "hwmon" else "ina3221x")
    sysfs.link(f"bus/i2c/devices/{rails.device}", device)
    if rails.layout == "iio":
        sysfs.create(f"{folder}/name", "ina3221x")
        sysfs.link("bus/iio/devices/iio:device0", folder)
        for index, name in enumerate(channels(rails)):
            sysfs.create(f"{folder}/rail_name_{index}", name)
            for quantity in ("voltage", "current", "power"):
                sysfs.create(f"{folder}/in_{quantity}{index}_input", 0)
            sysfs.create(f"{folder}/warn_current_limit_{index}", "32760 ma")
            sysfs.create(f"{folder}/crit_current_limit_{index}", "32760 ma")
        return
    sysfs.create(f"{folder}/name", "ina3221")
    sysfs.link(f"bus/i2c/drivers/ina3221/{rails.device}", device)
    sysfs.link("class/hwmon/hwmon1", folder)
    for index, name in enumerate(channels(rails), 1):
        sysfs.create(f"{folder}/in{index}_label", name)
        for suffix, value in {"max": 32760, "crit": 32760, "max_alarm": 0, "crit_alarm": 0, "input": 0}.items():
            sysfs.create(f"{folder}/curr{index}_{suffix}", value)
        sysfs.create(f"{folder}/in{index}_input", 0)
        sysfs.create(f"{folder}/in{index}_enable", 1)
        sysfs.create(f"{folder}/shunt{index}_resistor", 5000)
        sysfs.create(f"{folder}/in{index + 3}_input", 1)
    sysfs.create(f"{folder}/in7_label", "sum of shunt voltages")
    sysfs.create(f"{folder}/in7_input", 3)


def _zones(sysfs: Sysfs, profile: Profile) -> None:
    for index, zone in enumerate(profile.zones):
        folder = f"{ZONES}/thermal_zone{index}"
        sysfs.create(f"{folder}/type", zone)
        sysfs.create(f"{folder}/temp", round(profile.constant_c.get(zone, profile.rest_c) * 1000))
        sysfs.link(f"class/thermal/thermal_zone{index}", folder)
    folder = f"{ZONES}/cooling_device0"
    sysfs.create(f"{folder}/type", "cpufreq-cpu0")
    sysfs.create(f"{folder}/max_state", 10)
    sysfs.create(f"{folder}/cur_state", 0)
    sysfs.link("class/thermal/cooling_device0", folder)


def _memory(sysfs: Sysfs, profile: Profile) -> None:
    mode = profile.mode(profile.default_mode)
    sysfs.create(emc_cap(profile).removeprefix("/sys/"), mode.emc_max_hz)
    sysfs.create("kernel/actmon_avg_activity/mc_all", 0)
    if profile.legacy_debugfs:
        sysfs.create("kernel/debug/tegra_bwmgr/emc_max_rate", profile.emc_hz)
        sysfs.create("kernel/debug/tegra_bwmgr/emc_min_rate", 40_800_000)
        sysfs.create(f"{EMC_JP4}/clk_rate", mode.emc_max_hz)
        sysfs.create(f"{EMC_JP4}/clk_state", 0)
        return
    for name, value in {
        "rate": mode.emc_max_hz,
        "max_rate": profile.emc_hz,
        "min_rate": 204_000_000,
        "mrq_rate_locked": 0,
    }.items():
        sysfs.create(f"{EMC_JP6}/{name}", value)


def _fan(sysfs: Sysfs, profile: Profile) -> None:
    if profile.legacy_debugfs:
        for name in ("target_pwm", "cur_pwm", "rpm_measured"):
            sysfs.create(f"{FAN_JP4}/{name}", 0)
        return
    sysfs.create(f"{FAN_JP6}/name", "pwmfan")
    sysfs.create(f"{FAN_JP6}/pwm1", 0)
    sysfs.create(f"{FAN_JP6}/pwm1_enable", 1)
    sysfs.link("class/hwmon/hwmon0", FAN_JP6)
    sysfs.create(f"{TACHO_JP6}/name", "pwm_tach")
    sysfs.create(f"{TACHO_JP6}/rpm", 0)
    sysfs.link("class/hwmon/hwmon2", TACHO_JP6)
