"""Nights in a row: for each thing measured again and again its figures, sweep by sweep, and what changed meanwhile."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from melt.analysis import alike
from melt.analysis.energy import covers
from melt.analysis.names import METRICS
from melt.analysis.sessions import by_session, is_believed
from melt.analysis.statistics import Summary, median_of, summarize
from melt.plan.expand import Cell, cell_of
from melt.records import Metric, Outcome, RunStart, Verdict
from melt.traces import Figures, RunBundle
from melt.verdicts import worst

TESTED = ("engine_revision", "melt_version")
"""What nights are there to test: it may differ from night to night, and is marked where it does."""

_PLAIN_SOURCES = frozenset({"runner", "telemetry"})
"""Figures of these sources are of the same thing everywhere; others name what their meter covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What one sweep told of one series.

    `outcomes` counts all of its runs, `run_ids` names them; `values` maps a metric to one value for each session, of
    believed runs alone. `verdict` is the worst of those runs, None where none is believed. `found` is what nobody asked
    for and yet must agree, or is marked; None: not known. `scopes` says of a metric what its meter covered.
    """

    sweep_id: str
    plan: str
    began_utc_ns: int
    run_ids: tuple[str, ...]
    outcomes: Mapping[Outcome, int]
    verdict: Verdict | None
    found: Mapping[str, str | None]
    values: Mapping[str, tuple[float, ...]]
    scopes: Mapping[str, str] = field(default_factory=dict)

    def summary(self, metric: str) -> Summary | None:
        """Return median and spread over the night's sessions, None where nothing was measured."""
        return summarize(self.values.get(metric, ()))


@dataclass(frozen=True, slots=True)
class Mark:
    """Something besides the figures changed: `night` is the index of the first night that had it otherwise."""

    night: int
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One device, model file, quantization, engine, workload, with its settings and conditions: night after night.

    `series_id` is the same in every store and stays when melt learns new settings. `start` is that of its newest run.
    """

    series_id: str
    label: str
    start: RunStart
    nights: tuple[Night, ...]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Where OS, engine and whatever else was found became another; what is not known marks nothing."""
        marks = []
        known: dict[str, str] = {}
        for index, night in enumerate(self.nights):
            for name, value in night.found.items():
                if value is None:
                    continue
                if known.get(name, value) != value:
                    marks.append(Mark(index, name, known[name], value))
                known[name] = value
        return tuple(marks)

    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that any night has, in the order in which they are met."""
        return tuple(dict.fromkeys(name for night in self.nights for name in night.values))

    def points(self, metric: str) -> list[tuple[int, Summary]]:
        """Return the nights that measured a metric, by their index."""
        summaries = ((index, night.summary(metric)) for index, night in enumerate(self.nights))
        return [(index, summary) for index, summary in summaries if summary is not None]


def histories(
    bundles: Iterable[RunBundle], figures: Figures | None = None, wanted: Container[str] | None = None
) -> tuple[Series, ...]:
    """Sort runs into series and nights, oldest first. `figures` None: those in the runs' documents.

    `wanted` are the ids of the series to return, None: all. A series is called by what sets it apart from all others.
    Left out are reference runs, which tell of the device, and those that a profiler slowed.
    """
    nights: dict[str, dict[str, list[RunBundle]]] = {}
    known: dict[str | None, str] = {}
    for bundle in bundles:
        spec = bundle.start.spec
        if not spec.reference and not spec.profile:
            key = known.get(bundle.setup)
            if key is None:
                key = series_id(bundle.start)
                if bundle.setup is not None:
                    known[bundle.setup] = key
            nights.setdefault(key, {}).setdefault(spec.sweep_id, []).append(_light(bundle, bundle.metrics))
    starts = [max((b.start for runs in one.values() for b in runs), key=_when) for one in nights.values()]
    chosen = [(*one, nights[one[0]]) for one in zip(nights, _labels(starts), starts, strict=True)]
    if wanted is not None:
        chosen = [one for one in chosen if one[0] in wanted]
    ids = [b.start.spec.run_id for *_, own in chosen for runs in own.values() for b in runs]
    told = None if figures is None else _by_run(figures, ids)
    return tuple(
        Series(
            series_id=key,
            label=label,
            start=start,
            nights=tuple(
                sorted((_night(one, told) for one in own.values()), key=lambda n: (n.began_utc_ns, n.sweep_id))
            ),
        )
        for key, label, start, own in chosen
    )


def series_id(start: RunStart) -> str:
    """Return a short hash of what a run was asked to be, on its device by the device's own id."""
    settings, conditions = alike.asked_of_device(start)
    cell = replace(cell_of(start.spec), device=start.device.device_id, settings=settings, conditions=conditions)
    return _key(cell)


