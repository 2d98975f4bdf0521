"""The power monitors of a Jetson: which rails they measure, and what of the board each rail is.

JetPack 5 and later: the kernel's driver, mV and mA per channel, in4 to in7 are shunts and their sum
(https://docs.kernel.org/hwmon/ina3221.html). JetPack 4: NVIDIA's own driver below iio, mW. Thor's carrier board has an
INA238 for its input, in microwatts (https://docs.kernel.org/hwmon/ina238.html).
"""

from __future__ import annotations

from collections.abc import Iterator

from melt.records import Sampling
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import FileSource
from melt.telemetry.platforms.columns import Collector, matching
from melt.telemetry.sites import RAIL

_MONITOR = "/sys/bus/i2c/devices/*-004?"
"""INA3221 and INA238 answer at the addresses from 0x40 on."""
_HWMON = f"{_MONITOR}/hwmon/hwmon*"
_IIO = f"{_MONITOR}/iio:device*"

GLOBS: tuple[str, ...] = (
    f"{_HWMON}/name",
    f"{_HWMON}/in[123]_label",
    f"{_HWMON}/in[123]_input",
    f"{_HWMON}/curr[123]_input",
    f"{_HWMON}/power1_input",
    f"{_IIO}/rail_name_*",
    f"{_IIO}/in_power*_input",
    f"{_IIO}/in_voltage*_input",
    f"{_IIO}/in_current*_input",
)

CHIPS = frozenset({"ina3221", "ina238"})
"""Names of hwmon chips that are read here."""

_FASTEST_HZ = 100.0
_NOT_CONNECTED = "NC"
_PARTS = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails of AGX Orin that another rail feeds: a sum with both would count them twice (Jetson Linux Developer Guide,
"Software-Based Power Consumption Modeling")."""


def site_of(label: str) -> str | None:
    """Return the site of a rail by the board's name for it; None when nothing is connected to it.

    A rail that another one feeds is called a part of it: only sites that begin with RAIL are added up.
    """
    if label.upper() == _NOT_CONNECTED:
        return None
    whole = _PARTS.get(label.upper())
    return f"{RAIL}{label}" if whole is None else f"{label} of {RAIL}{whole}"


def rails(snapshot: Snapshot, sampling: Sampling) -> list[FileSource]:
    """Return the rails that can be read, each once: volts and amperes, or watts where the driver multiplies."""
    rate_hz = sampling.sensors_hz if sampling.power_hz is None else sampling.power_hz
    collector = Collector("rails", min(rate_hz, _FASTEST_HZ))
    return [*_hwmon(snapshot, collector)] or [*_iio(snapshot, collector)]


def _hwmon(snapshot: Snapshot, collector: Collector) -> Iterator[FileSource]:
    for path in matching(snapshot, f"{_HWMON}/in[123]_label"):
        folder, _, channel = path.removesuffix("_label").rpartition("/in")
        yield from _rail(
            snapshot,
            collector,
            text_of(snapshot, path),
            "",
            f"{folder}/in{channel}_input",
            f"{folder}/curr{channel}_input",
        )
    for path in matching(snapshot, f"{_HWMON}/power1_input"):
        if text_of(snapshot, path.replace("/power1_input", "/name")) == "ina238":
            yield from _rail(snapshot, collector, "VIN", path, "", "", per_watt=1e6)


def _iio(snapshot: Snapshot, collector: Collector) -> Iterator[FileSource]:
    for path in matching(snapshot, f"{_IIO}/rail_name_*"):
        folder, _, channel = path.rpartition("/rail_name_")
        paths = (f"{folder}/in_{quantity}{channel}_input" for quantity in ("power", "voltage", "current"))
        yield from _rail(snapshot, collector, text_of(snapshot, path), *paths)


def _rail(
    snapshot: Snapshot,
    collector: Collector,
    label: str | None,
    power: str,
    voltage: str,
    current: str,
    *,
    per_watt: float = 1e3,
) -> Iterator[FileSource]:
    site = None if label is None else site_of(label)
    if site is None:
        return
    base = f"rail_{label}"
    if text_of(snapshot, power) is not None:
        yield collector.sensor(power, f"{base}_power", "power", site=site, per_unit=per_watt)
    elif text_of(snapshot, voltage) is not None and text_of(snapshot, current) is not None:
        yield collector.sensor(voltage, base, "voltage", site=site, per_unit=1e3)
        yield collector.sensor(current, base, "current", site=site, per_unit=1e3)
