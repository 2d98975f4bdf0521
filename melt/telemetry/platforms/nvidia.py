"""NVIDIA GPUs through nvidia-smi: one stream per GPU, a line per reading.

Fields: `nvidia-smi --help-query-gpu`. The driver averages power over up to a second on most GPUs and samples it for a
part of the time only on some (A100, H100: arXiv 2312.02741). Where it offers the instant value, that is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import LineSource
from melt.telemetry.parsers import csv_fields
from melt.telemetry.platforms.columns import Collector

GLOBS: tuple[str, ...] = ("/proc/driver/nvidia/version",)

NO_TOOL = "the NVIDIA driver is loaded but nvidia-smi shows no GPU: install it, or see what it says"

_FIELDS = (
    ("temperature.gpu", "temp", "temperature", 1.0),
    ("utilization.gpu", "busy", "utilization", 100.0),
    ("memory.used", "used", "memory", 2.0**-20),
    ("clocks.sm", "sm_freq", "frequency", 1e-6),
    ("clocks.mem", "memory_freq", "frequency", 1e-6),
)
LOAD_FIELD = 3
"""Where in a line the GPU's load is: behind its index, power and temperature."""
_POWER_FIELDS = ("power.draw.instant", "power.draw")
_FASTEST_MS = 20


def _query(power_field: str) -> tuple[str, ...]:
    fields = ",".join(["index", power_field, *(field for field, *_ in _FIELDS)])
    return ("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")


COMMANDS: Mapping[str, tuple[str, ...]] = {f"nvidia-smi {field}": _query(field) for field in _POWER_FIELDS}
"""One try per way to ask for power: a driver that does not know a field refuses the whole query."""


def gpus(snapshot: Snapshot, rate_hz: float) -> tuple[list[LineSource], list[str]]:
    """Return a stream per GPU, and what is in the way where there are none."""
    for field in _POWER_FIELDS:
        rows = (text_of(snapshot, f"$ nvidia-smi {field}") or "").splitlines()
        indexes = [row.partition(",")[0].strip() for row in rows]
        found = [_gpu(int(index), field, rate_hz) for index in indexes if index.isdecimal()]
        if found:
            return found, []
    return [], [NO_TOOL] if "/proc/driver/nvidia/version" in snapshot else []


def _gpu(index: int, power_field: str, rate_hz: float) -> LineSource:
    period_ms = max(_FASTEST_MS, round(1e3 / rate_hz))
    site = f"gpu{index}"
    gpu = Collector(f"nvidia_{site}", 1e3 / period_ms)
    fields = ((power_field, "power", "power", 1.0), *_FIELDS)
    return LineSource(
        gpu.name,
        (*_query(power_field), f"--id={index}", f"--loop-ms={period_ms}"),
        tuple(
            gpu.stream(f"{site}_{base}", quantity, site=site, source=f"nvidia-smi {field}")
            for field, base, quantity, _ in fields
        ),
        csv_fields(1, [per_unit for *_, per_unit in fields]),
    )
