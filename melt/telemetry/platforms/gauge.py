"""The battery's own gauge in a phone: what its raw current means is found out, because makers do not agree.

`current_now` is documented in microamperes, positive while charging
(https://docs.kernel.org/power/power_supply_class.html). Phones have been seen that count in milliamperes, that turn
the sign around, and both: so unit and sign are concluded from what the gauge says in a known state, and where that is
not conclusive nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from melt.records import Calibration

_SURELY_MICRO = 20_000
"""20 mA in microamperes, 20 A in milliamperes: no phone's battery gives so much."""
_SURELY_MILLI = (20, 1_000)
"""20 mA to 1 A in milliamperes. In microamperes it were under 1 mA, which no phone that runs a program gets by with."""

_MIN_CHARGE_STEP_C = 7.2
"""2 mAh. Counters move in steps of about 1 mAh: less than two of them is no slope."""
_AGREE_WITHIN = 5.0
"""The units are a factor of 1000 apart: a slope that fits one of them this well fits no other."""

_UNITS = {"microamperes": 1e-6, "milliamperes": 1e-3}


@dataclass(frozen=True, slots=True)
class Reading:
    """The gauge's raw current and what the battery was doing, in the kernel's words (`Charging`, `Discharging`).

    With the battery's charge in coulombs and the time in seconds, readings can be checked against each other.
    """

    raw: int
    status: str | None
    charge_c: float | None = None
    t_s: float | None = None


def calibrate(readings: Sequence[Reading], column: str = "battery_current_a") -> Calibration | None:
    """Conclude what one unit of the raw current is in amperes, positive while discharging.

    A reading while discharging decides the sign; one while charging does only where there is no other, and is not
    certain: a phone may draw more than its charger gives. Returns None where the unit or the sign stays open, also
    where the charge counter contradicts.
    """
    told = [reading for reading in readings if reading.raw != 0]
    unit = _unit(told)
    if unit is None:
        return None
    discharging = [r for r in told if r.status == "Discharging"]
    charging = [r for r in told if r.status == "Charging"]
    certain, side = (True, discharging) if discharging else (False, charging)
    signs = {r.raw > 0 for r in side}
    if len(signs) != 1:
        return None
    sign = 1 if signs.pop() == certain else -1
    state = "discharging" if certain else "charging"
    basis = f"{side[0].raw} while {state}: {unit}, {'positive' if sign > 0 else 'negative'} while discharging"
    return Calibration(column=column, factor=sign * _UNITS[unit], basis=basis, certain=certain)


def _unit(readings: Sequence[Reading]) -> str | None:
    """Name the unit by size and by the charge counter; None where neither tells, or they disagree."""
    by_size, by_slope = _unit_by_size(readings), _unit_by_slope(readings)
    if by_size is not None and by_slope is not None and by_size != by_slope:
        return None
    return by_size or by_slope


def _unit_by_size(readings: Sequence[Reading]) -> str | None:
    sizes = [abs(reading.raw) for reading in readings]
    if sizes and max(sizes) >= _SURELY_MICRO:
        return "microamperes"
    if sizes and all(_SURELY_MILLI[0] <= size < _SURELY_MILLI[1] for size in sizes):
        return "milliamperes"
    return None


def _unit_by_slope(readings: Sequence[Reading]) -> str | None:
    """Compare the raw current with how fast the charge changed while the battery did one and the same thing."""
    amperes, raw = [], []
    for before, after in pairwise(readings):
        if before.charge_c is None or after.charge_c is None or before.t_s is None or after.t_s is None:
            continue
        step_c, span_s = abs(after.charge_c - before.charge_c), after.t_s - before.t_s
        if before.status == after.status and step_c >= _MIN_CHARGE_STEP_C and span_s > 0:
            amperes.append(step_c / span_s)
            raw.append((abs(before.raw) + abs(after.raw)) / 2)
    if not amperes:
        return None
    ratio = median(amperes) / median(raw)
    return next((unit for unit, factor in _UNITS.items() if 1 / _AGREE_WITHIN < ratio / factor < _AGREE_WITHIN), None)
