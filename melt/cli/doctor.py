"""`melt doctor`: what a device is, what can be measured on it and what cannot, and what would change that."""

from __future__ import annotations

import argparse
import math
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from melt.records import DeviceFacts, Stream
    from melt.session.connect import Site
    from melt.telemetry.base import Discovery

NAME = "doctor"
HELP = "show what a device is, what can be measured on it, and what would help"
FORMATS = ("table", "json")

_LINE_WITHIN_S = 5.0
_HEADERS = ("channel", "quantity", "unit", "site", "now", "rate", "source")
_ENGINE_PACKAGES = {"llama.cpp": ("llama-cpp-python", "pip install 'melt[llama]'")}


class Reading(NamedTuple):
    """A column and what it says now; None: nothing, or only while a runner runs."""

    stream: Stream
    value: float | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("--device", metavar="NAME", default="local", help="the device to look at (default: local)")
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the answer (default: table)")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 when runs can be made here, 1 when something they need is not there."""
    from melt.records import Sampling
    from melt.session.connect import connect
    from melt.telemetry.platforms import platform

    site = connect(args.device, say=lambda what: print(f"melt: {what}", file=sys.stderr))
    try:
        found = platform(site.target.facts.os).discover(site.snapshot, Sampling())
        readings = _readings(site, found)
    finally:
        site.close()
    engines = _engines()
    advice = [
        *found.missing,
        *_advice(site.target.facts, readings),
        *_known(site.target.facts, readings),
        *(text for _, _, text in engines if text),
    ]
    if args.output == "json":
        _write_json(site, readings, engines, advice)
    else:
        _write_tables(site, readings, engines, advice)
    return 0 if any(version for _, version, _ in engines) else 1


def _readings(site: Site, found: Discovery) -> list[Reading]:
    """Say what each column says: files out of the snapshot, programs by the first line with a value."""
    readings = []
    for file in found.files:
        values = file.parse(site.snapshot.get(file.path, b""))
        readings += [Reading(s, _measured(v)) for s, v in zip(file.streams, values, strict=True)]
    for line in found.lines:
        values = line.parse(_first_line(site, line.argv))
        readings += [Reading(s, _measured(v)) for s, v in zip(line.streams, values, strict=True)]
    return readings


def _first_line(site: Site, argv: tuple[str, ...]) -> bytes:
    data = b""
    with site.target.transport.open(argv) as channel:
        while b"\n" not in data and (more := channel.read(4096, _LINE_WITHIN_S)):
            data += more
    return data.partition(b"\n")[0]


def _measured(value: float) -> float | None:
    return None if math.isnan(value) else value


def _engines() -> list[tuple[str, str | None, str | None]]:
    """Return (engine, version, what to do) of each engine that runs in melt's own Python."""
    from importlib.metadata import PackageNotFoundError, version

    found: list[tuple[str, str | None, str | None]] = []
    for engine, (package, remedy) in _ENGINE_PACKAGES.items():
        try:
            found.append((engine, f"{package} {version(package)}", None))
        except PackageNotFoundError:
            found.append((engine, None, f"engine {engine} is not installed here: `{remedy}`"))
    return found


def _advice(facts: DeviceFacts, readings: list[Reading]) -> list[str]:
    """Say what makes numbers scatter on this device now."""
    said = []
    governors = sorted({cpu.governor for cpu in facts.cpus if cpu.governor} - {"performance"})
    if governors:
        said.append(
            f"CPU clocks move with the load (governor {', '.join(governors)}): "
            "`sudo cpupower frequency-set -g performance` holds them while you measure"
        )
    if any(r.stream.name.endswith("_charging") and r.value == 1 for r in readings):
        said.append("the battery is charging, which heats the device and hides its power: unplug it to measure energy")
    if facts.virtualization:
        said.append(f"others may share the processor ({facts.virtualization}): use several sessions, watch `stolen_s`")
    return said


def _known(facts: DeviceFacts, readings: list[Reading]) -> list[str]:
    """Say what a profile in devices/ adds to what the device says of itself."""
    from melt.targets.profiles import load_profiles, matching_profile
    from melt.units import human

    profile = matching_profile(facts, load_profiles())
    if profile is None:
        return []
    said = [f"{profile.title}: {note.text} ({note.source})" for note in profile.notes]
    limit = profile.facts.get("throttles_from_c")
    temperatures = [r.value for r in readings if r.stream.quantity == "temperature" and r.value is not None]
    if limit is not None:
        now = f", now {human(max(temperatures), 'c')}" if temperatures else ""
        said.append(f"{profile.title}: clocks are cut from {human(limit.value, 'c')}{now} ({limit.source})")
    peak = profile.facts.get("memory_peak_bytes_per_s")
    if peak is not None and facts.memory_bandwidth_bytes_per_s is not None:
        share = human(facts.memory_bandwidth_bytes_per_s / peak.value, "ratio")
        said.append(
            f"{profile.title}: {share} of the memory's {human(peak.value, 'bytes/s')} was reached ({peak.source})"
        )
    return said


