"""Which runs of a store answer what is asked now, so that they need not be made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from melt.analysis.alike import found_alike
from melt.analysis.sessions import is_believed
from melt.records import Artifact, DeviceFacts, Outcome, RunSpec, RunStart, Settings
from melt.traces import RunBundle

Files = Mapping[str | None, Artifact]
"""The files of runs that are asked for, by the quant of their spec."""

_ANSWERS = frozenset((Outcome.OOM, Outcome.UNSUPPORTED))
"""Ends that are an answer though there is no figure: another try would end alike."""


def earlier(
    bundles: Iterable[RunBundle],
    specs: Sequence[RunSpec],
    files: Files,
    device: DeviceFacts | None,
) -> list[RunBundle]:
    """Return the runs of `specs`' cells with these very files, oldest first, that may stand side by side.

    They must be of `device` as it is now, None: as the newest of them has it; and
    agree in engine revision, power mode and whatever else `melt compare` asks for, again with the newest.
    """
    whole = (b for b in bundles if not b.start.spec.reference and not b.start.spec.profile)
    own = [b for b in whole if _asked(b.start, specs, files)]
    own.sort(key=lambda b: b.start.started_utc_ns)
    if device is not None:
        own = [b for b in own if _is_of(b.start.device, device)]
    newest = next((b for b in reversed(own) if b.stop.outcome is Outcome.OK), own[-1] if own else None)
    if newest is None:
        return []
    same = [b for b in own if b.start.device.device_id == newest.start.device.device_id]
    return [b for b in same if found_alike(b, newest)]


def lacking(specs: Sequence[RunSpec], found: Iterable[RunBundle], files: Files) -> tuple[RunSpec, ...]:
    """Return the specs that the earlier runs `found` leave to be made, the last sessions of each cell."""
    answered = Counter(
        (b.start.artifact.sha256, b.start.spec.workload) for b in found if is_believed(b) or b.stop.outcome in _ANSWERS
    )
    todo = []
    for spec in specs:
        key = (files[spec.quant].sha256, spec.workload) if spec.quant in files else None
        if key is None:
            continue
        if answered[key] > 0:
            answered[key] -= 1
        else:
            todo.append(spec)
    return tuple(todo)


def _asked(start: RunStart, specs: Iterable[RunSpec], files: Files) -> bool:
    return any(
        spec.quant in files and files[spec.quant].sha256 == start.artifact.sha256 and _same_cell(start, spec)
        for spec in specs
    )


def _same_cell(start: RunStart, spec: RunSpec) -> bool:
    own = start.spec
    return (own.engine, own.workload, own.conditions, _settings(start)) == (
        spec.engine,
        spec.workload,
        spec.conditions,
        _plain(spec.settings),
    )


def _settings(start: RunStart) -> Settings:
    """Return what was asked for, without what melt chose then."""
    settings = start.spec.settings
    if "threads" in start.chosen:
        settings = replace(settings, threads=None)
    if start.spec.conditions.cluster is not None:
        settings = replace(settings, affinity=None)
    return _plain(settings)


def _plain(settings: Settings) -> Settings:
    """Leave out what may end a run but does not change how fast it is."""
    return replace(settings, timeout_s=0.0, trip_c=None, trip_defaults=True)


def _is_of(then: DeviceFacts, now: DeviceFacts) -> bool:
    return (then.device_id, then.os_build, then.kernel) == (now.device_id, now.os_build, now.kernel)
