"""Where energy comes from: RAPL counters of the processor, batteries and mains.

Units: https://docs.kernel.org/power/powercap/powercap.html (µJ) and
https://docs.kernel.org/power/power_supply_class.html (µV, µA, µW, µAh, µWh, %, tenths of a degree).
"""

from __future__ import annotations

from melt.targets.probe import Snapshot, int_of, text_of
from melt.telemetry.base import FileSource
from melt.telemetry.parsers import word
from melt.telemetry.platforms.columns import Collector, folders, matching

_RAPL = "/sys/class/powercap/intel-rapl:*"
_SUPPLY = "/sys/class/power_supply/*"

_CHARGING = {"Charging": 1.0, "Discharging": 0.0, "Not charging": 0.0, "Full": 0.0}
_BATTERY = (
    ("voltage_now", "voltage", "voltage", 1e6),
    ("current_now", "current", "current", 1e6),
    ("power_now", "power", "power", 1e6),
    ("charge_now", "charge", "charge", 1e6 / 3600),
    ("energy_now", "stored", "energy", 1e6 / 3600),
    ("capacity", "level", "level", 100.0),
    ("temp", "temp", "temperature", 10.0),
)

GLOBS: tuple[str, ...] = (
    f"{_RAPL}/name",
    f"{_RAPL}/energy_uj",
    f"{_RAPL}/max_energy_range_uj",
    *(f"{_SUPPLY}/{key}" for key in ("type", "scope", "online", "status", *(file for file, *_ in _BATTERY))),
)

RAPL_IS_PRIVATE = (
    "CPU energy (RAPL) is there, but only root may read it: run `sudo chmod a+r /sys/class/powercap/*/energy_uj` "
    "after each boot, or let a udev rule do it"
)


def rapl(snapshot: Snapshot, sensors: Collector) -> tuple[list[FileSource], list[str]]:
    """Return the energy counters of the processor's domains, and what keeps them from being read.

    `package` holds `core` and `uncore`; `dram` and `psys` are counted apart.
    """
    found, hidden = [], False
    for folder in folders(snapshot, f"{_RAPL}/name"):
        counter = f"{folder}/energy_uj"
        if text_of(snapshot, counter) is None:
            hidden = True
            continue
        site = text_of(snapshot, f"{folder}/name") or folder.rpartition("/")[2]
        numbers = folder.rpartition("/")[2].split(":")[1:]
        if len(numbers) > 1:
            parent = f"/sys/class/powercap/intel-rapl:{numbers[0]}"
            site = f"{text_of(snapshot, f'{parent}/name') or numbers[0]} {site}"
        range_uj = int_of(snapshot, f"{folder}/max_energy_range_uj")
        found.append(
            sensors.sensor(
                counter,
                f"rapl_{site}",
                "energy",
                site=site,
                per_unit=1e6,
                cumulative=True,
                wraps_at=None if range_uj is None else range_uj / 1e6,
            )
        )
    return found, [RAPL_IS_PRIVATE] if hidden and not found else []


def supplies(snapshot: Snapshot, slow: Collector) -> list[FileSource]:
    """Return what the batteries of this device say, and whether mains is plugged in. A mouse's battery is not ours."""
    found = []
    for path in matching(snapshot, f"{_SUPPLY}/type"):
        folder = path.rpartition("/")[0]
        name = folder.rpartition("/")[2]
        if text_of(snapshot, f"{folder}/scope") == "Device":
            continue
        if text_of(snapshot, path) == "Battery":
            found += _battery(snapshot, folder, name, slow)
        elif text_of(snapshot, f"{folder}/online") is not None:
            found.append(slow.sensor(f"{folder}/online", f"{name}_online", "state", site=name))
    return found


def _battery(snapshot: Snapshot, folder: str, name: str, slow: Collector) -> list[FileSource]:
    found = [
        slow.sensor(f"{folder}/{key}", f"{name}_{base}", quantity, site=name, per_unit=per_unit)
        for key, base, quantity, per_unit in _BATTERY
        if text_of(snapshot, f"{folder}/{key}") is not None
    ]
    status = f"{folder}/status"
    if text_of(snapshot, status) is not None:
        stream = slow.stream(f"{name}_charging", "state", site=name, source=status)
        found.append(slow.file(status, (stream,), word(_CHARGING), max_bytes=64))
    return found