@lru_cache(maxsize=1024)
def _key(cell: Cell) -> str:
    return cell.key


def _by_run(figures: Figures, run_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """Return the figures of runs in the order in which `METRICS` has them."""
    places = {name: place for place, name in enumerate(METRICS)}
    return {
        run_id: sorted((m for m in own if m.name in places), key=lambda m: places[m.name])
        for run_id, own in figures.of_runs(run_ids).items()
    }


def _light(bundle: RunBundle, metrics: Iterable[Metric]) -> RunBundle:
    """Leave out what no series needs: a year of nights fits into memory then."""
    own = tuple(metric for metric in metrics if metric.repetition is None)
    return RunBundle(start=bundle.start, stop=bundle.stop, metrics=own, setup=bundle.setup)


def _when(start: RunStart) -> tuple[int, str]:
    return start.started_utc_ns, start.spec.run_id


def _night(runs: Sequence[RunBundle], told: Mapping[str, Sequence[Metric]] | None) -> Night:
    if told is not None:
        runs = [_light(bundle, told.get(bundle.start.spec.run_id, ())) for bundle in runs]
    first = min(runs, key=lambda b: _when(b.start)).start
    believed = [bundle for bundle in runs if is_believed(bundle)]
    outcomes: dict[Outcome, int] = {}
    for bundle in runs:
        outcomes[bundle.stop.outcome] = outcomes.get(bundle.stop.outcome, 0) + 1
    return Night(
        sweep_id=first.spec.sweep_id,
        plan=first.spec.plan,
        began_utc_ns=first.started_utc_ns,
        run_ids=tuple(bundle.start.spec.run_id for bundle in runs),
        outcomes=outcomes,
        verdict=worst(bundle.stop.verdict for bundle in believed) if believed else None,
        found=_agreed([_found(bundle) for bundle in believed or runs]),
        values=_values(believed),
        scopes=_scopes(believed),
    )


def _values(believed: Sequence[RunBundle]) -> dict[str, tuple[float, ...]]:
    sessions = by_session(believed)
    medians = [_medians([{m.name: m.value for m in bundle.metrics} for bundle in runs]) for runs in sessions]
    names = dict.fromkeys(name for own in medians for name in own)
    found = {name: tuple(value for own in medians if (value := own.get(name)) is not None) for name in names}
    return {name: values for name, values in found.items() if values}


def _medians(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return what a session has of each metric: the median over its runs, which mostly is one."""
    if len(runs) == 1:
        return {name: value if value is not None and math.isfinite(value) else None for name, value in runs[0].items()}
    return {
        name: median_of(run.get(name) for run in runs) for name in dict.fromkeys(name for run in runs for name in run)
    }


def _scopes(believed: Sequence[RunBundle]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for bundle in believed:
        for metric in bundle.metrics:
            if metric.value is not None and metric.source not in _PLAIN_SOURCES:
                found.setdefault(metric.name, {})[covers(metric)] = None
    return {name: "; ".join(sorted(scopes)) for name, scopes in found.items()}


def _found(bundle: RunBundle) -> dict[str, str | None]:
    return {**alike.found(bundle), "melt_version": bundle.start.melt_version}


def _agreed(found: Sequence[Mapping[str, str | None]]) -> dict[str, str | None]:
    """Return what the runs of a night have in common; where they differ, all of it."""
    return {name: " and ".join(sorted({one[name] or "" for one in found} - {""})) or None for name in found[0]}


def _labels(starts: Sequence[RunStart]) -> list[str]:
    """Name series by device, model and workload; by their settings too where that names several of them."""
    plain = [f"{start.device.name}: {start.spec.label}" for start in starts]
    labels = list(plain)
    for label in {label for label in plain if plain.count(label) > 1}:
        places = [i for i, one in enumerate(plain) if one == label]
        for i, long in zip(places, alike.group_labels([starts[i] for i in places], by=""), strict=True):
            labels[i] = f"{starts[i].device.name}: {starts[i].spec.model} {long}"
    return labels
