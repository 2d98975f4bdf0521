"""What `dumpsys` prints, read: pure functions of text, which give nothing where a line is missing and never raise.

Formats: BatteryService.java, ThermalManagerService.java and the power-stats HAL's own dump in AOSP.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_FIELD = re.compile(r"^\s*([A-Za-z][\w .()-]*?):[ \t]*(-?[\w.]+)[ \t\r]*$", re.MULTILINE)
_HAL_HEADING = "Current temperatures from HAL:"
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[\d.]+(?:[eE]-?\d+)?), mType=(-?\d+), mName=(.*?), mStatus=(\d+)\}")
_STATUS = re.compile(r"^Thermal Status: (\d+)[ \t\r]*$", re.MULTILINE)
_NO_HAL = re.compile(r"^HAL Ready: false[ \t\r]*$", re.MULTILINE)
_METER_HEADING = "PowerStats HAL 2.0 energy meter"
_RAIL = re.compile(r"^[ \t]*(?:\[([^\]\n]+)\](?::([^\n]*?))?|(\w+))[ \t]+([\d.]+)[ \t]*mWs[ \t\r]*$", re.MULTILINE)
_WAKEFULNESS = re.compile(r"^\s*mWakefulness=(\w+)", re.MULTILINE)
_SURELY_MICROAMPERE_HOURS = 20_000
"""In mAh it were a battery of 20 Ah."""
_FULL_MILLIAMPERE_HOURS = (1_500, 20_000)
"""What a full battery holds: a smaller number must fit this at the battery's level to be believed in mAh."""
_VOLTAGES = ((1_000, 20_000, 1e3), (1_000_000, 20_000_000, 1e6))
"""From, to and what makes a volt: one cell to four in mV and in µV. Boxes without a battery say 13 or 0."""
_NOT_TEMPERATURES = frozenset({-1, 6, 7, 8})
"""Types of a HAL temperature that are none: unknown (differences, intermediate sums), voltage limit, current limit and
charge.
"""

BATTERY_STATES = {2: "Charging", 3: "Discharging", 4: "Not charging", 5: "Full"}
"""`status` of BatteryManager, in the kernel's words."""


@dataclass(frozen=True, slots=True)
class HalTemperature:
    """A thermometer of the phone's own thermal service. `status` 0 none to 6 shutdown."""

    name: str
    type: int
    value_c: float
    status: int


@dataclass(frozen=True, slots=True)
class Rail:
    """An energy counter below the battery, in joules since boot. `subsystem` is what it feeds."""

    name: str
    subsystem: str
    energy_j: float


def battery_fields(text: str) -> Mapping[str, float]:
    """Return the numbers of `dumpsys battery` by their name; yes and no as 1 and 0.

    Some vendors append an event log whose lines look like fields: reading stops there.
    """
    text = text.partition("[EventLogBuffer]")[0]
    words = {"true": 1.0, "false": 0.0}
    found: dict[str, float] = {}
    for name, value in _FIELD.findall(text):
        number = words.get(value, _float(value))
        if not math.isnan(number):
            found.setdefault(name, number)
    return found


def charge_c(fields: Mapping[str, float]) -> float:
    """Return the battery's charge in coulombs; NaN where it is not told, or where its unit is not known.

    Documented in µAh. A Redmi Note 14 counts in mAh (github.com/d4rken-org/amply/pull/52); 0 is said by devices that do
    not count at all (github.com/google/syzkaller/issues/79), and some say a round number for ever.
    """
    raw = fields.get("Charge counter", math.nan)
    return raw / counts_per_coulomb(raw, level(fields))


def counts_per_coulomb(raw: float, level_ratio: float) -> float:
    """Return how many counts of a charge counter make a coulomb, where it says `raw` at a level of 0 to 1.

    NaN where it can be neither µAh nor mAh of a phone's battery.
    """
    if raw >= _SURELY_MICROAMPERE_HOURS:
        return 1e6 / 3600
    low, high = _FULL_MILLIAMPERE_HOURS
    return 1e3 / 3600 if raw > 0 and low * level_ratio <= raw <= high * level_ratio else math.nan


def voltage_v(fields: Mapping[str, float]) -> float:
    """Return the battery's voltage in volts; NaN where it is not told, or where no unit makes a battery's of it.

    Documented in mV; some phones pass on the µV of their kernel.
    """
    raw = fields.get("voltage", math.nan)
    return next((raw / per_v for low, high, per_v in _VOLTAGES if low <= raw <= high), math.nan)


def level(fields: Mapping[str, float]) -> float:
    """Return how full the battery is, 0 to 1; NaN where it is not told."""
    scale = fields.get("scale", 100.0)
    return fields.get("level", math.nan) / scale if scale > 0 else math.nan


def battery_state(fields: Mapping[str, float]) -> str | None:
    """Return what the battery is doing, in the kernel's words (`Charging`), None where it is not told."""
    return BATTERY_STATES.get(int(fields.get("status", 0)))


def screen_on(text: str) -> float:
    """Return 1 where `dumpsys power` says that the phone is awake, 0 where it sleeps or dozes, NaN where it says
    neither.
    """
    found = _WAKEFULNESS.search(text)
    return math.nan if found is None else float(found[1] in ("Awake", "Dreaming"))


def screen_said(text: str) -> float:
    """Return 1 or 0 where `dumpsys deviceidle get screen` says true or false, NaN where it says neither."""
    return {"true": 1.0, "false": 0.0}.get(text.strip(), math.nan)


def hal_temperatures(text: str) -> list[HalTemperature]:
    """Return what the thermal HAL says now; what the service has cached is old and is passed over.

    A sensor that is not fitted says 0.0 (a second battery, a USB port).
    """
    _, _, now = text.partition(_HAL_HEADING)
    now = now.partition("\nCurrent cooling devices")[0]
    found = [
        HalTemperature(name, int(kind), _float(value), int(status))
        for value, kind, name, status in _TEMPERATURE.findall(now)
        if len(kind) < 9 and len(status) < 9
    ]
    return [t for t in found if t.type not in _NOT_TEMPERATURES and not math.isnan(t.value_c) and t.value_c != 0]


def thermal_status(text: str) -> int | None:
    """Return the phone's throttling status, 0 none to 6 shutdown; None where nothing says it.

    Without a HAL the service says 0, whatever the heat.
    """
    found = None if _NO_HAL.search(text) else _STATUS.search(text)
    return int(found[1]) if found and len(found[1]) == 1 else None


def rails(text: str) -> list[Rail]:
    """Return the on-device power meter's rails (ODPM, Pixel 6 and later); early versions name no subsystem."""
    meter = text.partition(_METER_HEADING)[2].partition("\n=")[0]
    return [
        Rail((name or bare).strip(), (subsystem or "").strip(), value / 1e3)
        for name, subsystem, bare, milliwatt_seconds in _RAIL.findall(meter)
        if not math.isnan(value := _float(milliwatt_seconds))
    ]


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
