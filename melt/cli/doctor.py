"""`melt doctor`: what a device is, what can be measured on it and what cannot, and what would change that."""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.cli._adbargs import add_adb_argument
from melt.cli._doctor_advice import advice, known
from melt.cli._doctor_engines import Engines, engines_of
from melt.cli._doctor_meter import Metering, metering_of
from melt.cli._doctor_plugins import Listed, plugins_here
from melt.cli._doctor_rows import HEADERS, Reading, channel_rows

if TYPE_CHECKING:
    from melt.errors import DeviceError
    from melt.records import DeviceFacts
    from melt.session.connect import Site
    from melt.targets.agent import Stored
    from melt.targets.base import Target
    from melt.telemetry.base import Discovery

NAME = "doctor"
HELP = "show what a device is, what can be measured on it, and what would help"
FORMATS = ("table", "json")

_LINE_WITHIN_S = 5.0
_NAMES, _POWER_MODE = "_governor", "nvpmodel"
"""Columns whose numbers stand for names."""


@dataclass(frozen=True, slots=True)
class _Seen:
    site: Site
    found: Discovery
    readings: list[Reading]
    stored: Stored
    engines: Engines
    meter: Metering
    plugins: list[Listed]

    @property
    def facts(self) -> DeviceFacts:
        return self.site.target.facts

    @property
    def advice(self) -> list[str]:
        said = [
            *self.found.missing,
            *advice(self.facts, self.readings),
            *known(self.facts, self.readings, self.found.calibrations),
            *(engine.remedy for engine in self.engines.engines if engine.remedy),
            *self.meter.advice,
            *(plugin.trouble for plugin in self.plugins if plugin.trouble),
        ]
        # What is wrong with a plug-in stands among what is missing already, or is wrong with two of one name.
        return list(dict.fromkeys(said))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument("name", metavar="DEVICE", nargs="?", help="the device to look at (default: local)")
    parser.add_argument("--device", metavar="NAME", help="the same, as other verbs write it")
    add_adb_argument(parser)
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the answer (default: table)")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 when runs can be made here, 1 when something they need is not there."""
    from melt.errors import DeviceError, UsageError
    from melt.fleet.lease import lease
    from melt.records import Sampling
    from melt.session.connect import connect
    from melt.targets.blobs import BLOBS
    from melt.telemetry.platforms import platform
    from melt.transports.registry import resolve

    if args.name and args.device and args.name != args.device:
        raise UsageError(f"two devices are named, {args.name} and {args.device}: doctor looks at one at a time")
    selector = resolve(args.name or args.device or "local")
    with ExitStack() as held:
        try:
            site = connect(
                selector,
                say=lambda what: print(f"melt: {what}", file=sys.stderr),
                claim=lambda facts: held.enter_context(lease(facts.device_id, facts.name)),
            )
        except DeviceError as error:
            _write_unreached(selector, error, args.output)
            return error.exit_code
        held.callback(site.close)
        found = platform(site.target.facts.os).discover(site.snapshot, Sampling())
        readings = _readings(site, found)
        stored = site.target.agent.stored(f"{site.target.root}/{BLOBS}")
        engines = engines_of(site.target)
        meter = metering_of(site.target.facts)
    seen = _Seen(site, found, readings, stored, engines, meter, plugins_here())
    if args.output == "json":
        _write_json(seen)
    else:
        _write_tables(seen)
    return 0 if any(engine.version for engine in engines.engines) else 1


def _readings(site: Site, found: Discovery) -> list[Reading]:
    """Say what each column says: files out of the snapshot, programs by the first line with a value."""
    from melt.session.prepare import placed
    from melt.targets.probe import text_of
    from melt.telemetry.platforms.jetson_jtop import mode_name

    readings = []
    target = site.target
    # What the agent alone can ask of a kernel is in no snapshot.
    asked = [file.path for file in found.files if file.path not in site.snapshot and "{pid}" not in file.path]
    contents = {**site.snapshot, **(target.agent.read(asked) if asked else {})}
    for file in found.files:
        values = file.parse(contents.get(file.path, b""))
        named = [text_of(site.snapshot, file.path) if s.name.endswith(_NAMES) else None for s in file.streams]
        readings += [Reading(s, _measured(v), n) for s, v, n in zip(file.streams, values, named, strict=True)]
    streams_dir = _streams_dir(site, found)
    for line in found.lines:
        argv = placed(line.argv, streams_dir, target)
        said = _first_line(target, argv) if line.period_s is None else _output(target, argv)
        words = [mode_name(said) if s.name == _POWER_MODE else None for s in line.streams]
        readings += [Reading(s, _measured(v), w) for s, v, w in zip(line.streams, line.parse(said), words, strict=True)]
    return readings


def _streams_dir(site: Site, found: Discovery) -> str:
    """Bring to the device the programs that its channels need, if they need any."""
    from melt.session.deploy import deploy_streams
    from melt.session.prepare import brings_programs
    from melt.targets.blobs import Blobs
    from melt.telemetry.schedule import make_schedule

    target = site.target
    if not brings_programs(make_schedule(found)):
        return ""
    return deploy_streams(target, Blobs(target.transport, target.agent, target.root))


