"""What a phone offers to read without root, discovered from one snapshot of it.

Vendors relabel files at will: what can be read is found out by reading it. What no file tells is asked of the system's
services, once a second at most, because each question starts a program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from melt.records import Calibration, Sampling, Stream
from melt.targets import dumpsys
from melt.targets.android import properties
from melt.targets.probe import Snapshot, int_of, text_of
from melt.telemetry.base import Discovery, FileSource, LineSource
from melt.telemetry.parsers import number, word
from melt.telemetry.platforms import gauge, heat, kernel
from melt.telemetry.platforms.columns import Collector, matching

_BATTERY = "/sys/class/power_supply/battery"
_KGSL = "/sys/class/kgsl/kgsl-3d0"
_GPU_BUSY = (
    (f"{_KGSL}/gpu_busy_percentage", "%"),
    ("/sys/class/misc/mali0/device/utilization", "%"),
    ("/sys/kernel/gpu/gpu_busy", "%"),
)
_GPU_CLOCK = ((f"{_KGSL}/gpuclk", 1.0), ("/sys/kernel/gpu/gpu_clock", 1e-6))
_ASK_BATTERY = ("dumpsys", "battery")
_ASK_THERMAL = ("dumpsys", "thermalservice")
_ASK_RAILS = ("dumpsys", "android.hardware.power.stats.IPowerStats/default")

GLOBS: tuple[str, ...] = (
    *kernel.GLOBS,
    *heat.GLOBS,
    "/sys/class/devfreq/*/cur_freq",
    *(path for path, _ in (*_GPU_BUSY, *_GPU_CLOCK)),
    *(f"{_BATTERY}/{name}" for name in ("current_now", "voltage_now", "charge_counter", "temp", "status", "capacity")),
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "dumpsys battery": _ASK_BATTERY,
    "dumpsys thermalservice": _ASK_THERMAL,
    "dumpsys powerstats": _ASK_RAILS,
}

EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "logcat": ("logcat", "-d", "-t", "200"),
    "dmesg": ("dmesg",),
}
"""Asked after a run that did not end by itself. Production builds keep dmesg to themselves; logcat has lmkd's kills."""

_SERVICE_PERIOD_S = 1.0
_CHARGING = {"Charging": 1.0, "Discharging": 0.0, "Not charging": 0.0, "Full": 0.0}
_MILLIVOLTS_BELOW = 100_000
"""A battery's voltage under this is in millivolts: in microvolts it were a tenth of a volt."""
_NOT_A_CHIP = frozenset({2, 3, 4, 5, 10})
"""HAL temperature types of battery, skin, USB port, power amplifier and modem."""