def _facts(site: Site, engines: list[tuple[str, str | None, str | None]]) -> list[tuple[str, str]]:
    from melt.targets.cpus import default_threads
    from melt.units import human

    facts = site.target.facts
    bandwidth = facts.memory_bandwidth_bytes_per_s
    clocks = {human(cpu.max_hz, "hz") for cpu in facts.cpus if cpu.max_hz}
    rows: list[tuple[str, str | None]] = [
        ("device", f"{facts.name} ({facts.device_id})"),
        ("system", ", ".join(filter(None, (facts.os_build, f"kernel {facts.kernel}", facts.arch)))),
        ("virtual", facts.virtualization),
        ("processor", facts.soc),
        ("CPUs", f"{len(facts.cpus)}, {default_threads(facts)} cores" + "".join(f", to {c}" for c in sorted(clocks))),
        ("memory", f"{human(facts.memory_total_bytes, 'bytes')}, {human(facts.memory_available_bytes, 'bytes')} free"),
        ("memory bandwidth", None if bandwidth is None else human(bandwidth, "bytes/s")),
        *(("accelerator", name) for name in facts.accelerators),
        ("agent", f"{site.target.agent.expected_version[:12]}, clock known to {human(_uncertainty_s(site), 's')}"),
        *((f"engine {name}", version or "not installed") for name, version, _ in engines),
    ]
    return [(key, value) for key, value in rows if value]


def _uncertainty_s(site: Site) -> float:
    return site.clock_uncertainty_ns / 1e9


def _write_tables(
    site: Site, readings: list[Reading], engines: list[tuple[str, str | None, str | None]], advice: list[str]
) -> None:
    from melt.report.table import render_table

    sys.stdout.write(render_table(None, ("fact", "value"), _facts(site, engines), "table"))
    sys.stdout.write("\n" + render_table("What can be measured", _HEADERS, _rows(readings), "table"))
    if advice:
        sys.stdout.write("\n" + "".join(f"- {sentence}\n" for sentence in advice))


def _rows(readings: list[Reading]) -> list[list[str]]:
    """One row per column; those of all CPUs share one."""
    groups: dict[tuple[str, str, str], list[Reading]] = {}
    for reading in readings:
        groups.setdefault(_row_key(reading), []).append(reading)
    rows = []
    for (name, site, source), members in groups.items():
        stream = members[0].stream
        kind = "counter" if stream.cumulative else stream.quantity
        now = "during a run" if "{pid}" in stream.source else _span(members)
        label = f"{stream.collector}.{name}" + (f" ({len(members)})" if len(members) > 1 else "")
        rows.append([label, kind, stream.unit, site, now, f"{stream.rate_hz:g} Hz", source])
    return rows


def _row_key(reading: Reading) -> tuple[str, str, str]:
    """Return name, site and source with a CPU's number left out."""
    stream = reading.stream
    return (
        re.sub(r"^cpu\d+_", "cpu*_", stream.name),
        re.sub(r"^cpu\d+$", "cpu*", stream.site),
        re.sub(r"(policy|/cpu)\d+", r"\1*", stream.source),
    )


def _span(members: list[Reading]) -> str:
    from melt.units import human

    unit = members[0].stream.unit
    values = [m.value for m in members if m.value is not None]
    if not values:
        return "-"
    low, high = human(min(values), unit), human(max(values), unit)
    return low if low == high else f"{low} .. {high}"


def _write_json(
    site: Site, readings: list[Reading], engines: list[tuple[str, str | None, str | None]], advice: list[str]
) -> None:
    import json

    from melt.codec import to_dict

    document: dict[str, Any] = {
        "device": to_dict(site.target.facts),
        "agent": {"version": site.target.agent.expected_version, "clock_uncertainty_s": _uncertainty_s(site)},
        "engines": [{"engine": name, "version": version} for name, version, _ in engines],
        "channels": [{**to_dict(r.stream), "value": r.value} for r in readings],
        "advice": advice,
    }
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
