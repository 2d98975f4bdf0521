"""What to do about a device before it is measured: sentences, each with what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.cli._doctor_rows import Reading
    from melt.records import DeviceFacts

_LOW_BATTERY = 0.2
_FIXED_MODE_RELEASE = 11


def advice(facts: DeviceFacts, readings: Sequence[Reading]) -> list[str]:
    """Say what makes numbers scatter on this device now."""
    android = facts.os == "android"
    now = {r.stream.name: r.value for r in readings if r.value is not None}
    said = [*_clocks(facts, android)]
    if any(name.endswith("_charging") and value == 1 for name, value in now.items()):
        help_ = (
            "unplug it, or let the plan do so by `conditions: {charging: suspended}`"
            if android
            else "unplug it to measure energy"
        )
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
    if facts.virtualization and not android:
        said.append(f"others may share the processor ({facts.virtualization}): use several sessions, watch `stolen_s`")
    return said


def _clocks(facts: DeviceFacts, android: bool) -> list[str]:
    governors = sorted({cpu.governor for cpu in facts.cpus if cpu.governor} - {"performance"})
    if not governors:
        return []
    moving = f"CPU clocks move with the load (governor {', '.join(governors)}): "
    if not android:
        return [f"{moving}`sudo cpupower frequency-set -g performance` holds them while you measure"]
    release = re.match(r"Android (\d+)", facts.os_build or "")
    if release is None or int(release[1]) < _FIXED_MODE_RELEASE:
        return [f"{moving}this Android has no mode that holds them; let repetitions be many"]
    return [f"{moving}`conditions: {{fixed_performance: true}}` holds them where the maker supports it"]
