"""A result of another program as a run: what it told, nothing that it did not. Pure.

Formats differ in `import_*.py`, which read a text into `Entry`s; here they become documents. What the device was doing
meanwhile nobody knows, so every imported run is suspect, and none has power or energy: nobody knows of what a program's
joules are. The entry itself is kept beside the run, whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from melt import __version__
from melt.analysis.figures import Figure, median_figure
from melt.analysis.import_json import finite
from melt.analysis.names import METRICS
from melt.records import (
    Artifact,
    DeviceFacts,
    Imported,
    Metric,
    Outcome,
    Reason,
    Repeat,
    RunSpec,
    RunStart,
    RunStop,
    Sampling,
    Settings,
    Thresholds,
    Workload,
)
from melt.traces import RunBundle
from melt.verdicts import decide

ENTRY = "imported.json"
"""The attachment with what the file said."""

OTHER_UNITS: Mapping[str, str] = {
    "samples_per_s": "samples/s",
    "query_s": "s",
    "output_tps": "tok/s",
    "accuracy": "ratio",
}
"""Figures that melt itself does not measure, and their units."""

_UNKNOWN = "unknown"
_ID_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One result as its file tells it. None and absent: the file does not say.

    `samples` has a value for each repetition, `totals` what the program says of all of them. `told` is the entry as it
    was read, `line` where it begins. `device`, `artifact` and `settings` are fields of DeviceFacts, Artifact, Settings.
    """

    told: Mapping[str, Any]
    line: int | None
    tool_version: str | None
    model: str
    quant: str | None
    engine: str
    workload: Workload
    device_name: str
    device: Mapping[str, Any] = field(default_factory=dict)
    artifact: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    used: Mapping[str, object] = field(default_factory=dict)
    started_utc_ns: int | None = None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    totals: Mapping[str, Figure] = field(default_factory=dict)
    invalid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file that entries are from. `written_utc_ns` dates those that do not say when they were measured."""

    tool: str
    file: str
    sha256: str
    written_utc_ns: int


def bundles_of(entries: Sequence[Entry], source: Source, device_name: str | None = None) -> list[RunBundle]:
    """Return a run for each entry that differs from those before it; its id follows from what it says.

    The file is a sweep; entries of equal cells are of different processes, each a session of its own. `device_name`
    names the device, which most programs do not.
    """
    seen: Counter[tuple[object, ...]] = Counter()
    found: dict[str, RunBundle] = {}
    for index, entry in enumerate(entries):
        cell = (entry.model, entry.quant, entry.engine, entry.workload, json.dumps(entry.settings, sort_keys=True))
        bundle = _bundle(entry, source, index, seen[cell], device_name)
        if bundle.start.spec.run_id not in found:
            found[bundle.start.spec.run_id] = bundle
            seen[cell] += 1
    return list(found.values())


def _bundle(entry: Entry, source: Source, index: int, block: int, device_name: str | None) -> RunBundle:
    run_id = f"imported-{_digest(source.tool, entry.told)}"
    name = device_name or entry.device_name
    started = source.written_utc_ns if entry.started_utc_ns is None else entry.started_utc_ns
    spec = RunSpec(
        run_id=run_id,
        sweep_id=f"imported-{source.sha256[:_ID_LENGTH]}",
        plan=source.tool,
        block=block,
        position=index,
        device=name,
        model=entry.model,
        quant=entry.quant,
        engine=entry.engine,
        workload=entry.workload,
        settings=_settings(entry.settings),
        repeat=Repeat(warmup=0, repetitions=max(map(len, entry.samples.values()), default=1)),
        sampling=Sampling(sensors_hz=0.0, process_hz=0.0, baseline_s=0.0),
    )
    start = RunStart(
        spec=spec,
        started_utc_ns=started,
        artifact=_artifact(entry, source.tool),
        device=_device(entry, name),
        agent_version="none",
        melt_version=__version__,
        imported=Imported(
            tool=source.tool,
            tool_version=entry.tool_version,
            file=source.file,
            sha256=source.sha256,
            entry=index,
            line=entry.line,
        ),
    )
    reasons = _reasons(entry, source)
    stop = RunStop(
        run_id=run_id,
        ended_utc_ns=started,
        outcome=Outcome.OK,
        verdict=decide(reasons, Thresholds(), energy_required=False),
        reasons=reasons,
        used={name: value for name, value in entry.used.items() if _is_plain(value)},
    )
    told = json.dumps(entry.told, indent=1, ensure_ascii=False)
    return RunBundle(start=start, stop=stop, metrics=_metrics(entry, source.tool), attachments={ENTRY: told})


def _reasons(entry: Entry, source: Source) -> tuple[Reason, ...]:
    where = source.file if entry.line is None else f"{source.file}:{entry.line}"
    message = f"{source.tool} measured it ({where}): in which state the device was nobody knows"
    reasons = (Reason(code="imported", message=message),)
    if entry.invalid is None:
        return reasons
    return (Reason(code="imported_as_invalid", message=f"{source.tool} says: {entry.invalid}"), *reasons)


def _settings(told: Mapping[str, Any]) -> Settings:
    """Take over what is of the kind that a setting is; anything else is unknown, so melt's own default stands."""
    kinds = {f.name: int if f.default is None else type(f.default) for f in fields(Settings)}
    known: dict[str, Any] = {name: value for name, value in told.items() if type(value) is kinds[name]}
    return Settings(**known)


def _artifact(entry: Entry, tool: str) -> Artifact:
    """Describe a model file that nobody here has seen: its identity is what was told of it, and says so."""
    known: dict[str, Any] = {
        "name": entry.model,
        "quant": entry.quant,
        "format": _UNKNOWN,
        "size_bytes": None,
        "path": "",
    }
    known |= {name: value for name, value in entry.artifact.items() if value is not None}
    return Artifact(sha256=f"imported-{_digest(tool, known)}", **known)


def _device(entry: Entry, name: str) -> DeviceFacts:
    known: dict[str, Any] = {"kind": "imported", "os": _UNKNOWN, "os_build": None, "kernel": None, "arch": _UNKNOWN}
    known |= {key: value for key, value in entry.device.items() if value is not None}
    return DeviceFacts(device_id=f"imported-{_digest(name, known)}", name=name, **known)


def _metrics(entry: Entry, tool: str) -> tuple[Metric, ...]:
    """Return medians over repetitions where these are told, else what the program says of all; then each repetition."""
    figures = {name: [Figure(value, source=tool) for value in values] for name, values in entry.samples.items()}
    whole = {**entry.totals, **{name: median_figure(own) for name, own in figures.items() if own}}
    metrics = [_metric(name, figure, tool, None) for name, figure in whole.items()]
    for name, own in figures.items():
        metrics += [_metric(name, figure, tool, i) for i, figure in enumerate(own)]
    return tuple(metrics)


def _metric(name: str, figure: Figure, tool: str, repetition: int | None) -> Metric:
    unit = METRICS[name].unit if name in METRICS else OTHER_UNITS[name]
    return Metric(
        name=name,
        value=figure.value,
        unit=unit,
        repetition=repetition,
        source=tool,
        note=figure.note,
        figures=dict(figure.figures),
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, list, bool)) or finite(value) is not None


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
