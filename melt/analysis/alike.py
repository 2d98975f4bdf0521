"""Which runs may stand side by side: what a column is, what makes a group, and what must agree within it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType

from melt.errors import UsageError
from melt.records import Conditions, RunStart, Settings
from melt.traces import RunBundle

_NOT_PERFORMANCE = ("timeout_s", "trip_c", "trip_defaults")
"""Settings that end a run early but do not change how fast it is."""

_COMPARED_SETTINGS = tuple(
    field.name for field in dataclasses.fields(Settings) if field.name not in (*_NOT_PERFORMANCE, "threads")
)
_CONDITIONS = tuple(field.name for field in dataclasses.fields(Conditions))


class IncomparableError(UsageError):
    """The runs differ in something that must agree. The message names it; a filter or another `--by` is the way out."""


def _quant(start: RunStart) -> str:
    return start.spec.quant or start.artifact.quant or "as it is"


def _setting(start: RunStart, name: str) -> Hashable:
    """Return what was asked for. CPUs that a cluster's name stands for are other ones on every device."""
    by_cluster = name == "affinity" and start.spec.conditions.cluster is not None
    return None if by_cluster else getattr(start.spec.settings, name)


def _asked(start: RunStart) -> Conditions:
    """Return the conditions, a power mode by its name: it may have been asked for by its number."""
    conditions = start.spec.conditions
    return conditions if conditions.nvpmodel is None else dataclasses.replace(conditions, nvpmodel=power_mode(start))


def _conditions(start: RunStart) -> str:
    asked = (_condition(start, name) for name in _CONDITIONS if getattr(_asked(start), name) is not None)
    return ", ".join(asked) or "as found"


def _condition(start: RunStart, name: str) -> str:
    value = getattr(_asked(start), name)
    return f"{name.replace('_', ' ')} {'as found' if value is None else _word(value)}"


def power_mode(start: RunStart) -> str | None:
    """Return the mode that was asked for, by the name that the device has for it, else the one that was found."""
    asked = next((knob.asked for knob in start.knobs if knob.name == "nvpmodel"), start.spec.conditions.nvpmodel)
    return asked or start.device.power_mode


def _found_power_mode(bundle: RunBundle) -> str | None:
    """Return the mode that nobody asked for. One that was asked for is a condition, and conditions make groups."""
    return None if bundle.start.spec.conditions.nvpmodel else bundle.start.device.power_mode


def _found_clocks(bundle: RunBundle) -> str | None:
    """Return in words whether clocks were fixed that nobody asked for."""
    locked = bundle.start.device.clocks_locked
    if locked is None or bundle.start.spec.conditions.jetson_clocks is not None:
        return None
    return "fixed" if locked else "left to their governors"


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


_ASPECTS: Mapping[str, tuple[Callable[[RunStart], Hashable], Callable[[RunStart], str]]] = MappingProxyType(
    {
        "device": (lambda s: s.device.device_id, lambda s: s.device.name),
        "model": (lambda s: s.spec.model, lambda s: s.spec.model),
        "quant": (_quant, _quant),
        "engine": (lambda s: s.spec.engine, lambda s: s.spec.engine),
        "threads": (lambda s: s.spec.settings.threads, lambda s: _threads(s.spec.settings.threads)),
        "workload": (lambda s: s.spec.workload, lambda s: s.spec.workload.name),
        "conditions": (_asked, _conditions),
        "power_mode": (power_mode, lambda s: power_mode(s) or "no power mode"),
    }
)
"""What may be compared: how two runs are told apart in it, and what it is called."""

_FOUND = ("power_mode",)
"""Aspects that nobody need have asked for. They make no groups: runs that differ in them are refused."""

_HAS_ITS_OWN_THREADS = ("device", "power_mode")
"""What changes how many CPUs there are: where the number of threads was left to melt, it differs by that alone."""

BY = tuple(_ASPECTS)


def _threads(n: int | None) -> str:
    return "as many threads as there are fast CPUs" if n is None else f"{n} thread{'' if n == 1 else 's'}"


def check_by(by: str) -> None:
    """Raise UsageError for a `by` that is none of `BY`."""
    if by not in BY:
        raise UsageError(f"runs cannot be compared by {by!r}: choose {', '.join(BY)}")


def column_key(start: RunStart, by: str) -> Hashable:
    """Return what makes two runs stand in the same column."""
    return _ASPECTS[by][0](start)


def column_label(start: RunStart, by: str) -> str:
    """Return a column's heading."""
    return _ASPECTS[by][1](start)


def group_key(start: RunStart, by: str) -> tuple[Hashable, ...]:
    """Return what else was asked for: only runs that agree in it are set side by side."""
    start = _common(start, by)
    others = tuple(_setting(start, name) for name in _COMPARED_SETTINGS)
    return (*(key(start) for name, (key, _) in _ASPECTS.items() if name not in (by, *_FOUND)), *others)


