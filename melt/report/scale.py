"""Numbers of one row written alike: one prefix and one number of decimals for all, so that they compare at a glance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

_SCALES = MappingProxyType(
    {
        "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "bytes": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
        "ratio": ((0.01, "%"),),
        "c": ((1.0, "°C"),),
        "w": ((1.0, "W"), (1e-3, "mW")),
        "j": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
        "mwh": ((3.6, "mWh"),),
        "c_coulomb": ((3.6, "mAh"),),
        "j*s": ((1.0, "J·s"), (1e-3, "mJ·s"), (1e-6, "µJ·s")),
        "gco2e": ((1.0, "g CO2e"), (1e-3, "mg CO2e"), (1e-6, "µg CO2e")),
        "tok/j": ((1.0, "tok/J"),),
        "j/tok": ((1.0, "J/tok"), (1e-3, "mJ/tok"), (1e-6, "µJ/tok")),
        "j/inference": ((1.0, "J/inference"), (1e-3, "mJ/inference"), (1e-6, "µJ/inference")),
        "1/w": ((1.0, "1/W"),),
        "1/j": ((1.0, "1/J"),),
        "1": ((1.0, ""),),
        "responses": ((1.0, ""),),
    }
)
"""Unit as stored -> how large one of the unit shown is, the largest first. `mwh` is for joules out of a battery."""

_DIGITS = 3
_MAX_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of a row are written."""

    factor: float
    symbol: str
    decimals: int

    def write(self, value: float) -> str:
        """Write a stored value without its unit."""
        return f"{value / self.factor:.{self.decimals}f}"

    def spread(self, half: float) -> str:
        """Write what a value may be off by: `±0.4`, `±<0.1` below what the digits can show, nothing where it is 0."""
        if half <= 0:
            return ""
        text = self.write(half)
        return f"±{text}" if float(text) else f"±<{10**-self.decimals:.{self.decimals}f}"


def scale_for(values: Iterable[float], unit: str) -> Scale:
    """Choose a prefix by the largest value, and decimals so that the smallest has three digits."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    choices = _SCALES.get(unit, ((1.0, unit),))
    if not sizes:
        return Scale(*choices[0], 0)
    factor, symbol = next((c for c in choices if max(sizes) >= c[0]), choices[-1])
    if unit == "c":
        return Scale(factor, symbol, 1)
    if factor == 1.0 and unit in ("1", "bytes") and all(v == int(v) for v in sizes):
        return Scale(factor, symbol, 0)
    whole_digits = math.floor(math.log10(min(sizes) / factor)) + 1
    return Scale(factor, symbol, min(_MAX_DECIMALS, max(0, _DIGITS - whole_digits)))


def with_uncertainty(value: float, uncertainty: float, unit: str) -> str:
    """Write a value and what it may be off by with the same prefix and decimals: `12.3 J ± 0.4`.

    The uncertainty has one digit that counts, two where the first is a 1: more would be a guess about a guess.
    """
    scale = scale_for([max(abs(value), uncertainty)], unit)
    decimals = scale.decimals
    if uncertainty > 0:
        digits, exponent = f"{uncertainty / scale.factor:.1e}".split("e")
        decimals = min(_MAX_DECIMALS, max(0, digits.startswith("1") - int(exponent)))
    symbol = f" {scale.symbol}" if scale.symbol else ""
    return f"{value / scale.factor:.{decimals}f}{symbol} ± {uncertainty / scale.factor:.{decimals}f}"


def percent(difference: float) -> str:
    """Write a relative difference with its sign: `−3.1 %`."""
    decimals = 0 if abs(difference) >= 1 else 1
    text = f"{abs(difference) * 100:.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if difference > 0 else "−"
    return f"{sign}{text} %"
