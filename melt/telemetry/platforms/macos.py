"""What a Mac offers to read, discovered from one snapshot of it. Written from recordings, never run on a Mac.

docs/apple.md says what is proven and how an owner of a Mac proves the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from melt.records import Sampling
from melt.targets.macos import virtualization
from melt.targets.probe import Snapshot
from melt.telemetry.base import Discovery
from melt.telemetry.platforms import macos_ioreport, macos_macmon, macos_powermetrics, macos_state
from melt.telemetry.sites import SMC, SOC

GLOBS: tuple[str, ...] = ()

COMMANDS: Mapping[str, tuple[str, ...]] = {
    **macos_ioreport.COMMANDS,
    **macos_macmon.COMMANDS,
    **macos_powermetrics.COMMANDS,
    **macos_state.COMMANDS,
}

HEALTH = (*macos_macmon.COMMANDS, macos_state.BATTERY)

_KILLS = 'process == "kernel" AND eventMessage CONTAINS "memorystatus"'

EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "log": ("log", "show", "--last", "2m", "--style", "compact", "--predicate", _KILLS),
    "memory_pressure": ("memory_pressure", "-Q"),
}
"""Asked after a run that did not end by itself: whom the kernel killed for want of memory. Administrators only."""

_NO_POWER = (
    "power and energy are not measured: `brew install macmon` brings what reads the power of the whole Mac, "
    "`melt provision` (on this machine the extra `apple`) what reads its chip's counters; or attach a power meter"
)
_NO_WHOLE = "power and energy are not measured: `brew install macmon`, or attach a power meter"


def discover(snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return the channels that this Mac offers and, a sentence each, what it does not."""
    rate_hz = sampling.power_hz or sampling.sensors_hz
    macmon, macmon_missing = macos_macmon.readings(snapshot, rate_hz)
    ioreport, ioreport_missing = macos_ioreport.counters(snapshot, rate_hz)
    files = [*macos_state.cpus(snapshot, sampling), *macos_state.process(sampling)]
    lines = [
        *macmon,
        *ioreport,
        *macos_powermetrics.readings(snapshot, rate_hz),
        # notifyutil prints 0 for a key that nobody ever posted, and in a virtual Mac nobody does.
        *(macos_state.thermal_pressure(snapshot) if virtualization(snapshot) is None else ()),
        *macos_state.battery(snapshot),
        *macos_state.memory(snapshot),
    ]
    found = Discovery(tuple(files), tuple(lines))
    # Whoever was told why the chip's counters are of no use needs no advice to install what reads them.
    no_power = _NO_WHOLE if ioreport_missing else _NO_POWER
    missing = (*macmon_missing, *ioreport_missing, *_absent(snapshot, found, no_power))
    return Discovery(found.files, found.lines, missing)


def _absent(snapshot: Snapshot, found: Discovery, no_power: str) -> list[str]:
    """Say what is not there, and what would help; in a virtual Mac nothing would."""
    virtual = virtualization(snapshot)
    streams = found.streams
    sites = {stream.site for stream in streams if stream.quantity in ("power", "energy")}
    quantities = {stream.quantity for stream in streams}
    has_macmon = any(line.name == "macmon" for line in found.lines)
    macmon = "macmon cannot read it here" if has_macmon else "`brew install macmon`"
    sentences = []
    if SMC not in sites and any(site.startswith(SOC) for site in sites):
        sentences.append(f"power of the whole Mac is not measured, only what its chip says that it consumes: {macmon}")
    elif not sites:
        where = f"power and energy are not measured in this virtual system ({virtual})"
        sentences.append(where if virtual else no_power)
    if "temperature" not in quantities:
        help_ = f" in this virtual system ({virtual})" if virtual else f": {macmon}"
        sentences.append(f"temperature is not measured{help_}")
    if not any(stream.quantity == "frequency" and stream.site.startswith("cpu") for stream in streams):
        known = "known per cluster only" if "frequency" in quantities else "not measured"
        help_ = "" if virtual else "; powermetrics tells each CPU's where this user may run it by `sudo -n`"
        sentences.append(f"CPU frequency is {known}{help_}")
    if not any(stream.name == "thermal_pressure" for stream in streams):
        sentences.append(
            "this Mac does not say when it throttles: only a falling rate in a sustained workload shows it"
        )
    return sentences
