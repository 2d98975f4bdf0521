"""`melt doctor`: what a device is, what can be measured on it and what cannot, and what would change that."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from melt.cli._adbargs import add_adb_argument
from melt.cli._doctor_advice import advice as device_advice
from melt.cli._doctor_rows import HEADERS, Reading, channel_rows

if TYPE_CHECKING:
    from melt.records import DeviceFacts
    from melt.session.connect import Site
    from melt.telemetry.base import Discovery

NAME = "doctor"
HELP = "show what a device is, what can be measured on it, and what would help"
FORMATS = ("table", "json")

_LINE_WITHIN_S = 5.0
_ENGINE_PACKAGES = {"llama.cpp": ("llama-cpp-python", "pip install 'melt[llama]'")}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("name", metavar="DEVICE", nargs="?", help="the device to look at (default: local)")
    parser.add_argument("--device", metavar="NAME", default="local", help="the same, as other verbs write it")
    add_adb_argument(parser)
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the answer (default: table)")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 when runs can be made here, 1 when something they need is not there."""
    from melt.records import Sampling
    from melt.session.connect import connect
    from melt.telemetry.platforms import platform

    site = connect(args.name or args.device, say=lambda what: print(f"melt: {what}", file=sys.stderr))
    try:
        found = platform(site.target.facts.os).discover(site.snapshot, Sampling())
        readings = _readings(site, found)
    finally:
        site.close()
    engines = _engines_of(site.target.facts)
    advice = [
        *found.missing,
        *device_advice(site.target.facts, readings),
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
        values = line.parse(_first_line(site, line.argv) if line.period_s is None else _output(site, line.argv))
        readings += [Reading(s, _measured(v)) for s, v in zip(line.streams, values, strict=True)]
    return readings


def _output(site: Site, argv: tuple[str, ...]) -> bytes:
    return site.target.transport.run(argv, timeout_s=_LINE_WITHIN_S).stdout


def _first_line(site: Site, argv: tuple[str, ...]) -> bytes:
    data = b""
    with site.target.transport.open(argv) as channel:
        while b"\n" not in data and (more := channel.read(4096, _LINE_WITHIN_S)):
            data += more
    return data.partition(b"\n")[0]


def _measured(value: float) -> float | None:
    return None if math.isnan(value) else value


def _engines_of(facts: DeviceFacts) -> list[tuple[str, str | None, str | None]]:
    """Return (engine, version, what to do) of each engine that can run on the device."""
    if facts.os != "android":
        return _engines()
    from melt.engines.registry import get
    from melt.errors import MeltError

    name = "llama.cpp-native"
    try:
        built = get(name).for_device(facts).built_runner()
    except MeltError as error:
        return [(name, None, f"{error}; or give a binary of yours, `{name}:PATH`")]
    return [(name, f"variant {built.variant}" if built else None, None)]


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
    sys.stdout.write("\n" + render_table("What can be measured", HEADERS, channel_rows(readings), "table"))
    if advice:
        sys.stdout.write("\n" + "".join(_bullet(sentence) for sentence in advice))


def _bullet(sentence: str) -> str:
    """Write a sentence, broken on a terminal only."""
    if not sys.stdout.isatty():
        return f"- {sentence}\n"
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns - 2
    return "\n".join(textwrap.wrap(f"- {sentence}", width, subsequent_indent="  ", break_on_hyphens=False)) + "\n"


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
