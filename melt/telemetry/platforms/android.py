"""What a phone offers to read without root, discovered from one snapshot of it.

Vendors relabel files at will: what can be read is found out by reading it. What no file tells is asked of the system's
services, once a second at most, because each question starts a program.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from melt.records import Calibration, Sampling
from melt.targets import dumpsys
from melt.targets.android import properties
from melt.targets.probe import Snapshot, int_of, text_of
from melt.telemetry.base import Discovery, FileSource, Guard, LineSource, Parser
from melt.telemetry.derive import RAW_CURRENT
from melt.telemetry.parsers import joined, number, word
from melt.telemetry.platforms import gauge, heat, kernel
from melt.telemetry.platforms.columns import Collector, matching, slug

_BATTERY = "/sys/class/power_supply/battery"
_KGSL = "/sys/class/kgsl/kgsl-3d0"
_GPU_BUSY = (
    (f"{_KGSL}/gpu_busy_percentage", "%"),
    ("/sys/class/misc/mali0/device/utilization", "%"),
    ("/sys/kernel/gpu/gpu_busy", "%"),
)
_GPU_CLOCK = ((f"{_KGSL}/gpuclk", 1.0), ("/sys/kernel/gpu/gpu_clock", 1e-6))
_ASK_GAUGE = ("cat", f"{_BATTERY}/current_now")
_ASK_BATTERY = ("dumpsys", "battery")
_ASK_THERMAL = ("dumpsys", "thermalservice")
_ASK_SCREEN = ("dumpsys", "deviceidle", "get", "screen")
_ASK_POWER = ("dumpsys", "power")
_ASK_RAILS = ("dumpsys", "android.hardware.power.stats.IPowerStats/default")

GLOBS: tuple[str, ...] = (
    *kernel.GLOBS,
    *heat.GLOBS,
    "/sys/class/devfreq/*/cur_freq",
    *(path for path, _ in (*_GPU_BUSY, *_GPU_CLOCK)),
    *(
        f"/sys/class/power_supply/[bB]attery/{name}"
        for name in ("current_now", "voltage_now", "charge_counter", "temp", "status", "capacity")
    ),
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "dumpsys battery": _ASK_BATTERY,
    "dumpsys thermalservice": _ASK_THERMAL,
    "dumpsys powerstats": _ASK_RAILS,
    "dumpsys deviceidle get screen": _ASK_SCREEN,
    "dumpsys power": _ASK_POWER,
    # Once more, after a while: a gauge about which two readings disagree is not concluded from.
    "cat current_now": _ASK_GAUGE,
}

HEALTH = ("dumpsys battery", "dumpsys thermalservice")

EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "logcat": ("logcat", "-d", "-t", "200"),
    "dmesg": ("dmesg",),
}
"""Asked after a run that did not end by itself. Production builds keep dmesg to themselves; logcat has lmkd's kills."""

_SERVICE_PERIOD_S = 1.0
_SCREEN_PERIOD_S = 5.0
_SCREEN: Mapping[tuple[str, ...], Callable[[str], float]] = {
    _ASK_SCREEN: dumpsys.screen_said,
    _ASK_POWER: dumpsys.screen_on,
}
"""Who knows whether the screen is on, the shortest answer first: the power service prints tens of kilobytes."""
_SITE = "battery"
_BATTERY_LIMIT_C = 60.0
_BATTERY_BASIS = "cells of lithium batteries are rated for 60 °C, and Android shuts down at 68"
_PLAUSIBLE_BATTERY_C = (1.0, 68.0)
"""What a wrong unit makes of a battery lies outside; a hot one must not, for it is what the limit is for."""
_LIMIT_STATUS = 4.0
_STATUS_BASIS = "from 5, emergency, the phone shuts parts of itself down"
_HAL_CHIPS = frozenset({0, 1, 9})
"""Types of HAL temperatures that are chips: CPU, GPU, NPU."""
_CURRENT_FIELD = "current now"
_STATES: Mapping[str, Mapping[str, float]] = {
    "charging": {"Charging": 1.0, "Discharging": 0.0, "Not charging": 0.0, "Full": 0.0},
    "discharging": {"Charging": 0.0, "Discharging": 1.0, "Not charging": 0.0, "Full": 0.0},
}
"""A battery that is full, or kept from charging, does neither: the charger feeds the phone past it."""
_Reader = Callable[[Mapping[str, float]], float]
_MILLIVOLTS_BELOW = 100_000
"""A battery's voltage under this is in millivolts: in microvolts it were a tenth of a volt."""
_SURELY_HERTZ, _SURELY_KILOHERTZ = 20_000_000, 50_000
_LIMITS = re.compile(r"ibat|vbat|bcl|ocp|vdroop|uvlo|batoilo|smpl|sys_evt|^soc$|_cycle|_cell|reduce|minus")
"""Zones of limits and differences: milliamperes, millivolts and percent, written as if they were temperatures."""


