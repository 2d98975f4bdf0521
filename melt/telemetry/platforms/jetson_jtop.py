"""What jtop tells of a Jetson beside its files: through agents/streams/jtop_stream.py, in a process of its own.

Each sample makes jtop's service run `nvpmodel -q`, which disturbs a small board: once a second is the rule, and what
a file tells is not asked of jtop.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from melt._layout import agents_dir
from melt.records import Sampling, Stream
from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import STREAMS, LineSource
from melt.telemetry.parsers import name_number
from melt.telemetry.platforms.columns import Collector
from melt.telemetry.platforms.jetson_rails import site_of
from melt.telemetry.platforms.json_values import Reader, at, first, json_object

_PROGRAM = "jtop_stream.py"
_RULE_HZ, _FASTEST_HZ = 1.0, 10.0

_PROBE = """
[ -e /etc/nv_tegra_release ] || grep -q nvidia,tegra /proc/device-tree/compatible 2>/dev/null || exit 1
of_jtop=$(head -n 1 "$(command -v jtop)" 2>/dev/null | cut -c 3-)
for python in python3 $of_jtop; do
  "$python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("jtop") is None)' 2>/dev/null && break
done
"$python" -c "$1" --probe 2>/dev/null || true
"""
"""jtop lies where its installer put it: in the system's Python, or in an environment that its command names."""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "jtop": ("sh", "-c", _PROBE, "sh", (agents_dir() / "streams" / _PROGRAM).read_text(encoding="utf-8")),
}
"""Ask jtop once. The program travels as an argument: nothing of melt's is on the device yet."""

_Sample = Mapping[str, Any]


class Probe(NamedTuple):
    """What jtop answered: a sample, or why there is none. `python` is the interpreter that has jtop."""

    sample: _Sample
    python: str
    refusal: str | None


class _Column(NamedTuple):
    stream: Stream
    read: Reader


def probe(snapshot: Snapshot) -> Probe | None:
    """Return what jtop said in a snapshot; None when it was not asked, or its answer cannot be read."""
    for line in reversed((text_of(snapshot, "$ jtop") or "").splitlines()):
        said = json_object(line)
        if "message" in said:
            return Probe({}, "", str(said["message"]))
        if isinstance(said.get("python"), str):
            return Probe(said, said["python"], None)
    return None


def channels(asked: Probe, sampling: Sampling, told: Collection[str]) -> list[LineSource]:
    """Return the stream of what jtop knows and no file tells.

    `told` is what files tell: `rails`, `temperature`, `gpu_busy`, `gpu_freq`, `gpu_memory`, `emc_freq`, `fan`.
    """
    rate_hz = _RULE_HZ if "rails" in told or sampling.power_hz is None else min(sampling.power_hz, _FASTEST_HZ)
    jtop = Collector("jtop", max(rate_hz, _RULE_HZ))
    columns = [*_rails(asked.sample, jtop)] if "rails" not in told else []
    columns += [*_temperatures(asked.sample, jtop)] if "temperature" not in told else []
    columns += _gpus(asked.sample, jtop, told) + _rest(asked.sample, jtop, told)
    if not columns:
        return []

    def parse(raw: bytes) -> tuple[float, ...]:
        sample = json_object(raw)
        return tuple(column.read(sample) for column in columns)

    argv = (asked.python, f"{STREAMS}/{_PROGRAM}", "--interval", f"{1 / jtop.rate_hz:g}")
    return [LineSource("jtop", argv, tuple(column.stream for column in columns), parse)]


def mode_name(raw: bytes) -> str | None:
    """Return the name of the power mode that a line tells, of which its column has a number that stands for it."""
    name = json_object(raw).get("nvpmodel")
    return name if isinstance(name, str) else None


def _rails(sample: _Sample, jtop: Collector) -> list[_Column]:
    found = []
    for label in _names(sample, "rails"):
        site = site_of(label)
        if site is not None:
            stream = jtop.stream(f"rail_{label}_power", "power", site=site, source="jtop")
            found.append(_Column(stream, at("rails", label, "mw", per_unit=1e3)))
    return found


def _temperatures(sample: _Sample, jtop: Collector) -> list[_Column]:
    return [
        _Column(jtop.stream(name, "temperature", site=name, source="jtop"), at("temps_c", name))
        for name in _names(sample, "temps_c")
    ]


def _gpus(sample: _Sample, jtop: Collector, told: Collection[str]) -> list[_Column]:
    kinds = (
        ("gpu_busy", "utilization", "load_percent", 100.0),
        ("gpu_freq", "frequency", "freq_khz", 1e-3),
    )
    return [
        _Column(jtop.stream(base, quantity, site=name, source="jtop"), at("gpus", name, key, per_unit=per_unit))
        for name in _names(sample, "gpus")
        for base, quantity, key, per_unit in kinds
        if base not in told and key in sample["gpus"][name]
    ]


def _rest(sample: _Sample, jtop: Collector, told: Collection[str]) -> list[_Column]:
    """Read the memory and its controller, the fans, and what explains most surprises: power mode and fixed clocks."""
    emc, found = _names(sample, "emc"), []

    def add(base: str, quantity: str, site: str, read: Reader) -> None:
        found.append(_Column(jtop.stream(base, quantity, site=site, source="jtop"), read))

    if "load_percent" in emc:
        add("emc_busy", "utilization", "emc", at("emc", "load_percent", per_unit=100))
    if "freq_khz" in emc and "emc_freq" not in told:
        add("emc_freq", "frequency", "emc", at("emc", "freq_khz", per_unit=1e-3))
    for fan in _names(sample, "fans") if "fan" not in told else ():
        add("fan_duty", "utilization", fan, _either("fans", fan, "duty_percent", per_unit=100))
        if "rpm" in sample["fans"][fan]:
            add("fan_rpm", "count", fan, _either("fans", fan, "rpm"))
    if "shared" in _names(sample, "ram_kb") and "gpu_memory" not in told:
        add("gpu_memory", "memory", "memory", at("ram_kb", "shared", per_unit=2**-10))
    if "nvpmodel" in sample:
        add("nvpmodel", "state", "device", lambda now: name_number(str(now.get("nvpmodel", "")).encode())[0])
    if "jetson_clocks" in sample:
        add("jetson_clocks", "state", "device", _fixed)
    return found


def _either(*path: str | int, per_unit: float = 1.0) -> Reader:
    """Make a reader of the number behind keys, or of the first in a list there: a fan may have several."""
    return first(at(*path, 0, per_unit=per_unit), at(*path, per_unit=per_unit))


def _fixed(sample: _Sample) -> float:
    clocks = sample.get("jetson_clocks")
    return float(clocks) if isinstance(clocks, bool) else math.nan


def _names(sample: _Sample, part: str) -> list[str]:
    found = sample.get(part)
    return sorted(found) if isinstance(found, dict) else []
