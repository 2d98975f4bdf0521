"""How battery, heat and frequencies behave. Simple on purpose: directions are right, amounts are invented."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .profiles import Profile, Zone
from .state import State
from .sysfs import BATTERY, CPUFREQ, USB

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOAD_HALF_LIFE = 0.5
_COOLING_STEPS = 10


@dataclass(frozen=True)
class _Ramp:
    from_c: float
    to_c: float
    start_s: float
    seconds: float

    def at(self, now_s: float) -> float:
        part = min(1.0, (now_s - self.start_s) / self.seconds) if self.seconds > 0 else 1.0
        return self.from_c + (self.to_c - self.from_c) * part


class Physics:
    """Advances with `tick`, then tells every value of the hardware."""

    def __init__(self, profile: Profile, state: State, now_s: float) -> None:
        self.load = 0.0
        """Share of the CPUs in use, 0 to 1, smoothed."""

        self.energy_j = {rail.name: 0.0 for rail in profile.rails}
        self._profile = profile
        self._state = state
        self._zones = {zone.type: zone for zone in profile.thermal.zones}
        self._rest_skin_c = self._zones[profile.thermal.skin].rest_c
        self._ramp = _Ramp(self._rest_skin_c, self._rest_skin_c, now_s, 0.0)
        self._now_s = now_s
        self._cpu_s = _cpu_seconds()

    def ramp(self, target_c: float | None, seconds: float) -> None:
        """Let the skin warm or cool to a temperature, and everything else with it; None: back to rest."""
        to_c = self._rest_skin_c if target_c is None else target_c
        self._ramp = _Ramp(self.skin_c, to_c, self._now_s, seconds)

    def tick(self, now_s: float) -> None:
        """Advance to a moment of the phone's monotonic clock."""
        elapsed_s = now_s - self._now_s
        if elapsed_s <= 0:
            return
        cpu_s = _cpu_seconds()
        used = min(1.0, max(0.0, cpu_s - self._cpu_s) / elapsed_s)
        self.load += (used - self.load) * _LOAD_HALF_LIFE
        self._cpu_s, self._now_s = cpu_s, now_s
        if "level" not in self._state.forced:
            charge = self._state.charge_uah + self.current_a * 1e6 * elapsed_s / 3600
            self._state.charge_uah = min(max(charge, 0.0), float(self._profile.battery.capacity_uah))
        for rail in self._profile.rails:
            self.energy_j[rail.name] += (rail.idle_w + self.load * rail.load_w) * elapsed_s

    @property
    def skin_c(self) -> float:
        """Temperature of the case."""
        return self._ramp.at(self._now_s)

    @property
    def charging(self) -> bool:
        """Whether current flows into the phone."""
        return self._state.plugged and not self._state.suspended

    @property
    def current_a(self) -> float:
        """Current INTO the battery."""
        if "current_a" in self._state.forced:
            return float(self._state.forced["current_a"])
        battery = self._profile.battery
        used_a = battery.idle_a + battery.screen_a * self._state.screen_on + battery.load_a * self.load
        return battery.charge_a - 0.3 * used_a if self.charging else -used_a

    @property
    def level(self) -> int:
        """Charge in percent."""
        if "level" in self._state.forced:
            return int(self._state.forced["level"])
        return round(100 * self._state.charge_uah / self._profile.battery.capacity_uah)

    @property
    def charge_uah(self) -> int:
        """What the fuel gauge says is left."""
        if "level" in self._state.forced:
            return round(self._profile.battery.capacity_uah * self.level / 100)
        return round(self._state.charge_uah)

    @property
    def status(self) -> str:
        """What the battery's `status` file says."""
        if "status" in self._state.forced:
            return self._state.forced["status"]
        if not self.charging:
            return "Discharging"
        return "Full" if self.level >= 100 else "Charging"

    @property
    def voltage_uv(self) -> int:
        """Voltage between the battery's poles: sags by its inner resistance."""
        if "voltage_uv" in self._state.forced:
            return int(float(self._state.forced["voltage_uv"]))
        return round(self._profile.battery.voltage_uv + 80_000 * self.current_a)

    @property
    def battery_c(self) -> float:
        """Temperature of the battery; it follows the case slowly."""
        if "temperature_c" in self._state.forced:
            return float(self._state.forced["temperature_c"])
        return self._profile.battery.temperature_c + 0.5 * (self.skin_c - self._rest_skin_c)

    def zone_c(self, name: str) -> float:
        """Temperature of a thermal zone."""
        zone = self._zones[name]
        return self._zone_c(zone)

    @property
    def cap(self) -> float:
        """Share of its maximum frequency that heat leaves to a CPU."""
        from_c, to_c = self._profile.thermal.throttle_c
        heat = min(1.0, max(0.0, (self.skin_c - from_c) / (to_c - from_c)))
        return 1.0 - heat * (1.0 - self._profile.thermal.lowest)

    @property
    def cooling(self) -> list[int]:
        """How far each cluster is slowed down, in steps of its cooling device."""
        return [round((1.0 - self.cap) * _COOLING_STEPS)] * len(self._profile.cpu.clusters)

    @property
    def thermal_status(self) -> int:
        """Android's throttling status, 0 none to 6 shutdown."""
        if self._state.thermal_override is not None:
            return self._state.thermal_override
        return sum(self.skin_c >= threshold for threshold in self._profile.thermal.thresholds_c)

    def files(self) -> dict[str, str]:
        """Return the live files below /sys."""
        battery = self._profile.battery
        values = {
            f"{BATTERY}/capacity": str(self.level),
            f"{BATTERY}/status": self.status,
            f"{BATTERY}/temp": str(round(self.battery_c * 10)),
            f"{BATTERY}/voltage_now": str(self.voltage_uv),
            f"{BATTERY}/current_now": str(round(self.current_a * battery.current_per_a)),
            f"{BATTERY}/charge_counter": str(self.charge_uah),
            f"{USB}/online": str(int(self._state.plugged)),
        }
        for number, zone in enumerate(self._profile.thermal.zones):
            values[f"class/thermal/thermal_zone{number}/temp"] = str(round(self._zone_c(zone) * zone.per_c))
        return values | self._frequencies()

    def _frequencies(self) -> dict[str, str]:
        values = {}
        first = 0
        for index, cluster in enumerate(self._profile.cpu.clusters):
            limit = max(cluster.min_khz, round(cluster.max_khz * self.cap))
            # In the mode for benchmarks Android holds the clocks below what heat would ever take away.
            current = (
                limit if self._state.fixed_performance else cluster.min_khz + (limit - cluster.min_khz) * self.load
            )
            values[f"{CPUFREQ}/policy{first}/scaling_max_freq"] = str(limit)
            values[f"{CPUFREQ}/policy{first}/scaling_cur_freq"] = str(round(current))
            values[f"class/thermal/cooling_device{index}/cur_state"] = str(self.cooling[index])
            first += cluster.cpus
        return values

    def _zone_c(self, zone: Zone) -> float:
        return zone.rest_c + zone.follows * (self.skin_c - self._rest_skin_c) + 4.0 * self.load * (zone.follows > 1.0)


def _cpu_seconds() -> float:
    """CPU time of what runs on the phone so far, without the two processes that play its system."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in (1, os.getpid()):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S
