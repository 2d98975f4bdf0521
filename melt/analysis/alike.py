"""Which runs may stand side by side: what a column is, what makes a group, and what must agree within it."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from melt.analysis.sessions import by_setup, setup_key
from melt.errors import UsageError
from melt.records import Conditions, RunStart, Settings
from melt.traces import RunBundle
from melt.units import counted

_NOT_PERFORMANCE = ("timeout_s", "trip_c", "trip_defaults")
"""Settings that end a run early but do not change how fast it is."""

_COMPARED_SETTINGS = tuple(
    field.name for field in dataclasses.fields(Settings) if field.name not in (*_NOT_PERFORMANCE, "threads")
)
_CONDITIONS = tuple(field.name for field in dataclasses.fields(Conditions))


Found = tuple[Hashable, RunBundle]
"""A value, and a run that has it."""


class IncomparableError(UsageError):
    """The runs differ in something that must agree. The message names it; a filter or another `--by` is the way out."""


def _quant(start: RunStart) -> str:
    return start.spec.quant or start.artifact.quant or "as it is"


def _setting(start: RunStart, name: str) -> Hashable:
    """Return what was asked for. CPUs that a cluster's name stands for are other ones on every device."""
    by_cluster = name == "affinity" and start.spec.conditions.cluster is not None
    return None if by_cluster else getattr(start.spec.settings, name)


def _setting_label(start: RunStart, name: str) -> str:
    value = _setting(start, name)
    return ("+".join(value) or "default") if isinstance(value, tuple) else str(value)


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


def provenance(bundle: RunBundle) -> str:
    """Return in words who measured a run: melt, or the program whose results were imported."""
    imported = bundle.start.imported
    return "measured by melt" if imported is None else f"imported from {imported.tool}"


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
    }
)
"""What is asked for and may be compared: how two runs are told apart in it, and what it is called."""

_FOUND: Mapping[str, tuple[Callable[[RunBundle], Hashable], Callable[[RunBundle], str]]] = MappingProxyType(
    {
        "power_mode": (lambda b: power_mode(b.start), lambda b: power_mode(b.start) or "no power mode"),
        "os_build": (lambda b: b.start.device.os_build, lambda b: b.start.device.os_build or "unknown OS build"),
        "engine_revision": (lambda b: _revision(b), lambda b: _revision(b) or "unknown revision"),
        "melt_version": (lambda b: b.start.melt_version, lambda b: f"melt {b.start.melt_version}"),
        "sweep": (lambda b: b.start.spec.sweep_id, lambda b: b.start.spec.sweep_id),
    }
)
"""The same of what nobody need have asked for. It makes no groups: runs that differ in what must agree are refused."""

_HAS_ITS_OWN_THREADS = frozenset({"device", "power_mode"})
"""What changes how many CPUs there are: where the number of threads was left to melt, it differs by that alone."""

BY = (*_ASPECTS, *_FOUND)

ASKED = (*_ASPECTS, *_COMPARED_SETTINGS)
"""What makes groups, by the names that flags have for it."""

By = str | Collection[str]
"""What may differ from column to column: one thing, or several."""


def _free(by: By) -> Collection[str]:
    return (by,) if isinstance(by, str) else by


def _revision(bundle: RunBundle) -> str | None:
    return _text(bundle.stop.used.get("engine_revision"))


def _threads(n: int | None) -> str:
    return "as many threads as there are fast CPUs" if n is None else counted(n, "thread")


def check_by(by: str) -> None:
    """Raise UsageError for a `by` that is none of `BY`."""
    if by not in BY:
        raise UsageError(f"runs cannot be compared by {by!r}: choose {', '.join(BY)}")


def column_key(bundle: RunBundle, by: str) -> Hashable:
    """Return what makes two runs stand in the same column."""
    return _FOUND[by][0](bundle) if by in _FOUND else _ASPECTS[by][0](bundle.start)