def discover(snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return the channels that this phone offers and, a sentence each, what it does not."""
    sensors = Collector("sensors", sampling.sensors_hz)
    system = Collector("system", min(sampling.sensors_hz, kernel.SYSTEM_HZ))
    slow = Collector("slow", min(sampling.sensors_hz, kernel.SLOW_HZ))
    calibration = _calibration(snapshot)
    files = [
        *kernel.frequencies(snapshot, sensors),
        *(f for f in heat.thermal_zones(snapshot, sensors, slow) if not _LIMITS.search(slug(f.streams[0].site))),
        *_gpu(snapshot, sensors),
        *kernel.load(snapshot, system),
        *kernel.memory(snapshot, system),
        *kernel.pressures(snapshot, system),
        *heat.cooling(snapshot, system),
        *_battery_files(snapshot, slow, calibration),
        *kernel.process(sampling),
    ]
    lines = [
        *_battery_service(snapshot, files, calibration),
        *_thermal_service(snapshot),
        *_rails(snapshot),
        *_screen(snapshot),
    ]
    found = Discovery(tuple(files), tuple(lines), calibrations=(calibration,) if calibration else ())
    return Discovery(found.files, found.lines, tuple(_absent(snapshot, found)), found.calibrations)


def _battery_path(snapshot: Snapshot, name: str) -> str:
    """Return where a file of the battery is: some makers write its folder with a capital."""
    path = f"{_BATTERY}/{name}"
    capital = path.replace("/battery/", "/Battery/")
    return capital if path not in snapshot and capital in snapshot else path


def _fields(snapshot: Snapshot) -> Mapping[str, float]:
    return dumpsys.battery_fields(text_of(snapshot, "$ dumpsys battery") or "")


def _raw_current(snapshot: Snapshot) -> int | None:
    """Return the gauge's number: of the kernel's file, else as Samsung's battery service prints it."""
    raw = int_of(snapshot, _battery_path(snapshot, "current_now"))
    said = _fields(snapshot).get(_CURRENT_FIELD)
    return raw if raw is not None or said is None else int(said)


def _calibration(snapshot: Snapshot) -> Calibration | None:
    readings = (_raw_current(snapshot), int_of(snapshot, "$ cat current_now"))
    return gauge.calibrate([gauge.Reading(raw, _status(snapshot)) for raw in readings if raw is not None])


def _status(snapshot: Snapshot) -> str | None:
    return text_of(snapshot, _battery_path(snapshot, "status")) or dumpsys.battery_state(_fields(snapshot))


def _level(snapshot: Snapshot) -> float:
    percent = int_of(snapshot, _battery_path(snapshot, "capacity"))
    return dumpsys.level(_fields(snapshot)) if percent is None else percent / 100


def _battery_files(snapshot: Snapshot, slow: Collector, calibration: Calibration | None) -> list[FileSource]:
    found = []
    scales = [("temp", "temp", "temperature", 10.0), ("capacity", "level", "level", 100.0)]
    per_coulomb = dumpsys.counts_per_coulomb(
        int_of(snapshot, _battery_path(snapshot, "charge_counter")) or 0, _level(snapshot)
    )
    if not math.isnan(per_coulomb):
        scales.append(("charge_counter", "charge", "charge", per_coulomb))
    volts = int_of(snapshot, _battery_path(snapshot, "voltage_now"))
    if volts is not None:
        scales.append(("voltage_now", "voltage", "voltage", 1e3 if abs(volts) < _MILLIVOLTS_BELOW else 1e6))
    if calibration is not None:
        scales.append(("current_now", "current", "current", 1 / calibration.factor))
    for name, base, quantity, per_unit in scales:
        path = _battery_path(snapshot, name)
        if (now := int_of(snapshot, path)) is not None:
            source = slow.sensor(path, f"battery_{base}", quantity, site=_SITE, per_unit=per_unit)
            found.append(replace(source, guard=_battery_guard(now / per_unit)) if name == "temp" else source)
    path = _battery_path(snapshot, "current_now")
    if calibration is None and int_of(snapshot, path) is not None:
        # What it means may turn out during the run, when the charger is off.
        found.append(slow.sensor(path, RAW_CURRENT, "count", site=_SITE))
    path = _battery_path(snapshot, "status")
    if text_of(snapshot, path) is not None:
        streams = tuple(slow.stream(f"battery_{base}", "state", site=_SITE, source=path) for base in _STATES)
        found.append(slow.file(path, streams, joined(*map(word, _STATES.values())), max_bytes=64))
    return found


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
        site, unit = path.split("/")[4], _devfreq_unit(int_of(snapshot, path) or 0)
        if unit is not None:
            found.append(sensors.sensor(path, f"devfreq_{site}", "frequency", site=site, per_unit=unit))
    return found


def _devfreq_unit(now: int) -> float | None:
    """Return how many of a devfreq clock's units make a hertz; None for votes in MB/s, which are no clocks.

    Documented in Hz; Exynos and Tensor kernels count in kHz.
    """
    if now >= _SURELY_HERTZ:
        return 1.0
    return 1e-3 if now >= _SURELY_KILOHERTZ else None


def _percent(raw: bytes) -> tuple[float, ...]:
    """Read `37 %`, `37%` and `37`."""
    return number(100.0)(raw.replace(b"%", b""))


def _battery_service(snapshot: Snapshot, files: list[FileSource], calibration: Calibration | None) -> list[LineSource]:
    """Ask the service for what the files do not tell."""
    told = {stream.name for file in files for stream in file.streams}
    asked = Collector("battery", 1 / _SERVICE_PERIOD_S)
    readers: dict[str, tuple[str, _Reader]] = {
        "battery_voltage": ("voltage", dumpsys.voltage_v),
        "battery_temp": ("temperature", lambda found: found.get("temperature", math.nan) / 10),
        "battery_level": ("level", dumpsys.level),
        "battery_charge": ("charge", dumpsys.charge_c),
        **{f"battery_{base}": ("state", _state_reader(values)) for base, values in _STATES.items()},
    }
    if calibration is not None:
        factor = calibration.factor
        readers["battery_current"] = ("current", lambda found: found.get(_CURRENT_FIELD, math.nan) * factor)
    fields = _fields(snapshot)
    wanted = [
        (stream, read)
        for base, (quantity, read) in readers.items()
        if not math.isnan(read(fields))
        and (stream := asked.stream(base, quantity, site=_SITE, source="dumpsys battery")).name not in told
    ]
    if not wanted:
        return []

    def parse(raw: bytes) -> tuple[float, ...]:
        found = dumpsys.battery_fields(raw.decode(errors="replace"))
        return tuple(read(found) for _, read in wanted)

    guard = _battery_guard(fields.get("temperature", math.nan) / 10, "  temperature: ")
    watched = guard is not None and any(stream.quantity == "temperature" for stream, _ in wanted)
    return [
        LineSource(
            "battery",
            _ASK_BATTERY,
            tuple(stream for stream, _ in wanted),
            parse,
            _SERVICE_PERIOD_S,
            guards=(guard,) if guard is not None and watched else (),
        )
    ]


def _battery_guard(now_c: float, before: str = "") -> Guard | None:
    """Return the limit of the battery, in tenths of a degree; None where what it says now can be none."""
    low, high = _PLAUSIBLE_BATTERY_C
    if not low < now_c < high:
        return None
    return Guard(_SITE, _BATTERY_LIMIT_C, _BATTERY_BASIS, per_unit=10.0, before=before)


def _state_reader(values: Mapping[str, float]) -> _Reader:
    return lambda found: values.get(dumpsys.battery_state(found) or "", math.nan)


def _thermal_service(snapshot: Snapshot) -> list[LineSource]:
    """Read the HAL's thermometers and the throttling status: what the phone itself decides by."""
    text = text_of(snapshot, "$ dumpsys thermalservice") or ""
    sensors = dumpsys.hal_temperatures(text)
    names = list(dict.fromkeys(t.name for t in sensors))
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

    guard = Guard("thermal status", _LIMIT_STATUS, _STATUS_BASIS, unit="1", before="Thermal Status: ")
    chips = tuple(
        Guard(t.name, math.inf, "", before="Temperature{mValue=", besides=f"mName={t.name},")
        for t in sensors
        if t.type in _HAL_CHIPS
    )
    return [
        LineSource("thermal_service", _ASK_THERMAL, streams, parse, _SERVICE_PERIOD_S, guards=(guard,), chips=chips)
    ]


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


def _screen(snapshot: Snapshot) -> list[LineSource]:
    """Watch whether the phone is awake: with the screen off, some clock their CPUs very low."""
    for argv, read in _SCREEN.items():
        source = " ".join(argv)
        if not math.isnan(read(text_of(snapshot, f"$ {source}") or "")):
            stream = Collector("screen", 1 / _SCREEN_PERIOD_S).stream(
                "screen_on", "state", site="screen", source=source
            )
            return [LineSource("screen", argv, (stream,), _screen_parser(read), _SCREEN_PERIOD_S)]
    return []


def _screen_parser(read: Callable[[str], float]) -> Parser:
    return lambda raw: (read(raw.decode(errors="replace")),)


def _absent(snapshot: Snapshot, found: Discovery) -> list[str]:
    """Say what this phone denies, and what would help."""
    streams = found.streams
    sources = {stream.source for stream in streams}
    zones = any("/thermal_zone" in source for source in sources)
    hal = any(s.quantity == "temperature" and s.collector == "thermal_service" for s in streams)
    sentences = []
    if not zones and hal:
        sentences.append(
            "thermal zones are denied to the shell user: temperatures come from the thermal service, once a second"
        )
    elif not zones:
        battery = any(s.quantity == "temperature" for s in streams)
        sentences.append(
            "the processor's temperature is not measured: thermal zones are denied to the shell user and the thermal "
            f"service has no sensors{'; only the temperature of the battery is known' if battery else ''}"
        )
    rails = any(s.cumulative and s.quantity == "energy" for s in streams)
    sentences += _power_sentences(snapshot, found, rails)
    clocks = any(s.quantity == "frequency" and s.site.startswith("cpu") for s in streams)
    if not clocks:
        sentences.append("CPU frequency is not measured: cpufreq is denied to the shell user")
    if not any(s.name == "thermal_status" for s in streams):
        instead = "its CPU clocks show it" if clocks else "only a falling rate in a sustained workload shows it"
        sentences.append(f"this phone does not say when it throttles: {instead}")
    if "/proc/stat" not in sources:
        sentences.append("the load of the whole phone is not measured: /proc/stat is denied to the shell user")
    if properties(snapshot).get("ro.melt.virtual") == "1":
        sentences.append(
            "this is a virtual phone: its CPU is emulated and its sensors are played; no speed means anything"
        )
    return sentences


def _power_sentences(snapshot: Snapshot, found: Discovery, rails: bool) -> list[str]:
    raw, state = _raw_current(snapshot), (_status(snapshot) or "in an unknown state").lower()
    if raw is None:
        instead = "only the rails of the on-device meter are known" if rails else "attach a power meter"
        return [f"the battery's current is denied to the shell user, so power is not measured: {instead}"]
    if not found.calibrations:
        return [
            f"battery power is not measured: unit or sign of current_now cannot be told from {raw} while {state}; "
            "look again with the charger unplugged and the phone at work"
        ]
    return [
        f"the sign of the battery's current is not certain ({calibration.basis}): look once with the charger unplugged"
        for calibration in found.calibrations
        if not calibration.certain
    ]
