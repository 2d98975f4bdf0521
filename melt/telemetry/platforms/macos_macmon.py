"""macmon (github.com/vladkens/macmon): power of the whole Mac, temperatures and clocks, without any rights.

`sys_power` is the SMC's key PSTR, which covers all that hangs on the supply or the battery; the other powers are
IOReport's model again. Versions 0.5 to 0.8: older ones give a cluster's clock and load as `ecpu_usage`, [MHz, share],
newer ones each apart, 0.8.0 only so. What macmon cannot read it prints as 0. PyPI's `macmon` is another program.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from melt.targets.probe import Snapshot, text_of
from melt.telemetry.base import LineSource
from melt.telemetry.platforms.json_values import Reader, at, first, json_object
from melt.telemetry.platforms.macos_lines import FASTEST_MS, Column, line_source, period_ms
from melt.telemetry.sites import SMC, SOC

COMMANDS: Mapping[str, tuple[str, ...]] = {
    # A shell over SSH does not have Homebrew in its PATH.
    "macmon": (
        "sh",
        "-c",
        'PATH="$PATH:/opt/homebrew/bin:/usr/local/bin:/opt/local/bin"; macmon=$(command -v macmon) && '
        'echo "$macmon" && version=$("$macmon" --version) && echo "$version" && '
        f'case $version in "macmon "[0-9]*) "$macmon" pipe -s 1 -i {FASTEST_MS};; esac',
    ),
}
"""Where it lies, its version and one reading."""

_SAME = 1.0001


def _sys_power(found: Mapping[str, Any]) -> float:
    """Read the whole Mac's power, NaN where macmon could not: then it says 0, or the sum of the chip's parts.

    It prints the greater of the key and that sum, which in a moment of renewed counters is far too much.
    """
    whole, parts = at("sys_power")(found), at("all_power")(found)
    return whole if whole > 0 and not whole <= parts * _SAME else math.nan


def _positive(read: Reader) -> Reader:
    return lambda found: value if (value := read(found)) > 0 else math.nan


_CLUSTERS = {"ecpu": "e-cluster", "pcpu": "p-cluster", "gpu": "gpu"}
_COLUMNS = (
    Column("smc", "power", SMC, _sys_power),
    *(Column(f"macmon_{part}", "power", SOC + part, at(f"{part}_power")) for part in ("cpu", "gpu", "ane")),
    Column("macmon_dram", "power", f"{SOC}dram", at("ram_power")),
    *(Column(site, "temperature", site, _positive(at("temp", f"{site}_temp_avg"))) for site in ("cpu", "gpu")),
    *(
        Column(
            f"{name}_freq",
            "frequency",
            site,
            _positive(first(at(f"{name}_freq_mhz", per_unit=1e-6), at(f"{name}_usage", 0, per_unit=1e-6))),
        )
        for name, site in _CLUSTERS.items()
    ),
    *(
        # Of what the cluster could do at its highest clock: all versions have that, not all the share of time.
        Column(f"{name}_load", "utilization", site, first(at(f"{name}_scaled_ratio"), at(f"{name}_usage", 1)))
        for name, site in _CLUSTERS.items()
    ),
    Column("ram_used", "memory", "memory", at("memory", "ram_usage")),
    Column("swap_used", "memory", "memory", at("memory", "swap_usage")),
)


def readings(snapshot: Snapshot, rate_hz: float) -> tuple[list[LineSource], list[str]]:
    """Return what macmon measures here, or why the program of that name is of no use."""
    said = (text_of(snapshot, "$ macmon") or "").splitlines()
    if not said or not said[0].startswith("/"):
        return [], []
    version = said[1] if len(said) > 1 else ""
    now = json_object(said[-1])
    if not re.match(r"macmon \d", version) or "sys_power" not in now:
        return [], [f"{said[0]} is not the macmon that reads Macs: `brew install macmon` (github.com/vladkens/macmon)"]
    # One look may meet a key at a bad moment: of the power, only that there is none at all is believed.
    columns = [c for c in _COLUMNS if not math.isnan(c.read(now)) or (c.site == SMC and at("sys_power")(now) > 0)]
    argv = (said[0], "pipe", "-i", str(period_ms(rate_hz)))
    once = (said[0], "pipe", "-s", "1", "-i", str(FASTEST_MS))
    return [replace(line_source("macmon", argv, rate_hz, version, columns), once=once)], []