def column_label(bundle: RunBundle, by: str) -> str:
    """Return a column's heading."""
    return _FOUND[by][1](bundle) if by in _FOUND else _ASPECTS[by][1](bundle.start)


def group_key(start: RunStart, by: By) -> tuple[Hashable, ...]:
    """Return what else was asked for: only runs that agree in it are set side by side."""
    start = _common(start, by)
    aspects, settings = _kept(frozenset(_free(by)))
    return (*[_ASPECTS[name][0](start) for name in aspects], *operator.attrgetter(*settings)(start.spec.settings))


def asked(start: RunStart, by: By) -> dict[str, Hashable]:
    """Return what was asked for, by `ASKED`, but what may differ."""
    aspects, settings = _kept(frozenset(_free(by)))
    return dict(zip((*aspects, *settings), group_key(start, by), strict=True))


@cache
def _kept(free: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of what must agree, the settings by themselves."""
    return tuple(n for n in _ASPECTS if n not in free), tuple(n for n in _COMPARED_SETTINGS if n not in free)


def asked_label(start: RunStart, name: str) -> str:
    """Return in words what was asked for under a name of `ASKED`."""
    return _ASPECTS[name][1](start) if name in _ASPECTS else _setting_label(start, name)


def _common(start: RunStart, by: By) -> RunStart:
    """Leave out what differs from column to column by itself.

    The mode that was asked for, threads that melt chose, CPUs that a cluster's name stands for.
    """
    free = _free(by)
    spec = start.spec
    if "power_mode" in free:
        spec = dataclasses.replace(spec, conditions=dataclasses.replace(spec.conditions, nvpmodel=None))
    if "threads" in start.chosen and not _HAS_ITS_OWN_THREADS.isdisjoint(free):
        spec = dataclasses.replace(spec, settings=dataclasses.replace(spec.settings, threads=None))
    if spec.conditions.cluster is not None:
        spec = dataclasses.replace(spec, settings=dataclasses.replace(spec.settings, affinity=None))
    return start if spec is start.spec else dataclasses.replace(start, spec=spec)


def group_labels(starts: Sequence[RunStart], by: By) -> list[str]:
    """Name groups, one start of each, by their workload and by whatever else sets them apart."""
    starts = [_common(start, by) for start in starts]
    free = _free(by)
    aspects = {
        name: [label(s) for s in starts]
        for name, (_, label) in _ASPECTS.items()
        if name != "workload" and name not in free
    }
    aspects |= {
        name: [f"{name}={_setting_label(s, name)}" for s in starts] for name in _COMPARED_SETTINGS if name not in free
    }
    if "conditions" not in free:
        del aspects["conditions"]
        aspects |= {f"condition {name}": [_condition(s, name) for s in starts] for name in _CONDITIONS}
    varying = [values for values in aspects.values() if len(set(values)) > 1]
    workloads = [""] * len(starts) if "workload" in free else [s.spec.workload.name for s in starts]
    return [", ".join(filter(None, (w, *(v[i] for v in varying)))) for i, w in enumerate(workloads)]


def _governors(bundle: RunBundle) -> str:
    return ", ".join(sorted({cpu.governor for cpu in bundle.start.device.cpus if cpu.governor}))


_Must = tuple[str, str, Callable[[RunBundle], Hashable], tuple[str, ...]]

_MUST_AGREE: tuple[_Must, ...] = (
    ("provenance", "provenance", provenance, ()),
    ("os_build", "OS build", lambda b: b.start.device.os_build, ("device", "os_build")),
    ("kernel", "kernel", lambda b: b.start.device.kernel, ("device", "os_build")),
    ("governor", "CPU governor", _governors, ("device",)),
    ("power_mode", "power mode", _found_power_mode, ("device", "power_mode")),
    ("clocks", "state of the clocks (jetson_clocks)", _found_clocks, ("device",)),
    ("engine_revision", "engine revision", _revision, ("engine", "engine_revision")),
    ("backend", "backend", lambda b: _text(b.stop.used.get("backend")), ("device", "engine")),
    ("architecture", "model architecture", lambda b: b.start.artifact.architecture, ("model", "engine")),
    ("origin", "model the levels were made of", lambda b: b.start.artifact.origin_sha256, ("model", "engine")),
    ("model_file", "model file", lambda b: b.start.artifact.sha256, ("model", "quant", "engine", "device")),
)
"""What was not asked for but found, how it is read, and by what comparison it may differ from column to column."""

FIELDS: Mapping[str, str] = MappingProxyType({field: name for field, name, _, _ in _MUST_AGREE})
"""What must agree, by the names that flags and records have for it."""


def found(bundle: RunBundle) -> dict[str, str | None]:
    """Return what was found and must agree, by `FIELDS`; None: not known."""
    return {field: _text(value(bundle) or None) for field, _, value, _ in _MUST_AGREE}


def asked_of_device(start: RunStart) -> tuple[Settings, Conditions]:
    """Return what was asked for that changes how fast a run is; what only ends one early is as melt has it."""
    default = Settings()
    settings = dataclasses.replace(start.spec.settings, **{name: getattr(default, name) for name in _NOT_PERFORMANCE})
    return settings, _asked(start)


def grouped(bundles: Iterable[RunBundle], by: str) -> list[list[list[RunBundle]]]:
    """Return the runs by group and within it by column, all in the order in which they are met."""
    groups: dict[tuple[Hashable, ...], dict[Hashable, list[RunBundle]]] = {}
    known: dict[tuple[str | int, str], list[RunBundle]] = {}
    for bundle in bundles:
        alike = setup_key(bundle), bundle.start.spec.sweep_id if by == "sweep" else ""
        if alike not in known:
            columns = groups.setdefault(group_key(bundle.start, by), {})
            known[alike] = columns.setdefault(column_key(bundle, by), [])
        known[alike].append(bundle)
    return [list(columns.values()) for columns in groups.values()]


def check_alike(groups: Iterable[Sequence[Sequence[RunBundle]]], by: str) -> None:
    """Raise IncomparableError when conditions differ between the runs of a group. Unknown is no difference."""
    for columns in groups:
        for field, (a, first), (b, second) in unlike(columns, by):
            raise IncomparableError(
                f"these runs cannot be compared: the {FIELDS[field]} is {short(a)} in run {first.start.spec.run_id} "
                f"and {short(b)} in run {second.start.spec.run_id}; narrow them down, with --sweep for example"
            )


def unlike(columns: Sequence[Sequence[RunBundle]], by: By) -> Iterator[tuple[str, Found, Found]]:
    """Give every field that must agree and does not, with two values and a run of each. Unknown is no difference.

    What `by` lets differ from column to column must still agree within each.
    """
    # Of runs that share a setup the first will do: all this is part of it.
    columns = [[runs[0] for runs in by_setup(column)] for column in columns]
    everything = [bundle for column in columns for bundle in column]
    for field, _, value, exempt in _MUST_AGREE:
        for members in (everything,) if set(exempt).isdisjoint(_free(by)) else columns:
            values: dict[Hashable, RunBundle] = {}
            for bundle in members:
                if (own := value(bundle)) and own not in values:
                    values[own] = bundle
            if len(values) > 1:
                (one, other), *_ = itertools.pairwise(values.items())
                yield field, one, other
                break


def found_alike(first: RunBundle, second: RunBundle) -> bool:
    """Return whether two runs agree in all that was found and not asked for. Unknown is no difference.

    Whether they had the same model file is another question: a level is asked for.
    """
    pairs = ((value(first), value(second)) for field, _, value, _ in _MUST_AGREE if field != "model_file")
    return all(a == b for a, b in pairs if a and b)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def short(value: object) -> str:
    """Write a value as a refusal quotes it, a checksum by its beginning."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else repr(text)