def _output(target: Target, argv: tuple[str, ...]) -> bytes:
    return target.transport.run(argv, timeout_s=_LINE_WITHIN_S).stdout


def _first_line(target: Target, argv: tuple[str, ...]) -> bytes:
    data = b""
    with target.transport.open(argv) as channel:
        while b"\n" not in data and (more := channel.read(4096, _LINE_WITHIN_S)):
            data += more
    return data.partition(b"\n")[0]


def _measured(value: float) -> float | None:
    return None if math.isnan(value) else value


def _facts(seen: _Seen) -> list[tuple[str, str]]:
    from melt.report.words import arithmetic
    from melt.targets.cpus import default_threads
    from melt.units import human

    facts, target = seen.facts, seen.site.target
    bandwidth = facts.memory_bandwidth_bytes_per_s
    clocks = {human(cpu.max_hz, "hz") for cpu in facts.cpus if cpu.max_hz}
    kept = human(float(sum(file.size for file in seen.stored.files)), "bytes")
    rows: list[tuple[str, str | None]] = [
        ("device", f"{facts.name} ({facts.device_id})"),
        ("system", ", ".join(filter(None, (facts.os_build, f"kernel {facts.kernel}", facts.arch)))),
        ("virtual", facts.virtualization),
        ("processor", facts.soc),
        ("CPUs", f"{len(facts.cpus)}, {default_threads(facts)} cores" + "".join(f", to {c}" for c in sorted(clocks))),
        ("memory", f"{human(facts.memory_total_bytes, 'bytes')}, {human(facts.memory_available_bytes, 'bytes')} free"),
        ("memory bandwidth", None if bandwidth is None else human(bandwidth, "bytes/s")),
        ("arithmetic", None if facts.compute is None else arithmetic(facts.compute)),
        ("power mode", _power_mode(facts)),
        ("storage", f"{human(float(seen.stored.free_bytes), 'bytes')} free, {kept} of files kept in {target.root}"),
        *(("accelerator", name) for name in facts.accelerators),
        *((c.column, c.basis + ("" if c.certain else " (not certain)")) for c in seen.found.calibrations),
        ("agent", f"{target.agent.expected_version[:12]}, clock known to {human(_uncertainty_s(seen.site), 's')}"),
        ("power meter", seen.meter.words),
        ("python", seen.engines.python),
        *((f"engine {engine.name}", engine.version or "not installed") for engine in seen.engines.engines),
        *(("plug-in", plugin.words) for plugin in seen.plugins),
    ]
    return [(key, value) for key, value in rows if value]


def _power_mode(facts: DeviceFacts) -> str | None:
    clocks = {True: "clocks fixed", False: "clocks not fixed", None: None}[facts.clocks_locked]
    return ", ".join(filter(None, (facts.power_mode, clocks))) or None


def _uncertainty_s(site: Site) -> float:
    return site.clock_uncertainty_ns / 1e9


def _write_unreached(selector: str, error: DeviceError, fmt: str) -> None:
    """Write why a device cannot be looked at, and what to do, in the form in which it would have been described."""
    import json

    from melt.fleet.inventory import state_of
    from melt.report.table import render_table

    state = state_of(error)
    if fmt == "json":
        sys.stdout.write(json.dumps({"selector": selector, "state": state, "advice": [str(error)]}, indent=2) + "\n")
        return
    sys.stdout.write(render_table(None, ("fact", "value"), [("device", selector), ("state", state)], "table"))
    sys.stdout.write("\n" + _bullet(str(error)))


def _write_tables(seen: _Seen) -> None:
    from melt.report.table import render_table

    sys.stdout.write(render_table(None, ("fact", "value"), _facts(seen), "table"))
    sys.stdout.write("\n" + render_table("What can be measured", HEADERS, channel_rows(seen.readings), "table"))
    if seen.advice:
        sys.stdout.write("\n" + "".join(_bullet(sentence) for sentence in seen.advice))


def _bullet(sentence: str) -> str:
    """Write a sentence, broken on a terminal only."""
    if not sys.stdout.isatty():
        return f"- {sentence}\n"
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns - 2
    return "\n".join(textwrap.wrap(f"- {sentence}", width, subsequent_indent="  ", break_on_hyphens=False)) + "\n"


def _write_json(seen: _Seen) -> None:
    import dataclasses
    import json

    from melt.codec import to_dict

    agent = seen.site.target.agent
    document: dict[str, Any] = {
        "device": to_dict(seen.facts),
        "storage": {
            "free_bytes": seen.stored.free_bytes,
            "kept_bytes": sum(file.size for file in seen.stored.files),
        },
        "agent": {"version": agent.expected_version, "clock_uncertainty_s": _uncertainty_s(seen.site)},
        "engines": [{"engine": engine.name, "version": engine.version} for engine in seen.engines.engines],
        "power_meter": seen.meter.record,
        "plugins": [dataclasses.asdict(plugin) for plugin in seen.plugins],
        "python": seen.engines.python,
        "channels": [{**to_dict(r.stream), "value": r.value, "word": r.word} for r in seen.readings],
        "calibrations": [to_dict(calibration) for calibration in seen.found.calibrations],
        "advice": seen.advice,
    }
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
