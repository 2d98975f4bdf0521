"""What the sessions of one side measured, every metric in one pass: there may be ten thousand runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from melt.analysis.columns import info, is_electrical, is_exact, of_file
from melt.analysis.energy import covers
from melt.analysis.resample import Sample
from melt.analysis.sessions import by_session, is_believed
from melt.analysis.statistics import measured
from melt.traces import RunBundle, Values


@dataclass(slots=True)
class _Found:
    """A row for each session: its value and its repetitions; and what the meters cover, of an electrical metric."""

    values: list[float] = field(default_factory=list)
    repetitions: list[list[float]] = field(default_factory=list)
    scopes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one side. `scopes` is what its meters cover, empty where no meter is needed."""

    sample: Sample
    scopes: frozenset[str] = frozenset()


NOTHING = Measured(Sample(np.array([], np.float64)))


def measured_by(bundles: Iterable[RunBundle], metrics: Collection[str]) -> dict[str, Measured]:
    """Return what was measured of some metrics: one value for each session, the median of its runs, none of others.

    Runs that did not end well or are invalid give nothing but facts of their file.
    """
    found: dict[str, _Found] = {name: _Found() for name in metrics}
    exact = [name for name in metrics if is_exact(name)]
    metered = frozenset(name for name in metrics if is_electrical(info(name).unit))
    for runs in by_session(bundles):
        for name in exact:
            if values := measured(of_file(name, run.start.artifact) for run in runs):
                found[name].values.append(median(values))
        _add_session([run for run in runs if is_believed(run)], found, metered)
    return {
        name: Measured(Sample(np.array(one.values, np.float64), _padded(one.repetitions)), frozenset(one.scopes))
        for name, one in found.items()
        if one.values
    }


def _add_session(runs: Sequence[RunBundle], found: dict[str, _Found], metered: frozenset[str]) -> None:
    own: dict[str, list[float]] = {}
    within: dict[str, list[float]] = {}
    for run in runs:
        for metric in run.metrics:
            if metric.name not in found or metric.value is None:
                continue
            if metric.repetition is not None:
                within.setdefault(metric.name, []).append(metric.value)
                continue
            own.setdefault(metric.name, []).append(metric.value)
            if metric.name in metered:
                found[metric.name].scopes.add(covers(metric))
    for name, values in own.items():
        if kept := measured(values):
            found[name].values.append(median(kept))
            found[name].repetitions.append(within.get(name, []))


def _padded(repetitions: Sequence[Sequence[float]]) -> Values | None:
    longest = max(map(len, repetitions), default=0)
    if longest < 2:
        return None
    padded = np.full((len(repetitions), longest), np.nan)
    for row, own in zip(padded, repetitions, strict=True):
        row[: len(own)] = own
    return padded
