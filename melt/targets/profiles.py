"""Profiles of device models: facts with their sources out of devices/*.yaml, found by what a device says of itself.

devices/README.md is the description of the files. What a profile says is never measured: it is shown beside what was,
and `battery` is a hint against which the calibration of a phone's current is checked.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from melt import _layout, records
from melt.records import DeviceFacts


@dataclass(frozen=True, slots=True)
class Fact:
    """A number and who says so."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that a user of the device should know, and who says so."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """CPUs of one kind, as the chip maker names the core. None: no source says the clock.

    `source` is given where it is not the one of the whole.
    """

    core: str
    count: int
    max_hz: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPUs, from the smallest cluster to the largest."""

    clusters: tuple[Cluster, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU by its maker's name. `driver` is the kernel's device node or driver, where a source names it."""

    name: str
    source: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Battery:
    """What is said of the raw number in `current_now`: a hint, for firmware updates have changed both.

    `current_unit` is ua or ma; `discharging_sign` is the sign that the number has while the battery is discharging.
    `capacity_coulomb` and `nominal_v` are the battery's by its design, for devices that keep it to themselves.
    """

    source: str
    current_unit: str | None = None
    discharging_sign: str | None = None
    capacity_coulomb: float | None = None
    nominal_v: float | None = None


@dataclass(frozen=True, slots=True)
class Rails:
    """Power rails below the battery: the meter's name of each -> what it feeds (`CPU big`, `GPU`)."""

    names: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class UsbPower:
    """How the USB port of one device is switched: `tool` is uhubctl, ykush or ykush3.

    `hub` is uhubctl's location (`1-1.4`) or the serial number of a YKUSH.
    """

    tool: str
    hub: str
    port: int


METER_COVERS = ("whole device", "compute module")
"""What an external meter may measure; analysis ranks power sensors by it."""


@dataclass(frozen=True, slots=True)
class ExternalMeter:
    """The power meter that measures one device from outside. `options` belong to its kind, which checks them.

    `covers` is one of METER_COVERS; `where` is file and place, for complaints.
    """

    kind: str
    covers: str
    options: Mapping[str, object]
    where: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a device model, or of one device. `match` maps a fact's name to a pattern to be found in it.

    `addresses` are those by which one device is reached, as `--device` takes them.
    """

    name: str
    title: str
    match: Mapping[str, re.Pattern[str]]
    sample: Mapping[str, str] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Fact] = dataclasses.field(default_factory=dict)
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    battery: Battery | None = None
    rails: Rails | None = None
    usb_power: UsbPower | None = None
    meter: ExternalMeter | None = None
    addresses: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def fits(self, device: DeviceFacts) -> bool:
        """Whether every pattern is found."""
        return all(pattern.search(getattr(device, key) or "") for key, pattern in self.match.items())


def own_profiles_dir() -> Path:
    """Return the folder for a lab's own profiles: $MELT_DEVICES, else `devices` with the user's configuration."""
    chosen = os.environ.get("MELT_DEVICES")
    return Path(chosen) if chosen else platformdirs.user_config_path("melt") / "devices"


def load_profiles(folder: Path | None = None) -> list[Profile]:
    """Read every profile of a folder; None: melt's, then the lab's own. Raises UsageError with file and place."""
    from melt.targets._profile_file import read_profiles

    folders = (_layout.devices_dir(), own_profiles_dir()) if folder is None else (folder,)
    return read_profiles(folders)


def matching_profile(device: DeviceFacts, profiles: Iterable[Profile]) -> Profile | None:
    """Return the profile that fits: one that names this very device, else the one with the most patterns."""
    fitting = [profile for profile in profiles if profile.fits(device)]
    return max(fitting, key=lambda profile: ("device_id" in profile.match, len(profile.match)), default=None)


def with_battery(device: DeviceFacts, profile: Profile | None) -> DeviceFacts:
    """Return the facts of a device with what its profile says of its battery's design, where it does not say itself."""
    said = None if profile is None else profile.battery
    if said is None:
        return device
    known = device.battery
    if known is None:
        if said.capacity_coulomb is None:
            return device
        known = records.Battery(basis="design", source=said.source, charge_coulomb=said.capacity_coulomb)
    return dataclasses.replace(device, battery=dataclasses.replace(known, nominal_v=known.nominal_v or said.nominal_v))


def lab_profile(device: DeviceFacts) -> Profile | None:
    """Return what the lab says of a device; None where the lab has no files of its own. Raises UsageError."""
    if not any(own_profiles_dir().glob("*.yaml")):
        return None
    return matching_profile(device, load_profiles())
