"""The units that melt stores, one per quantity, and the only place where they are written for people.

Quantities are stored in SI base units (bytes for memory). Conversions happen where a value enters, in a decoder,
and where it leaves, in `human`.
"""

from __future__ import annotations

UNITS: dict[str, str] = {
    "temperature": "c",
    "power": "w",
    "energy": "j",
    "voltage": "v",
    "current": "a",
    "charge": "c_coulomb",
    "frequency": "hz",
    "memory": "bytes",
    "duration": "s",
    "utilization": "ratio",
    "level": "ratio",
    "throughput": "tok/s",
    "count": "1",
    "state": "1",
}
"""Unit of each quantity a stream or a metric may have. `ratio` is 0..1 per core or device, not percent."""

_PREFIXES = ((1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
_SYMBOLS = {
    "s": "s",
    "w": "W",
    "j": "J",
    "hz": "Hz",
    "v": "V",
    "a": "A",
    "j/tok": "J/tok",
    "j/inference": "J/inference",
    "j*s": "J·s",
    "gco2e": "g CO2e",
    "bytes/s": "B/s",
    "op/s": "OP/s",
}
_COULOMBS_PER_MAH = 3.6


def human(value: float | None, unit: str, digits: int = 3) -> str:
    """Write a stored value for a person; `-` when it was not measured.

    >>> human(0.0123, "s"), human(98_400_000, "bytes"), human(None, "w"), human(0.431, "ratio")
    ('12.3 ms', '93.8 MiB', '-', '43.1 %')
    """
    if value is None or value != value:
        return "-"
    if unit == "bytes":
        return _binary(value, digits)
    if unit == "ratio":
        return f"{_significant(value * 100, digits)} %"
    if unit == "c":
        return f"{value:.1f} °C"
    if unit in ("tok/s", "tok/j"):
        return f"{_significant(value, digits)} {unit.replace('/j', '/J')}"
    if unit == "c_coulomb":
        return f"{_significant(value / _COULOMBS_PER_MAH, digits)} mAh"
    if unit in _SYMBOLS:
        scale, prefix = _prefix(value)
        return f"{_significant(value / scale, digits)} {prefix}{_SYMBOLS[unit]}"
    return _significant(value, digits) if unit in ("1", "responses") else f"{_significant(value, digits)} {unit}"


def counted(n: int, word: str) -> str:
    """Write a number and its word: `1 thread`, `2 threads`, `2 series`."""
    return f"{n} {word}" if n == 1 or word.endswith("s") else f"{n} {word}s"


def _prefix(value: float) -> tuple[float, str]:
    chosen = (1.0, "")
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale:
            chosen = (scale, prefix)
    return chosen


def _binary(value: float, digits: int) -> str:
    for prefix in ("", "Ki", "Mi", "Gi"):
        if abs(value) < 1024:
            return f"{_significant(value, digits)} {prefix}B"
        value /= 1024
    return f"{_significant(value, digits)} TiB"


def _significant(value: float, digits: int) -> str:
    """Write `digits` significant digits without an exponent for the sizes that benchmarks have."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:.{max(0, digits - whole)}f}" if abs(value) >= 0.001 else f"{value:.{digits}g}"
