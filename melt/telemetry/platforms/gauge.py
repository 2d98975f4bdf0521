"""The battery's own gauge in a phone: what its raw current means is found out, because makers do not agree.

`current_now` is documented in microamperes, positive while charging
(https://docs.kernel.org/power/power_supply_class.html). Phones have been seen that count in milliamperes, that turn
the sign around, and both: so unit and sign are concluded from what the gauge says in a known state, and where that is
not conclusive nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melt.records import Calibration

_SURELY_MICRO = 20_000
"""20 mA in microamperes, 20 A in milliamperes: no phone's battery gives so much."""
_SURELY_MILLI = (20, 1_000)
"""20 mA to 1 A in milliamperes. In microamperes it were under 1 mA, which no phone that runs a program gets by with."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The gauge's raw current and what the battery was doing, in the kernel's words (`Charging`, `Discharging`)."""

    raw: int
    status: str | None


def calibrate(readings: Sequence[Reading], column: str = "battery_current_a") -> Calibration | None:
    """Conclude what one unit of the raw current is in amperes, positive while discharging.

    A reading while discharging decides the sign; one while charging does only where there is no other, and is not
    certain: a phone may draw more than its charger gives. Returns None where the unit or the sign stays open.
    """
    told = [reading for reading in readings if reading.raw != 0]
    unit = _unit(told)
    if unit is None:
        return None
    factor, unit_name = unit
    discharging = [r for r in told if r.status == "Discharging"]
    charging = [r for r in told if r.status == "Charging"]
    certain, side = (True, discharging) if discharging else (False, charging)
    signs = {r.raw > 0 for r in side}
    if len(signs) != 1:
        return None
    positive = signs.pop()
    sign = 1 if positive == certain else -1
    state = "discharging" if certain else "charging"
    basis = f"{side[0].raw} while {state}: {unit_name}, {'positive' if sign > 0 else 'negative'} while discharging"
    return Calibration(column=column, factor=sign * factor, basis=basis, certain=certain)


def _unit(readings: Sequence[Reading]) -> tuple[float, str] | None:
    sizes = [abs(reading.raw) for reading in readings]
    if sizes and max(sizes) >= _SURELY_MICRO:
        return 1e-6, "microamperes"
    if sizes and all(_SURELY_MILLI[0] <= size < _SURELY_MILLI[1] for size in sizes):
        return 1e-3, "milliamperes"
    return None
