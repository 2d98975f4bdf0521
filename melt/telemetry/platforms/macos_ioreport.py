"""The energy counters of an Apple chip: IOReport's "Energy Model" through zeus-apple-silicon, without any rights.

They are what the chip's firmware computes that CPU, GPU, memory and Neural Engine consumed: no display, no storage, no
losses of the supply, and nothing that a meter saw. Their driver renews them when it likes, so that what energy is taken
from is derived (melt/telemetry/renewal.py). A reading took 3.5 to 12 ms on an M1 Ultra
(github.com/lablup/all-smi/pull/424): ten a second are some 4 % of one core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from melt.targets.macos import settings
from melt.targets.probe import Snapshot
from melt.telemetry.base import PYTHON, STREAMS, LineSource
from melt.telemetry.platforms.json_values import Reader, at, json_object, number
from melt.telemetry.platforms.macos_lines import Column, line_source, period_ms
from melt.telemetry.sites import SOC

_LOOK = """
import json, sys
from zeus_apple_silicon import AppleEnergyMonitor
reading = AppleEnergyMonitor().get_cumulative_energy()
names = [name for name in dir(reading) if name.endswith("_mj")]
print(json.dumps(dict({name: getattr(reading, name) for name in names}, python=sys.executable)))
"""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    # Never plain python3: where Apple's tools are not installed, that opens a window on the Mac's screen.
    "ioreport": (
        "sh",
        "-c",
        'for python in "$HOME/.melt/venv/bin/python" "${VIRTUAL_ENV:-/nowhere}/bin/python"; do '
        '[ -x "$python" ] && exec "$python" -c "$0"; done; exit 1',
        _LOOK,
    ),
}
"""One reading, and the interpreter that could take it."""

ONE_DIE = (
    "the chip's energy counters are not read: zeus-apple-silicon 1.1.0 counts the CPUs of one of an Ultra's two dies"
)


def counters(snapshot: Snapshot, rate_hz: float) -> tuple[list[LineSource], list[str]]:
    """Return the counters that this chip has, and what keeps them from being believed."""
    now = json_object(snapshot.get("$ ioreport"))
    columns = [
        Column(f"ioreport_{part}", "energy", SOC + part, read, cumulative=True)
        for part, read in _PARTS.items()
        if not math.isnan(read(now))
    ]
    if not columns:
        return [], []
    if "Ultra" in settings(snapshot).get("machdep.cpu.brand_string", ""):
        return [], [ONE_DIE]
    python = now.get("python")
    argv = (
        python if isinstance(python, str) and python.startswith("/") else PYTHON,
        f"{STREAMS}/ioreport_stream.py",
        str(period_ms(rate_hz)),
    )
    return [line_source("ioreport", argv, rate_hz, "IOReport Energy Model", columns)], []


def _sum_of(key: str) -> Reader:
    """Add up the clusters of a kind."""

    def read(found: Mapping[str, Any]) -> float:
        values = found.get(key)
        return math.fsum(map(number, values)) / 1e3 if isinstance(values, list) and values else math.nan

    return read


_PARTS: Mapping[str, Reader] = {
    "cpu": at("cpu_total_mj", per_unit=1e3),
    "gpu": at("gpu_mj", per_unit=1e3),
    "dram": at("dram_mj", per_unit=1e3),
    "ane": at("ane_mj", per_unit=1e3),
    "gpu sram": at("gpu_sram_mj", per_unit=1e3),
    "e-cluster": _sum_of("efficiency_cluster_mj"),
    "p-cluster": _sum_of("performance_cluster_mj"),
}
"""What is counted. `cpu` holds the clusters."""
