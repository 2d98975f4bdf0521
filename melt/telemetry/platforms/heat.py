"""Thermal zones and hwmon chips, as every Linux kernel offers them, Android's and Jetson's too.

Units: https://docs.kernel.org/hwmon/sysfs-interface.html (m°C, mV, mA, µW, µJ, Hz) and
https://docs.kernel.org/driver-api/thermal/sysfs-api.html.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import NamedTuple

from melt.targets.probe import Snapshot, int_of, text_of
from melt.telemetry.base import FileSource, Guard
from melt.telemetry.parsers import number
from melt.telemetry.platforms.columns import Collector, folders, matching, slug

_ZONES = "/sys/class/thermal/thermal_zone*"
_HWMON = "/sys/class/hwmon/hwmon*"

GLOBS: tuple[str, ...] = (
    f"{_ZONES}/type",
    f"{_ZONES}/temp",
    f"{_ZONES}/trip_point_*_type",
    f"{_ZONES}/trip_point_*_temp",
    "/sys/class/thermal/cooling_device*/type",
    "/sys/class/thermal/cooling_device*/cur_state",
    f"{_HWMON}/name",
    f"{_HWMON}/temp*_input",
    f"{_HWMON}/temp*_label",
    f"{_HWMON}/in*_input",
    f"{_HWMON}/in*_label",
    f"{_HWMON}/curr*_input",
    f"{_HWMON}/curr*_label",
    f"{_HWMON}/power*_input",
    f"{_HWMON}/power*_average",
    f"{_HWMON}/power*_label",
    f"{_HWMON}/energy*_input",
    f"{_HWMON}/energy*_label",
    f"{_HWMON}/freq*_input",
    f"{_HWMON}/freq*_label",
)

_PLAUSIBLE_C = (-100.0, 250.0)
"""Sensors that are off say -256 or -273."""

BELOW_CRITICAL_C = 3.0
"""At the critical trip point the kernel shuts the device down, and its run is lost. Some boards throttle from 5 °C
below it on (Orin: 99 of 104.5), which a run may."""

_CRITICAL_C = (60.0, 150.0)
_ROOM_C = 10.0
_USUAL_C = 85.0
"""Firmware that states nonsense states a critical temperature that its chip has at rest. From the usual ones on, a chip
that is near is hot: then the limit matters most."""

_WHOLE_DEGREES = (5, 150)
_TENTHS = (150, 1_500)

_NOT_SENSORS = frozenset({"int3400_thermal", "pmic_die"})
"""Zones whose temperature is a constant: Intel's policy device says 20, the Jetson's PMIC-Die 100."""

_WAKES_DISKS = frozenset({"drivetemp"})
_SLOW_CHIPS = frozenset({"nvme", "jc42", "spd5118", "tmp102"})
"""Chips that answer over a bus or a drive's own firmware: read seldom."""

_NOT_A_CHIP = re.compile(
    r"bat|charg|wifi|iwl|nvme|ssd|skin|ambient|usb|pch|spd|jc42|pmic|board"
    r"|quiet|case|shell|xo_therm|pa_therm|flash|camera|conn_|modem|mmw|disp|lcd|^pm\w?\d"
)
"""Thermometers that say nothing of the processor: they must not end a run."""

_SLOWS_DOWN = re.compile(r"cpufreq|devfreq|-(balanced|heavy|throttle-alert)$")
"""Cooling devices that take clocks away; a Jetson's of JetPack 4 are its own (`cpu-balanced`, `tegra-heavy`), and its
firmware tells by an alert. Fans are none, nor is its alert of a hot surface."""


class _Kind(NamedTuple):
    prefix: str
    endings: tuple[str, ...]
    quantity: str
    per_unit: float
    cumulative: bool = False


_KINDS = (
    _Kind("temp", ("input",), "temperature", 1e3),
    _Kind("power", ("input", "average"), "power", 1e6),
    _Kind("energy", ("input",), "energy", 1e6, cumulative=True),
    _Kind("curr", ("input",), "current", 1e3),
    _Kind("in", ("input",), "voltage", 1e3),
    _Kind("freq", ("input",), "frequency", 1.0),
)


def thermal_zones(
    snapshot: Snapshot, sensors: Collector, slow: Collector | None = None, *, asleep: bool = False
) -> list[FileSource]:
    """Return a channel per thermal zone that shows a temperature.

    What is no chip changes slowly, and in phones is behind a converter that needs milliseconds: it goes to `slow`,
    where one is given. `asleep`: a zone that shows none now may later (a Jetson's GPU while it is switched off).
    """
    found = []
    for folder in folders(snapshot, f"{_ZONES}/type" if asleep else f"{_ZONES}/temp"):
        path = f"{folder}/temp"
        zone = text_of(snapshot, f"{folder}/type") or folder.rpartition("/")[2]
        if slug(zone) not in _NOT_SENSORS and (asleep or text_of(snapshot, path) is not None):
            is_chip = _NOT_A_CHIP.search(slug(zone)) is None
            found.append(_thermometer(snapshot, sensors if is_chip or slow is None else slow, path, zone))
    return found


