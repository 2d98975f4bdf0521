"""powermetrics, which comes with macOS and is root's: the clock of every CPU, and the chip's model of its power.

Read through agents/streams/powermetrics_stream.py, in the units in which it comes: milliwatts, hertz for CPUs and
megahertz for the GPU. Powers are means over the time before the line, which is in the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from melt.targets.probe import Snapshot
from melt.telemetry.base import PYTHON, STREAMS, LineSource
from melt.telemetry.platforms.json_values import Reader, at, number
from melt.telemetry.platforms.macos_lines import FASTEST_MS, Column, line_source, period_ms
from melt.telemetry.renewal import WINDOW
from melt.telemetry.sites import SOC

_ASK = ("sudo", "-n", "powermetrics", "--samplers", "cpu_power,gpu_power,thermal", "-f", "plist")

COMMANDS: Mapping[str, tuple[str, ...]] = {"powermetrics": (*_ASK, "-n", "1", "-i", str(FASTEST_MS))}
"""One sample: `sudo -l` would not tell whether a password is asked for."""

PRESSURES = {"Nominal": 0.0, "Moderate": 1.0, "Heavy": 2.0, "Trapping": 3.0, "Sleeping": 4.0}
"""Its words for the levels that notifyutil numbers."""


def readings(snapshot: Snapshot, rate_hz: float) -> list[LineSource]:
    """Return what powermetrics measures, nothing where this user may not run it."""
    raw = snapshot.get("$ powermetrics", b"")
    if b"<key>elapsed_ns</key>" not in raw:
        return []
    cpus = sorted({int(index) for index in re.findall(rb"<key>cpu</key>\s*<integer>(\d{1,3})</integer>", raw)})
    columns = (
        Column(WINDOW, "duration", "powermetrics", at("elapsed_ns", per_unit=1e9)),
        *(
            Column(f"powermetrics_{part}", "power", SOC + part, at("processor", f"{part}_power", per_unit=1e3))
            for part in ("cpu", "gpu", "ane")
        ),
        Column("thermal_pressure", "state", "device", _pressure),
        Column("powermetrics_gpu_freq", "frequency", "gpu", at("gpu", "freq_hz", per_unit=1e-6)),
        Column("powermetrics_gpu_busy", "utilization", "gpu", _busy(at("gpu", "idle_ratio"))),
        *(Column(f"cpu{cpu}_freq", "frequency", f"cpu{cpu}", _of_cpu(cpu, at("freq_hz"))) for cpu in cpus),
    )
    argv = (PYTHON, f"{STREAMS}/powermetrics_stream.py", str(period_ms(rate_hz)))
    return [line_source("powermetrics", argv, rate_hz, "powermetrics", columns)]


def _pressure(found: Mapping[str, Any]) -> float:
    word = found.get("thermal_pressure")
    return PRESSURES.get(word, math.nan) if isinstance(word, str) else math.nan


def _busy(idle: Reader) -> Reader:
    return lambda found: 1 - idle(found)


def _of_cpu(index: int, read: Reader) -> Reader:
    """Read a value of the CPU of this number, wherever it stands in the list."""

    def found_in(found: Mapping[str, Any]) -> float:
        cpus = found.get("cpus")
        cpus = cpus if isinstance(cpus, list) else []
        return next((read(cpu) for cpu in cpus if isinstance(cpu, dict) and number(cpu.get("cpu")) == index), math.nan)

    return found_in
