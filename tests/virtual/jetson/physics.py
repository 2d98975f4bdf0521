"""What moves: load, clocks, power, heat, memory. A few formulas whose directions are right and whose amounts are not.

The files are the state: what nvpmodel, jetson_clocks or a user writes below /sys holds from the next tick on.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import texts
from .profiles import Profile
from .sysfs import (
    CPU,
    EMC_JP4,
    EMC_JP6,
    FAN_JP4,
    FAN_JP6,
    TACHO_JP6,
    ZONES,
    Sysfs,
    channels,
    gpu_devfreq,
    gpu_folder,
    overwrite,
    rails_folder,
)

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_WARMS_C_PER_W = 2.4
_WARMS_IN_S = 6.0
_RIPPLE = 0.01
_HEADROOM = 1.25
"""As schedutil has it: https://docs.kernel.org/scheduler/schedutil.html."""

_THROTTLES_WITHIN_C = 10.0
_LOWEST_SHARE = 0.4
_FAN_FROM_C, _FAN_TO_C = 35.0, 90.0


@dataclass
class Forced:
    """What a test fixed; None: as it comes."""

    temperature_c: float | None = None
    gpu_load: float | None = None
    hold: bool = False
    """Whether nothing moves."""


class Physics:
    """One board's values, from its boot on. `proc`: where its covers of /proc lie."""

    def __init__(self, profile: Profile, sysfs: Sysfs, proc: Path) -> None:
        self.forced = Forced()
        self.load_cpus = 0.0
        self.temperature_c = profile.rest_c
        self.power_w = 0.0
        self._profile = profile
        self._sysfs = sysfs
        self._proc = proc
        self._booted_s = int(time.time())
        self._begun_s = self._last_s = time.monotonic()
        self._seconds: dict[int, float] = {}
        self._busy_s = [0.0] * profile.cpu.count
        self._used_kb = 0

    def tick(self) -> None:
        """Look at what runs and let everything follow."""
        now_s = time.monotonic()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if self.forced.hold or elapsed_s <= 0:
            return
        online = self._online()
        worked_s = self._worked_s()
        self.load_cpus = min(float(len(online)), worked_s / elapsed_s)
        loads = self._spend(online, worked_s, elapsed_s)
        share = self.load_cpus / len(online)
        throttled = self._throttled()
        cpu_w = self._cpu_clocks(loads, share, throttled)
        gpu_load = min(1.0, share * self._profile.gpu.follows)
        if self.forced.gpu_load is not None:
            gpu_load = self.forced.gpu_load
        gpu_clock = self._gpu(gpu_load)
        self._memory_clock(share)
        self._power(cpu_w, gpu_clock * gpu_load, now_s)
        self._heat(elapsed_s, throttled)
        overwrite(self._proc / "stat", texts.stat(self._stat(online), now_s - self._begun_s, self._booted_s))
        overwrite(self._proc / "meminfo", texts.meminfo(self._profile, self._used_kb))

    def clocks_fixed(self) -> bool:
        """Whether the clocks cannot move, which is what jetson_clocks does."""
        bounds = [(f"{CPU}/cpufreq/policy{first}", "scaling_{}_freq") for first in self._profile.cpu.clusters]
        bounds.append((gpu_devfreq(self._profile), "{}_freq"))
        return all(
            self._sysfs.read(f"{folder}/{name.format('min')}") == self._sysfs.read(f"{folder}/{name.format('max')}")
            for folder, name in bounds
        )

    def _online(self) -> list[int]:
        """Return the CPUs that are switched on, and let the kernel's list say so."""
        online = [n for n in range(self._profile.cpu.count) if self._sysfs.read(f"{CPU}/cpu{n}/online") == "1"]
        self._sysfs.update(f"{CPU}/online", f"0-{online[-1]}" if len(online) > 1 else "0")
        return online

    def _stat(self, online: list[int]) -> list[float | None]:
        return [seconds if number in online else None for number, seconds in enumerate(self._busy_s)]

    def _worked_s(self) -> float:
        """Return the CPU time that the board's processes took since the last tick; this one is not of the board."""
        seconds: dict[int, float] = {}
        pages = 0
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdecimal() and name != "1":
                try:
                    with open(f"/proc/{name}/stat") as file:  # noqa: PTH123 - ten times a second, for each process
                        fields = file.read().rpartition(")")[2].split()
                except OSError:
                    continue
                seconds[int(name)] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                pages += int(fields[21])
        worked_s = sum(max(0.0, value - self._seconds.get(pid, 0.0)) for pid, value in seconds.items())
        self._seconds = seconds
        self._used_kb = pages * _PAGE_KB
        return worked_s

    def _spend(self, online: list[int], worked_s: float, elapsed_s: float) -> dict[int, float]:
        """Hand the work to the CPUs, the first ones first; return how busy each one was, 0 to 1."""
        loads = {}
        for number in online:
            taken_s = min(worked_s, elapsed_s)
            self._busy_s[number] += taken_s
            worked_s -= taken_s
            loads[number] = taken_s / elapsed_s
        return loads

    def _throttled(self) -> float:
        """Return by how much heat lowers the clocks: 0 not at all, 1 as far as it goes."""
        over_c = self.temperature_c - self._profile.throttle_c
        return min(1.0, max(0.0, over_c / _THROTTLES_WITHIN_C))

    def _cpu_clocks(self, loads: Mapping[int, float], share: float, throttled: float) -> float:
        """Let each cluster's clock follow its busiest CPU; return the power drawn by the CPUs in W."""
        cpu = self._profile.cpu
        highest_khz = cpu.steps_khz[-1]
        clock = 0.0
        for first, end in itertools.pairwise((*cpu.clusters, cpu.count)):
            busiest = max((loads.get(number, 0.0) for number in range(first, end)), default=0.0)
            policy = f"{CPU}/cpufreq/policy{first}"
            low, high = (self._sysfs.integer(f"{policy}/scaling_{end}_freq") for end in ("min", "max"))
            wanted_khz = (low + (high - low) * min(1.0, _HEADROOM * busiest)) * (1 - (1 - _LOWEST_SHARE) * throttled)
            step_khz = max((step for step in cpu.steps_khz if step <= wanted_khz), default=cpu.steps_khz[0])
            self._sysfs.update(f"{policy}/scaling_cur_freq", step_khz)
            self._sysfs.update(f"{policy}/cpuinfo_cur_freq", step_khz)
            clock = max(clock, step_khz / highest_khz)
        self._sysfs.update(f"{ZONES}/cooling_device0/cur_state", round(10 * throttled))
        return cpu.idle_w * (0.5 + 0.5 * clock) + cpu.load_w * share * clock**2

    def _gpu(self, load: float) -> float:
        """Let the GPU's clock follow its load; return it as a share of the highest."""
        gpu, devfreq = self._profile.gpu, gpu_devfreq(self._profile)
        low, high = (self._sysfs.integer(f"{devfreq}/{end}_freq") for end in ("min", "max"))
        step_hz = max((step for step in gpu.steps_hz if step <= low + (high - low) * load), default=gpu.steps_hz[0])
        self._sysfs.update(f"{devfreq}/cur_freq", step_hz)
        self._sysfs.update(f"{gpu_folder(self._profile)}/load", round(load * 1000))
        return step_hz / gpu.steps_hz[-1]

    def _memory_clock(self, share: float) -> None:
        cap_hz = self._sysfs.integer(texts.emc_cap(self._profile).removeprefix("/sys/"))
        if self._profile.legacy_debugfs:
            self._sysfs.update(f"{EMC_JP4}/clk_rate", cap_hz)
        else:
            self._sysfs.update(f"{EMC_JP6}/rate", cap_hz)
        self._sysfs.update("kernel/actmon_avg_activity/mc_all", round(cap_hz / 1000 * 0.5 * share))

    def _power(self, cpu_w: float, gpu_load: float, now_s: float) -> None:
        """Show what each rail carries. What goes in is the sum of what the others carry, and the carrier board's."""
        rails, folder = self._profile.rails, rails_folder(self._profile)
        ripple = 1 + _RIPPLE * math.sin(2 * math.pi * 0.7 * (now_s - self._begun_s))
        gpu_w = self._profile.gpu.load_w * gpu_load
        drawn_w = dict.fromkeys(channels(rails), 0.0)
        drawn_w[rails.cpu] += cpu_w * ripple
        drawn_w[rails.gpu] += gpu_w * ripple
        rest_w = rails.rest_w + 0.1 * (cpu_w + gpu_w)
        if rails.rest is not None:
            drawn_w[rails.rest] = rest_w * ripple
        milliamps = {name: round(watts * 1e6 / rails.millivolt) for name, watts in drawn_w.items()}
        outside_w = rails.board_w + (0.0 if rails.rest is not None else rest_w)
        milliamps[rails.total] = sum(milliamps.values()) + round(outside_w * ripple * 1e6 / rails.millivolt)
        self.power_w = milliamps[rails.total] * rails.millivolt / 1e6
        for index, name in enumerate(channels(rails)):
            if rails.layout == "iio":
                self._sysfs.update(f"{folder}/in_voltage{index}_input", rails.millivolt)
                self._sysfs.update(f"{folder}/in_current{index}_input", milliamps[name])
                self._sysfs.update(f"{folder}/in_power{index}_input", milliamps[name] * rails.millivolt // 1000)
            else:
                self._sysfs.update(f"{folder}/in{index + 1}_input", rails.millivolt)
                self._sysfs.update(f"{folder}/curr{index + 1}_input", milliamps[name])

    def _heat(self, elapsed_s: float, throttled: float) -> None:
        if self.forced.temperature_c is not None:
            self.temperature_c = self.forced.temperature_c
        else:
            goal_c = self._profile.rest_c + _WARMS_C_PER_W * self.power_w
            self.temperature_c += (goal_c - self.temperature_c) * min(1.0, elapsed_s / _WARMS_IN_S)
        for index, zone in enumerate(self._profile.zones):
            degrees = self._profile.constant_c.get(zone, self.temperature_c - 0.25 * (index % 3))
            self._sysfs.update(f"{ZONES}/thermal_zone{index}/temp", round(degrees * 1000))
        pwm = round(255 * min(1.0, max(0.0, (self.temperature_c - _FAN_FROM_C) / (_FAN_TO_C - _FAN_FROM_C))))
        if self._profile.legacy_debugfs:
            for name in ("target_pwm", "cur_pwm"):
                self._sysfs.update(f"{FAN_JP4}/{name}", pwm)
            self._sysfs.update(f"{FAN_JP4}/rpm_measured", pwm * 20)
        else:
            self._sysfs.update(f"{FAN_JP6}/pwm1", pwm)
            self._sysfs.update(f"{TACHO_JP6}/rpm", pwm * 20)
