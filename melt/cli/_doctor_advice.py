"""What to do about a device before it is measured: sentences, each with what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.cli._doctor_rows import Reading
    from melt.records import Calibration, DeviceFacts
    from melt.targets.profiles import Battery, Profile

_LOW_BATTERY = 0.2
_FIXED_MODE_RELEASE = 11
_UNITS = {"ua": "microamperes", "ma": "milliamperes"}
_MICRO_BELOW = 1e-5
"""An ampere's share that one count may be and still be a microampere."""

_UNTIL_CHARGED = {
    "android": "unplug it, or where the phone allows it let the plan do so by `conditions: {charging: suspended}`",
    "macos": "leave it plugged in until it is full",
}
"""What helps; a Mac on its battery may hold back."""


def advice(facts: DeviceFacts, readings: Sequence[Reading]) -> list[str]:
    """Say what makes numbers scatter on this device now."""
    android = facts.os == "android"
    now = {r.stream.name: r.value for r in readings if r.value is not None}
    said = [*_clocks(facts, android)]
    if any(name.endswith("_charging") and value == 1 for name, value in now.items()):
        help_ = _UNTIL_CHARGED.get(facts.os, "unplug it to measure energy")
        said.append(f"the battery is charging, which heats the device and hides its power: {help_}")
    level = min((value for name, value in now.items() if name.endswith("_level_ratio")), default=1.0)
    if level < _LOW_BATTERY:
        said.append(f"the battery is at {100 * level:.0f} %: devices save power when it is low; charge it first")
    if now.get("screen_on") == 0:
        said.append(
            "the screen is off, and phones may clock their CPUs low then: "
            "`conditions: {screen: on, stay_awake: true}` keeps it on, `screen: off` says that you mean it"
        )
    if now.get("thermal_status", 0) > 0:
        said.append(f"the phone is throttling (thermal status {now['thermal_status']:.0f} of 6): let it cool down")
    if now.get("thermal_pressure", 0) > 0:
        said.append(f"the Mac is throttling (thermal pressure {now['thermal_pressure']:.0f} of 4): let it cool down")
    said += _short_of_power(readings)
    if facts.virtualization and not android:
        said.append(f"others may share the processor ({facts.virtualization}): use several sessions, watch `stolen_s`")
    return said


def _clocks(facts: DeviceFacts, android: bool) -> list[str]:
    governors = sorted({cpu.governor for cpu in facts.cpus if cpu.governor} - {"performance"})
    if not governors:
        return []
    moving = f"CPU clocks move with the load (governor {', '.join(governors)}): "
    if facts.clocks_locked is not None:
        # A Jetson's governors stay as they are while jetson_clocks holds the lowest clock at the highest.
        return [] if facts.clocks_locked else [f"{moving}`conditions: {{jetson_clocks: true}}` holds them"]
    if not android:
        return [f"{moving}`sudo cpupower frequency-set -g performance` holds them while you measure"]
    release = re.match(r"Android (\d+)", facts.os_build or "")
    if release is None or int(release[1]) < _FIXED_MODE_RELEASE:
        return [f"{moving}this Android has no mode that holds them; let repetitions be many"]
    return [f"{moving}`conditions: {{fixed_performance: true}}` holds them where the maker supports it"]


def _short_of_power(readings: Sequence[Reading]) -> list[str]:
    """Say of a Jetson that its supply or its power mode was too weak, since it was started."""
    from melt.telemetry.platforms.jetson import OVER_CURRENT

    alarms = [r for r in readings if r.stream.site.startswith(OVER_CURRENT) and r.value]
    if not alarms:
        return []
    counts = ", ".join(f"{r.stream.site.removeprefix(OVER_CURRENT)} {r.value:.0f} times" for r in alarms)
    return [
        f"a lack of power cut the board's clocks since it was started ({counts}): a stronger supply, or a lower power "
        "mode, keeps them"
    ]


def known(facts: DeviceFacts, readings: Sequence[Reading], calibrations: Sequence[Calibration] = ()) -> list[str]:
    """Say what a profile in devices/ adds to what the device says of itself."""
    from melt.targets.profiles import load_profiles, matching_profile
    from melt.units import human

    profile = matching_profile(facts, load_profiles())
    if profile is None:
        return []
    said = [f"{profile.title}: {note.text} ({note.source})" for note in profile.notes]
    limit = profile.facts.get("throttles_from_c")
    temperatures = [r.value for r in readings if r.stream.quantity == "temperature" and r.value is not None]
    if limit is not None:
        now = f", now {human(max(temperatures), 'c')}" if temperatures else ""
        said.append(f"{profile.title}: clocks are cut from {human(limit.value, 'c')}{now} ({limit.source})")
    peak = profile.facts.get("memory_peak_bytes_per_s")
    if peak is not None and facts.memory_bandwidth_bytes_per_s is not None:
        share = human(facts.memory_bandwidth_bytes_per_s / peak.value, "ratio")
        said.append(
            f"{profile.title}: {share} of the memory's {human(peak.value, 'bytes/s')} was reached ({peak.source})"
        )
    if profile.battery is not None:
        said += [_otherwise(profile, profile.battery, c) for c in calibrations if _differs(profile.battery, c)]
    return said


def _otherwise(profile: Profile, battery: Battery, calibration: Calibration) -> str:
    sign = battery.discharging_sign and f"{battery.discharging_sign} while discharging"
    known = ", ".join(filter(None, (_UNITS.get(battery.current_unit or ""), sign)))
    return (
        f"{profile.title}: its battery's current was known as {known} ({battery.source}), here it reads "
        f"{calibration.basis}: look again with the charger unplugged before you trust its power"
    )


def _differs(battery: Battery, calibration: Calibration) -> bool:
    """Whether a profile says otherwise of the battery's raw current than was concluded from what it says now."""
    unit = "ua" if abs(calibration.factor) < _MICRO_BELOW else "ma"
    sign = "positive" if calibration.factor > 0 else "negative"
    return battery.current_unit not in (None, unit) or battery.discharging_sign not in (None, sign)
