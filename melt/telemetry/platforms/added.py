"""Channels that other packages add to a device, by entry points of the group `melt.telemetry`: its object is a Probe.

A probe that fails, or whose channels no agent could sample, costs its own channels and nothing else: a sentence among
what is missing says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from melt.errors import DeviceError
from melt.plugins import TELEMETRY, Plugin, PluginError, plugins
from melt.records import Sampling, Stream
from melt.telemetry.base import Discovery, FileSource, LineSource, Parser, Snapshot
from melt.telemetry.schedule import make_schedule
from melt.units import UNITS

_LONGEST_FILE_BYTES = 65_533
_RATES_HZ = (0.01, 1000.0)
_SHORTEST_PERIOD_S = 0.1


class Probe(Protocol):
    """What a plug-in offers, an object or a module. `SYSTEMS` are those of `DeviceFacts.os` that it is for.

    `GLOBS` are files to be read when a device is looked at, `COMMANDS` programs to be run then; what they say is in the
    snapshot under the path, and under `$ NAME`.
    """

    SYSTEMS: tuple[str, ...]
    GLOBS: tuple[str, ...]
    COMMANDS: Mapping[str, tuple[str, ...]]

    def discover(self, snapshot: Snapshot, sampling: Sampling) -> Discovery:
        """Turn one snapshot into channels; pure."""
        ...


def probes_for(os_name: str) -> tuple[dict[str, Probe], tuple[str, ...]]:
    """Return the probes for a system by what they are called, and a sentence for each plug-in that is none."""
    found: dict[str, Probe] = {}
    broken: list[str] = []
    for plugin in plugins(TELEMETRY):
        try:
            probe = probe_of(plugin)
        except PluginError as error:
            broken.append(str(error))
            continue
        if os_name in probe.SYSTEMS:
            found[str(plugin)] = probe
    return found, tuple(broken)


def probe_of(plugin: Plugin) -> Probe:
    """Return the probe that a plug-in offers. Raises PluginError where it is none that could be used."""
    probe: Probe = plugin.guard(plugin.load(), Probe, DeviceError)
    wrong = declared_wrongly(probe)
    if wrong is not None:
        raise PluginError(f"the {plugin} ({plugin.target}) is left out: {wrong}")
    return probe


def declared_wrongly(probe: Probe) -> str | None:
    """Say what a probe declares that nobody could ask a device for; None where all of it can be."""
    commands: object = probe.COMMANDS
    for name, words in (("SYSTEMS", probe.SYSTEMS), ("GLOBS", probe.GLOBS)):
        if not _are_words(words):
            return f"{name} is no tuple of words: {words!r}"
    if not isinstance(commands, Mapping) or not all(argv and _are_words(argv) for argv in commands.values()):
        return f"COMMANDS gives no tuple of words for each name: {commands!r}"
    return None


def with_probe(found: Discovery, who: str, probe: Probe, snapshot: Snapshot, sampling: Sampling) -> Discovery:
    """Return what was found with a probe's channels behind it; with a sentence instead where there is none to use."""
    try:
        return joined(found, probe.discover(snapshot, sampling))
    except DeviceError as error:
        return replace(found, missing=(*found.missing, str(error)))
    except (TypeError, AttributeError, ValueError) as error:
        return replace(found, missing=(*found.missing, f"the channels of the {who} are left out: {error}"))


def joined(found: Discovery, added: Discovery) -> Discovery:
    """Return both. Raises ValueError where the agent could not sample what is added beside what is there."""
    if not isinstance(added, Discovery):
        raise ValueError(f"discover gave a {type(added).__name__}, not a Discovery")
    sources: tuple[FileSource | LineSource, ...] = (*added.files, *added.lines)
    for source in sources:
        _check(source)
    _check_names(found.streams, added.streams)
    both = Discovery(
        files=(*found.files, *(replace(file, parse=_safe(file.parse, len(file.streams))) for file in added.files)),
        lines=(*found.lines, *(replace(line, parse=_safe(line.parse, len(line.streams))) for line in added.lines)),
        missing=(*found.missing, *added.missing),
        calibrations=(*found.calibrations, *added.calibrations),
    )
    make_schedule(both)
    return both


def _check(source: FileSource | LineSource) -> None:
    """Raise ValueError where no agent could sample a source, or nobody could store its columns."""
    called = source.path if isinstance(source, FileSource) else source.name
    if not source.streams:
        raise ValueError(f"{called} declares no column")
    if len({stream.collector for stream in source.streams}) > 1:
        raise ValueError(f"{called} names several collectors: one source has one clock")
    for stream in source.streams:
        unit = UNITS.get(stream.quantity)
        if unit != stream.unit:
            known = f"it is kept in {unit!r}" if unit else f"there are {', '.join(UNITS)}"
            raise ValueError(f"{stream.name} is a {stream.quantity} in {stream.unit!r}: {known}")
        _check_rate(stream.name, stream.rate_hz)
    if isinstance(source, FileSource):
        _check_rate(called, source.rate_hz)
        if "\0" in called or not called or not 1 <= source.max_bytes <= _LONGEST_FILE_BYTES:
            raise ValueError(f"the agent cannot read {source.max_bytes} bytes of {called!r}")
    elif not source.argv or not _are_words(source.argv):
        raise ValueError(f"{called} is no program: {source.argv!r}")
    elif source.period_s is not None and source.period_s < _SHORTEST_PERIOD_S:
        raise ValueError(
            f"{called} is run each {source.period_s:g} s: at least {_SHORTEST_PERIOD_S:g} s must lie between"
        )


def _check_rate(called: str, rate_hz: float) -> None:
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise ValueError(f"{called} has a rate of {rate_hz:g} Hz: it must be {low:g} to {high:g}")


def _check_names(known: tuple[Stream, ...], added: tuple[Stream, ...]) -> None:
    """Raise ValueError where the device's own traces and columns would not keep their names, or one stands twice."""
    collectors, names = {stream.collector for stream in known}, {stream.name for stream in known}
    columns: set[tuple[str, str]] = set()
    for stream in added:
        if stream.collector in collectors:
            raise ValueError(f"the collector {stream.collector!r} is there already: choose another name")
        if stream.name in names or (stream.collector, stream.name) in columns:
            raise ValueError(f"the column {stream.name} is there already")
        columns.add((stream.collector, stream.name))


def _are_words(words: object) -> bool:
    return isinstance(words, tuple) and all(isinstance(word, str) and "\0" not in word for word in words)


def _safe(parse: Parser, count: int) -> Parser:
    """Return a parser that measures nothing where the plug-in's raises, gives infinity or another number of values."""
    unmeasured = (math.nan,) * count

    def parse_safely(raw: bytes) -> tuple[float, ...]:
        try:
            values = tuple(value if math.isfinite(value) else math.nan for value in map(float, parse(raw)))
        except Exception:  # noqa: BLE001 - of whatever kind: what cannot be read was not measured
            return unmeasured
        return values if len(values) == count else unmeasured

    return parse_safely
