"""What an NVIDIA Jetson offers beside what every Linux does; linux.py asks for it.

Files come first: they cost least and can be read fastest. What no file tells is asked of jtop, once a second, and where
there is neither, of tegrastats.
"""

from __future__ import annotations

from collections.abc import Mapping

from melt.records import Sampling
from melt.targets.jetson import is_jetson
from melt.targets.probe import Snapshot, keyed_bytes, text_of
from melt.telemetry.base import Discovery, FileSource
from melt.telemetry.platforms import jetson_jtop, jetson_rails, jetson_tegrastats, nvidia
from melt.telemetry.platforms.columns import Collector, matching
from melt.telemetry.sites import RAIL

_DEVFREQ_GPU = "/sys/class/devfreq/*/device/load"
_GPU_NAMES = ("gpu", "gv11b", "gp10b", "ga10b", "gb10b")
_GPU_LOAD = ("/sys/devices/gpu.0/load", "/sys/devices/platform/gpu.0/load")
"""Where devfreq does not lead to it."""
_EMC_CLOCK = ("/sys/kernel/debug/bpmp/debug/clk/emc/rate", "/sys/kernel/debug/clk/override.emc/clk_rate")
"""Of debugfs: only root may read it. Thor has its clock under devfreq (`bwmgr`)."""
_BWMGR = "/sys/class/devfreq/bwmgr/cur_freq"
_FAN = "/sys/class/hwmon/hwmon*"
_FAN_JETPACK_4 = "/sys/devices/pwm-fan"
_FULL_DUTY = 255.0
_ALARMS = "/sys/class/hwmon/hwmon*/oc[0-9]_event_cnt"
"""Of chip `soctherm_oc` since JetPack 5: how often too little voltage or too much current cut the clocks (Jetson Linux
Developer Guide, "Jetson Orin Over-Current Event"). Beside each stands whether it cuts them at all."""
OVER_CURRENT = "over-current alarm "
"""What the sites of those counters begin with."""

_LOADS = {"gpu_busy": "the load of the GPU", "emc_busy": "the load of the memory (EMC)"}

GLOBS: tuple[str, ...] = (
    *jetson_rails.GLOBS,
    "/etc/nv_tegra_release",
    "/proc/device-tree/compatible",
    _DEVFREQ_GPU,
    *_GPU_LOAD,
    *_EMC_CLOCK,
    f"{_FAN}/pwm1",
    f"{_FAN}/rpm",
    f"{_FAN}/fan1_input",
    f"{_FAN_JETPACK_4}/cur_pwm",
    f"{_FAN_JETPACK_4}/rpm_measured",
    _ALARMS,
    _ALARMS.replace("event_cnt", "throt_en"),
)

COMMANDS: Mapping[str, tuple[str, ...]] = {**jetson_jtop.COMMANDS, **jetson_tegrastats.COMMANDS}

NO_ANSWER = "jtop gave no answer that can be read: see what `jtop` says on the board"
NO_POWER = (
    "power is not measured: no rail of a power monitor can be read, be it from files, through jtop or tegrastats; "
    "some boards have no monitor (Jetson Nano 2GB): attach a power meter"
)


def channels(
    snapshot: Snapshot, sampling: Sampling, sensors: Collector, slow: Collector, *, gpu_is_told: bool = False
) -> Discovery:
    """Return the channels that only a Jetson has, and what it denies; nothing on other machines.

    `gpu_is_told`: nvidia-smi tells the load of the GPU already.
    """
    if not is_jetson(snapshot):
        return Discovery()
    rails = jetson_rails.rails(snapshot, sampling)
    parts = {
        "rails": rails,
        "gpu_busy": _gpu_load(snapshot, sensors),
        "emc_freq": _emc_clock(snapshot, slow),
        "fan": _fans(snapshot, slow),
        "alarms": _alarms(snapshot, slow),
    }
    told = {name for name, found in parts.items() if found} | _told_elsewhere(snapshot)
    if gpu_is_told:
        told |= {"gpu_busy", "gpu_freq"}
    jtop = jetson_jtop.probe(snapshot)
    if jtop is not None and jtop.refusal is None:
        lines = jetson_jtop.channels(jtop, sampling, told)
    else:
        lines = jetson_tegrastats.channels(snapshot, sampling, told)
    found = Discovery(tuple(file for part in parts.values() for file in part), tuple(lines))
    return Discovery(found.files, found.lines, tuple(_absent(found, jtop, told)))