def cooling(snapshot: Snapshot, system: Collector) -> list[FileSource]:
    """Return the state of each device that slows the processor down to cool it: 0 not at work."""
    found = []
    for path in matching(snapshot, "/sys/class/thermal/cooling_device*/cur_state"):
        kind = text_of(snapshot, path.replace("/cur_state", "/type")) or ""
        if _SLOWS_DOWN.search(kind):
            found.append(system.sensor(path, f"cooling_{kind}", "state", site=kind))
    return found


def hwmon(snapshot: Snapshot, sensors: Collector, slow: Collector, besides: Collection[str] = ()) -> list[FileSource]:
    """Return the channels of all hwmon chips that are not already thermal zones or batteries under another name.

    `besides` names chips that are read elsewhere.
    """
    twins = {slug(text_of(snapshot, path) or "") for path in matching(snapshot, f"{_ZONES}/type")}
    twins |= {slug(path.split("/")[4]) for path in matching(snapshot, "/sys/class/power_supply/*/type")}
    found = []
    for folder in folders(snapshot, f"{_HWMON}/name"):
        chip = text_of(snapshot, f"{folder}/name") or folder.rpartition("/")[2]
        if slug(chip) not in twins | _WAKES_DISKS and chip not in besides:
            found += _chip(snapshot, folder, chip, slow if slug(chip) in _SLOW_CHIPS else sensors)
    return found


def _chip(snapshot: Snapshot, folder: str, chip: str, collector: Collector) -> list[FileSource]:
    # Boards have dozens of voltages that belong to no current: without a current a voltage is no power, so it is left.
    has_current = bool(matching(snapshot, f"{folder}/curr*_input"))
    found = []
    for kind in _KINDS:
        if kind.prefix == "in" and not has_current:
            continue
        seen = set()
        for path in (
            p for ending in kind.endings for p in matching(snapshot, f"{folder}/{kind.prefix}[0-9]*_{ending}")
        ):
            channel = path.rpartition("/")[2].partition("_")[0]
            label = text_of(snapshot, f"{folder}/{channel}_label") or channel
            # The INA3221 adds its shunt voltages up in one more channel, which is no rail.
            if text_of(snapshot, path) is None or channel in seen or "shunt" in label:
                continue
            seen.add(channel)
            site = f"{chip} {label}"
            if kind.quantity == "temperature":
                found.append(_thermometer(snapshot, collector, path, site))
            else:
                found.append(
                    collector.sensor(
                        path, site, kind.quantity, site=site, per_unit=kind.per_unit, cumulative=kind.cumulative
                    )
                )
    return found


def _thermometer(snapshot: Snapshot, collector: Collector, path: str, site: str) -> FileSource:
    # Thousandths of a degree are the rule, but some vendors' kernels count in whole ones or in tenths: no chip that
    # runs is at 0.05 degrees, nor at 0.4.
    now = int_of(snapshot, path)
    per_c = 1e3
    if now is not None and _WHOLE_DEGREES[0] <= now <= _WHOLE_DEGREES[1]:
        per_c = 1.0
    elif now is not None and _TENTHS[0] < now < _TENTHS[1]:
        per_c = 10.0
    stream = collector.stream(site, "temperature", site=site, source=path)
    parse = number(per_c, valid=_PLAUSIBLE_C)
    if _NOT_A_CHIP.search(slug(site)) is not None:
        return collector.file(path, (stream,), parse, max_bytes=64)
    guard = _below_critical(snapshot, path, site, per_c)
    return collector.file(path, (stream,), parse, max_bytes=64, per_c=per_c, guard=guard)


def _below_critical(snapshot: Snapshot, path: str, site: str, per_c: float) -> Guard | None:
    """Return the limit that keeps a zone below its critical trip point; None where it has none that can be true."""
    folder = path.rpartition("/")[0]
    criticals = [
        limit / per_c
        for name in matching(snapshot, f"{folder}/trip_point_*_type")
        if text_of(snapshot, name) == "critical"
        and (limit := int_of(snapshot, name.replace("_type", "_temp"))) is not None
    ]
    now = int_of(snapshot, path)
    low, high = _CRITICAL_C
    critical_c = min(criticals, default=math.nan)
    if now is None or not low <= critical_c <= high:
        return None
    if now / per_c > critical_c - (0.0 if critical_c >= _USUAL_C else _ROOM_C):
        return None
    return Guard(
        site=site,
        limit=critical_c - BELOW_CRITICAL_C,
        basis=f"at {critical_c:g} °C the kernel shuts the device down",
        per_unit=per_c,
    )