def discover(snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return the channels that this phone offers and, a sentence each, what it does not."""
    sensors = Collector("sensors", sampling.sensors_hz)
    system = Collector("system", min(sampling.sensors_hz, kernel.SYSTEM_HZ))
    slow = Collector("slow", min(sampling.sensors_hz, kernel.SLOW_HZ))
    calibration = _calibration(snapshot)
    files = [
        *kernel.frequencies(snapshot, sensors),
        *heat.thermal_zones(snapshot, sensors),
        *_gpu(snapshot, sensors),
        *kernel.load(snapshot, system),
        *kernel.memory(snapshot, system),
        *kernel.pressures(snapshot, system),
        *heat.cooling(snapshot, system),
        *_battery_files(snapshot, slow, calibration),
        *kernel.process(sampling),
    ]
    lines = [
        *_battery_service(snapshot, files),
        *_thermal_service(snapshot),
        *_rails(snapshot),
    ]
    found = Discovery(tuple(files), tuple(lines), calibrations=(calibration,) if calibration else ())
    return Discovery(found.files, found.lines, tuple(_absent(snapshot, found)), found.calibrations)


def _calibration(snapshot: Snapshot) -> Calibration | None:
    raw = int_of(snapshot, f"{_BATTERY}/current_now")
    if raw is None:
        return None
    return gauge.calibrate([gauge.Reading(raw, _status(snapshot))])


def _status(snapshot: Snapshot) -> str | None:
    status = text_of(snapshot, f"{_BATTERY}/status")
    if status is not None:
        return status
    fields = dumpsys.battery_fields(text_of(snapshot, "$ dumpsys battery") or "")
    return dumpsys.BATTERY_STATES.get(int(fields.get("status", 0)))


def _battery_files(snapshot: Snapshot, slow: Collector, calibration: Calibration | None) -> list[FileSource]:
    found = []
    volts = int_of(snapshot, f"{_BATTERY}/voltage_now")
    if volts is not None:
        per_volt = 1e3 if abs(volts) < _MILLIVOLTS_BELOW else 1e6
        found.append(_of_battery(slow, "voltage_now", "voltage", "voltage", per_volt))
    if calibration is not None:
        found.append(_of_battery(slow, "current_now", "current", "current", 1 / calibration.factor))
    for name, base, quantity, per_unit in (
        ("charge_counter", "charge", "charge", 1e6 / 3600),
        ("temp", "temp", "temperature", 10.0),
        ("capacity", "level", "level", 100.0),
    ):
        if int_of(snapshot, f"{_BATTERY}/{name}") is not None:
            found.append(_of_battery(slow, name, base, quantity, per_unit))
    path = f"{_BATTERY}/status"
    if text_of(snapshot, path) is not None:
        stream = slow.stream("battery_charging", "state", site="battery", source=path)
        found.append(slow.file(path, (stream,), word(_CHARGING), max_bytes=64))
    return found


def _of_battery(slow: Collector, name: str, base: str, quantity: str, per_unit: float) -> FileSource:
    return slow.sensor(f"{_BATTERY}/{name}", f"battery_{base}", quantity, site="battery", per_unit=per_unit)


def _gpu(snapshot: Snapshot, sensors: Collector) -> list[FileSource]:
    found = []
    for path, _ in _GPU_BUSY:
        if text_of(snapshot, path) is not None:
            stream = sensors.stream("gpu_busy", "utilization", site="gpu", source=path)
            found.append(sensors.file(path, (stream,), _percent, max_bytes=64))
    for path, per_hz in _GPU_CLOCK:
        if text_of(snapshot, path) is not None:
            found.append(sensors.sensor(path, "gpu_freq", "frequency", site="gpu", per_unit=per_hz))
    for path in matching(snapshot, "/sys/class/devfreq/*/cur_freq"):
        if text_of(snapshot, path) is not None:
            site = path.split("/")[4]
            found.append(sensors.sensor(path, f"devfreq_{site}", "frequency", site=site))
    return found


def _percent(raw: bytes) -> tuple[float, ...]:
    """Read `37 %`, `37%` and `37`."""
    return number(100.0)(raw.replace(b"%", b""))


def _battery_service(snapshot: Snapshot, files: list[FileSource]) -> list[LineSource]:
    """Ask the service for what the files do not tell."""
    told = {stream.name for file in files for stream in file.streams}
    fields = dumpsys.battery_fields(text_of(snapshot, "$ dumpsys battery") or "")
    asked = Collector("battery", 1 / _SERVICE_PERIOD_S)
    wanted: list[tuple[Stream, Callable[[Mapping[str, float]], float]]] = []
    for key, base, quantity, per_unit in (
        ("voltage", "battery_voltage", "voltage", 1e3),
        ("temperature", "battery_temp", "temperature", 10.0),
        ("level", "battery_level", "level", 100.0),
        ("Charge counter", "battery_charge", "charge", 1e6 / 3600),
    ):
        stream = asked.stream(base, quantity, site="battery", source="dumpsys battery")
        if key in fields and stream.name not in told:
            wanted.append((stream, lambda found, key=key, per=per_unit: found.get(key, math.nan) / per))  # type: ignore[misc]
    if "status" in fields and "battery_charging" not in told:
        stream = asked.stream("battery_charging", "state", site="battery", source="dumpsys battery")
        wanted.append((stream, _is_charging))
    if not wanted:
        return []

    def parse(raw: bytes) -> tuple[float, ...]:
        found = dumpsys.battery_fields(raw.decode(errors="replace"))
        return tuple(read(found) for _, read in wanted)

    return [LineSource("battery", _ASK_BATTERY, tuple(s for s, _ in wanted), parse, _SERVICE_PERIOD_S)]


def _is_charging(fields: Mapping[str, float]) -> float:
    state = dumpsys.BATTERY_STATES.get(int(fields["status"])) if "status" in fields else None
    return _CHARGING.get(state or "", math.nan)


def _thermal_service(snapshot: Snapshot) -> list[LineSource]:
    """Read the HAL's thermometers and the throttling status: what the phone itself decides by."""
    text = text_of(snapshot, "$ dumpsys thermalservice") or ""
    names = list(dict.fromkeys(t.name for t in dumpsys.hal_temperatures(text)))
    if dumpsys.thermal_status(text) is None and not names:
        return []
    asked = Collector("thermal_service", 1 / _SERVICE_PERIOD_S)
    source = "dumpsys thermalservice"
    status = asked.stream("thermal_status", "state", site="device", source=source)
    streams = (status, *(asked.stream(f"hal_{name}", "temperature", site=name, source=source) for name in names))

    def parse(raw: bytes) -> tuple[float, ...]:
        said = raw.decode(errors="replace")
        now = {t.name: t.value_c for t in dumpsys.hal_temperatures(said)}
        level = dumpsys.thermal_status(said)
        return (math.nan if level is None else float(level), *(now.get(name, math.nan) for name in names))

    return [LineSource("thermal_service", _ASK_THERMAL, streams, parse, _SERVICE_PERIOD_S)]


def _rails(snapshot: Snapshot) -> list[LineSource]:
    """Read the on-device power meter: an energy counter per rail, below the battery."""
    names = list(dict.fromkeys(r.name for r in dumpsys.rails(text_of(snapshot, "$ dumpsys powerstats") or "")))
    if not names:
        return []
    asked = Collector("rails", 1 / _SERVICE_PERIOD_S)
    streams = tuple(
        asked.stream(f"rail_{name}", "energy", site=f"rail {name}", source="power stats HAL", cumulative=True)
        for name in names
    )

    def parse(raw: bytes) -> tuple[float, ...]:
        now = {r.name: r.energy_j for r in dumpsys.rails(raw.decode(errors="replace"))}
        return tuple(now.get(name, math.nan) for name in names)

    return [LineSource("rails", _ASK_RAILS, streams, parse, _SERVICE_PERIOD_S)]


def _absent(snapshot: Snapshot, found: Discovery) -> list[str]:
    """Say what this phone denies, and what would help."""
    streams = found.streams
    sources = {stream.source for stream in streams}
    sentences = []
    if not any(s.quantity == "temperature" for s in streams):
        sentences.append("temperature is not measured: neither thermal zones nor the thermal service can be read")
    elif not any("/thermal_zone" in source for source in sources):
        sentences.append(
            "thermal zones are denied to the shell user: temperatures come from the system's services, once a second"
        )
    raw = int_of(snapshot, f"{_BATTERY}/current_now")
    if raw is None and not any(s.cumulative and s.quantity == "energy" for s in streams):
        sentences.append(
            "power is not measured: the battery's current is denied to the shell user and there is no rail meter; "
            "attach a power meter"
        )
    elif raw is not None and not found.calibrations:
        sentences.append(
            f"battery power is not measured: unit or sign of current_now cannot be told from {raw} while "
            f"{(_status(snapshot) or 'in an unknown state').lower()}; look again with the charger unplugged"
        )
    if not any(s.quantity == "frequency" and s.site.startswith("cpu") for s in streams):
        sentences.append("CPU frequency is not measured: cpufreq is denied to the shell user")
    if "/proc/stat" not in sources:
        sentences.append("the load of the whole phone is not measured: /proc/stat is denied to the shell user")
    if properties(snapshot).get("ro.melt.virtual") == "1":
        sentences.append(
            "this is a virtual phone: its CPU is emulated and its sensors are played; no speed means anything"
        )
    return sentences