def heeds_nvidia_smi(snapshot: Snapshot) -> bool:
    """Whether nvidia-smi is worth a program that runs along: on a Jetson where it alone tells the GPU's load (Thor)."""
    if not is_jetson(snapshot):
        return True
    answers = (text_of(snapshot, f"$ {name}") or "" for name in nvidia.COMMANDS)
    loads = (field.strip() for answer in answers for field in answer.split(",")[nvidia.LOAD_FIELD :][:1])
    return _gpu_load_path(snapshot) is None and any(load.isdecimal() for load in loads)


def _told_elsewhere(snapshot: Snapshot) -> set[str]:
    """Name what the channels of every Linux tell already."""
    told = set()
    if matching(snapshot, "/sys/class/thermal/thermal_zone*/type"):
        told.add("temperature")
    if any(_is_gpu(path) for path in matching(snapshot, "/sys/class/devfreq/*/cur_freq")):
        told.add("gpu_freq")
    if "NvMapMemUsed" in keyed_bytes(snapshot, "/proc/meminfo"):
        told.add("gpu_memory")
    if _BWMGR in snapshot:
        told.add("emc_freq")
    return told


def _is_gpu(path: str) -> bool:
    return any(name in path.split("/")[4] for name in _GPU_NAMES)


def _gpu_load_path(snapshot: Snapshot) -> str | None:
    by_devfreq = [path for path in matching(snapshot, _DEVFREQ_GPU) if _is_gpu(path)]
    return next((path for path in (*by_devfreq, *_GPU_LOAD) if text_of(snapshot, path) is not None), None)


def _gpu_load(snapshot: Snapshot, sensors: Collector) -> list[FileSource]:
    path = _gpu_load_path(snapshot)
    return [] if path is None else [sensors.sensor(path, "gpu_busy", "utilization", site="gpu", per_unit=1e3)]


def _emc_clock(snapshot: Snapshot, slow: Collector) -> list[FileSource]:
    path = next((path for path in _EMC_CLOCK if text_of(snapshot, path) is not None), None)
    return [] if path is None else [slow.sensor(path, "emc_freq", "frequency", site="emc")]


def _fans(snapshot: Snapshot, slow: Collector) -> list[FileSource]:
    """Read how hard the fan is driven, and how fast it turns where it has a tachometer."""
    duty = [p for p in matching(snapshot, f"{_FAN}/pwm1") if "fan" in (text_of(snapshot, f"{p[:-4]}name") or "")]
    turns = [path for name in ("rpm", "fan1_input") for path in matching(snapshot, f"{_FAN}/{name}")]
    if not duty:
        duty, turns = [f"{_FAN_JETPACK_4}/cur_pwm"], [f"{_FAN_JETPACK_4}/rpm_measured"]
    kinds = ((duty, "fan_duty", "utilization", _FULL_DUTY), (turns, "fan_rpm", "count", 1.0))
    return [
        slow.sensor(path, base, quantity, site="fan", per_unit=per_unit)
        for paths, base, quantity, per_unit in kinds
        for path in paths
        if text_of(snapshot, path) is not None
    ]


def _alarms(snapshot: Snapshot, slow: Collector) -> list[FileSource]:
    """Count the times that a lack of power cut the clocks, a channel for each cause."""
    counters = [p for p in matching(snapshot, _ALARMS) if text_of(snapshot, p.replace("event_cnt", "throt_en")) != "0"]
    names = ((path, path.rpartition("/")[2].partition("_")[0]) for path in counters)
    return [
        slow.sensor(path, f"{name}_throttled", "count", site=OVER_CURRENT + name, cumulative=True)
        for path, name in names
    ]


def _absent(found: Discovery, jtop: jetson_jtop.Probe | None, told: set[str]) -> list[str]:
    """Say what this board does not tell, and what would help."""
    rails = [s for s in found.streams if RAIL in s.site]
    sentences = []
    if not rails:
        sentences.append(NO_POWER)
    elif "rails" not in told:
        sentences.append(
            f"no file tells of the power rails: they come from {rails[0].source}, {rails[0].rate_hz:g} times a second"
        )
    measured = told | {stream.name.removesuffix("_ratio") for stream in found.streams}
    lacking = [what for name, what in _LOADS.items() if name not in measured]
    refusal = NO_ANSWER if jtop is None else jtop.refusal
    if refusal is None:
        return sentences + [f"{what} is not measured: neither a file nor jtop tells it here" for what in lacking]
    lost = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not measured"
    return [*sentences, f"{lost if lacking else 'a change of power mode during a run is not seen'}: {refusal}"]
