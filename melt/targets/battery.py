"""What a battery holds when it is full, as the kernel's power supply class tells it of phones and laptops.

https://docs.kernel.org/power/power_supply_class.html: charge_full (µAh) and energy_full (µWh) are what the gauge last
found, the same with _design what the battery held when it was new, voltage_min_design (µV) what it is sold by.
"""

from __future__ import annotations

import re

from melt.records import Battery
from melt.targets.probe import Snapshot, int_of, text_of

_SUPPLY = "/sys/class/power_supply"
_FILES = (
    "type",
    "scope",
    "charge_full",
    "charge_full_design",
    "energy_full",
    "energy_full_design",
    "voltage_min_design",
    "voltage_now",
)

GLOBS: tuple[str, ...] = tuple(f"{_SUPPLY}/*/{name}" for name in _FILES)
PHONE_GLOBS: tuple[str, ...] = tuple(f"{_SUPPLY}/[bB]attery/{name}" for name in _FILES)

_COULOMB_PER_UAH = 3.6e-3
_JOULE_PER_UWH = 3.6e-3
_MILLIAMPERE_HOURS_BELOW = 100_000
"""Phones have been seen to count in mAh; a tenth of an ampere hour feeds none."""
_MILLIVOLTS_BELOW = 100_000
LEAST_COULOMB, MOST_COULOMB = 0.2 * 3600, 50.0 * 3600
_LEAST_J, _MOST_J = 0.5 * 3600, 500.0 * 3600
LEAST_V, MOST_V = 2.0, 60.0
"""Bounds from a watch to a machine that two people carry: what lies outside is misread."""
_WORN_AND_NEW = (0.3, 1.3)
"""A gauge that finds a share outside of these of what the battery held when it was new is not believed."""


def of_phone(snapshot: Snapshot) -> Battery | None:
    """Return what the phone's battery holds; None where its files do not say, or cannot be read."""
    folders = (f"{_SUPPLY}/{name}" for name in ("battery", "Battery"))
    found = (_capacity(snapshot, folder, nominal_v=None) for folder in folders)
    return next((battery for battery in found if battery is not None), None)


def of_laptop(snapshot: Snapshot) -> Battery | None:
    """Return what the battery holds; None without one, and with two: which of them is used first is not told."""
    paths = (path for path in snapshot if re.fullmatch(rf"{_SUPPLY}/[^/]+/type", path))
    folders = [path.rpartition("/")[0] for path in sorted(paths) if text_of(snapshot, path) == "Battery"]
    # A mouse's battery has the scope `Device`.
    own = [folder for folder in folders if text_of(snapshot, f"{folder}/scope") != "Device"]
    if len(own) != 1:
        return None
    return _capacity(snapshot, own[0], nominal_v=_volts(snapshot, f"{own[0]}/voltage_min_design"))


def _capacity(snapshot: Snapshot, folder: str, *, nominal_v: float | None) -> Battery | None:
    """Return what the gauge found, else what the battery held when it was new."""
    volts = {"nominal_v": nominal_v, "found_v": _volts(snapshot, f"{folder}/voltage_now")}
    charges = {name: _charge(snapshot, f"{folder}/{name}") for name in ("charge_full", "charge_full_design")}
    energies = {name: _energy(snapshot, f"{folder}/{name}") for name in ("energy_full", "energy_full_design")}
    for found in (charges, energies):
        now, new = found.values()
        if now is not None and new is not None and not _WORN_AND_NEW[0] <= now / new <= _WORN_AND_NEW[1]:
            found[next(iter(found))] = None
    for basis, i in (("measured", 0), ("design", 1)):
        (counted, coulomb), (stored, joule) = list(charges.items())[i], list(energies.items())[i]
        if coulomb is not None:
            return Battery(basis=basis, source=f"{folder}/{counted}", charge_coulomb=coulomb, **volts)
        if joule is not None:
            return Battery(basis=basis, source=f"{folder}/{stored}", energy_j=joule, **volts)
    return None


def _charge(snapshot: Snapshot, path: str) -> float | None:
    """Return a full charge in coulombs."""
    raw = int_of(snapshot, path) or 0
    coulomb = raw * _COULOMB_PER_UAH * (1000 if raw < _MILLIAMPERE_HOURS_BELOW else 1)
    return coulomb if LEAST_COULOMB <= coulomb <= MOST_COULOMB else None


def _energy(snapshot: Snapshot, path: str) -> float | None:
    """Return a full battery's energy in joules."""
    joule = (int_of(snapshot, path) or 0) * _JOULE_PER_UWH
    return joule if _LEAST_J <= joule <= _MOST_J else None


def _volts(snapshot: Snapshot, path: str) -> float | None:
    raw = int_of(snapshot, path) or 0
    volts = raw / (1e3 if raw < _MILLIVOLTS_BELOW else 1e6)
    return volts if LEAST_V <= volts <= MOST_V else None