def _common(start: RunStart, by: str) -> RunStart:
    """Leave out what differs from column to column by itself: the mode that was asked for, threads that melt chose."""
    spec = start.spec
    if by == "power_mode":
        spec = dataclasses.replace(spec, conditions=dataclasses.replace(spec.conditions, nvpmodel=None))
    if by in _HAS_ITS_OWN_THREADS and "threads" in start.chosen:
        spec = dataclasses.replace(spec, settings=dataclasses.replace(spec.settings, threads=None))
    return dataclasses.replace(start, spec=spec)


def group_labels(starts: Sequence[RunStart], by: str) -> list[str]:
    """Name groups, one start of each, by their workload and by whatever else sets them apart."""
    starts = [_common(start, by) for start in starts]
    aspects = {
        name: [label(s) for s in starts]
        for name, (_, label) in _ASPECTS.items()
        if name not in (by, "workload", *_FOUND)
    }
    aspects |= {name: [f"{name}={_setting(s, name)}" for s in starts] for name in _COMPARED_SETTINGS}
    if by != "conditions":
        del aspects["conditions"]
        aspects |= {f"condition {name}": [_condition(s, name) for s in starts] for name in _CONDITIONS}
    varying = [values for values in aspects.values() if len(set(values)) > 1]
    workloads = [""] * len(starts) if by == "workload" else [s.spec.workload.name for s in starts]
    return [", ".join(filter(None, (w, *(v[i] for v in varying)))) for i, w in enumerate(workloads)]


_MUST_AGREE: tuple[tuple[str, Callable[[RunBundle], Hashable], tuple[str, ...]], ...] = (
    ("OS build", lambda b: b.start.device.os_build, ("device",)),
    ("kernel", lambda b: b.start.device.kernel, ("device",)),
    ("CPU governor", lambda b: ", ".join(sorted({c.governor for c in b.start.device.cpus if c.governor})), ("device",)),
    ("power mode", _found_power_mode, ("device", "power_mode")),
    ("state of the clocks (jetson_clocks)", _found_clocks, ("device",)),
    ("engine revision", lambda b: _text(b.stop.used.get("engine_revision")), ("engine",)),
    ("backend", lambda b: _text(b.stop.used.get("backend")), ("device", "engine")),
    ("model architecture", lambda b: b.start.artifact.architecture, ("model", "engine")),
    ("model the levels were made of", lambda b: b.start.artifact.origin_sha256, ("model", "engine")),
)
"""What was not asked for but found, how it is read, and by what comparison it may differ from column to column."""


FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "os_build": "OS build",
        "kernel": "kernel",
        "governor": "CPU governor",
        "power_mode": "power mode",
        "clocks": "state of the clocks (jetson_clocks)",
        "engine_revision": "engine revision",
        "backend": "backend",
        "architecture": "model architecture",
        "origin": "model the levels were made of",
        "model_file": "model file",
    }
)
"""What must agree, by the names that flags and records have for it."""


def found(bundle: RunBundle) -> dict[str, str | None]:
    """Return what was found and must agree, by `FIELDS`; None: not known."""
    values = {name: value(bundle) for name, value, _ in _MUST_AGREE} | {"model file": bundle.start.artifact.sha256}
    return {field: _text(values[name] or None) for field, name in FIELDS.items()}


def asked_of_device(start: RunStart) -> tuple[Settings, Conditions]:
    """Return what was asked for that changes how fast a run is: what only ends one early is as melt has it by itself."""
    default = Settings()
    settings = dataclasses.replace(start.spec.settings, **{name: getattr(default, name) for name in _NOT_PERFORMANCE})
    return settings, _asked(start)


def check_alike(bundles: Iterable[RunBundle], by: str) -> None:
    """Raise IncomparableError when conditions differ between the runs of a group. Unknown is no difference."""
    groups: dict[tuple[Hashable, ...], list[RunBundle]] = {}
    for bundle in bundles:
        groups.setdefault(group_key(bundle.start, by), []).append(bundle)
    for members in groups.values():
        columns: dict[Hashable, list[RunBundle]] = {}
        for bundle in members:
            columns.setdefault(column_key(bundle.start, by), []).append(bundle)
        for name, value, exempt in _MUST_AGREE:
            for alike in columns.values() if by in exempt else (members,):
                _check(name, alike, value)
        for column in columns.values():
            _check("model file", column, lambda b: b.start.artifact.sha256)


def found_alike(first: RunBundle, second: RunBundle) -> bool:
    """Return whether two runs agree in all that was found and not asked for. Unknown is no difference."""
    pairs = ((value(first), value(second)) for _, value, _ in _MUST_AGREE)
    return all(a == b for a, b in pairs if a and b)


def _check(name: str, bundles: Sequence[RunBundle], value: Callable[[RunBundle], Hashable]) -> None:
    found: dict[Hashable, RunBundle] = {}
    for bundle in bundles:
        if value(bundle):
            found.setdefault(value(bundle), bundle)
    if len(found) < 2:
        return
    (a, first), (b, second) = list(found.items())[:2]
    raise IncomparableError(
        f"these runs cannot be compared: the {name} is {_short(a)} in run {first.start.spec.run_id} and {_short(b)} "
        f"in run {second.start.spec.run_id}; narrow them down, with --sweep for example"
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else repr(text)
