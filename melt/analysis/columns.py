"""What runs that are compared say of a metric: their figures, and whether these are of the same thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from melt.analysis.energy import covers
from melt.analysis.names import METRICS, Info
from melt.analysis.sessions import by_session, is_believed
from melt.analysis.statistics import median_of
from melt.records import Artifact, Metric, Outcome
from melt.traces import Figures, RunBundle, Values

T = TypeVar("T")

_OF_THE_FILE: Mapping[str, tuple[Info, Callable[[Artifact], float | None]]] = MappingProxyType(
    {
        "file_bytes": (Info("bytes", "file size", -1), lambda a: None if a.size_bytes is None else float(a.size_bytes)),
        "bits_per_weight": (Info("1", "bits per weight", 0), lambda a: a.bits_per_weight),
    }
)
"""Rows that are facts of the model file: exact, hence never judged."""

_ELECTRICAL = frozenset({"w", "j", "j/tok", "j/inference", "tok/j", "c_coulomb", "responses", "j*s", "gco2e"})
"""Units of what is worth as much as its meter covers: the watts of a chip are not those of a board."""
RECKONED: Mapping[str, str] = MappingProxyType(
    {
        "responses": "Responses of a battery are by different scopes or capacities",
        "gco2e": "CO2e are by different scopes or grid intensities",
    }
)
"""Why figures of these units do not compare although one meter may have measured all."""
NO_RATIO = frozenset({"c"})
"""Units whose zero is nowhere in particular: 40 degrees are not a third hotter than 30."""


def info(metric: str) -> Info:
    """Return unit and title of a row. Raises KeyError for a name that is none."""
    return _OF_THE_FILE[metric][0] if metric in _OF_THE_FILE else METRICS[metric]


def is_exact(metric: str) -> bool:
    """Return whether a metric is a fact of the model file, hence never judged."""
    return metric in _OF_THE_FILE


def is_electrical(unit: str) -> bool:
    """Return whether figures of a unit are worth as much as their meter covers."""
    return unit in _ELECTRICAL


def of_file(metric: str, artifact: Artifact) -> float | None:
    """Return a fact of a model file. Raises KeyError for a metric that is none."""
    return _OF_THE_FILE[metric][1](artifact)


class DocumentFigures:
    """Figures of runs whose documents are in memory."""

    def __init__(self, bundles: Iterable[RunBundle]) -> None:
        self._found: dict[str, dict[str, Metric]] = {}
        for bundle in bundles:
            for metric in bundle.metrics:
                if metric.repetition is None:
                    self._found.setdefault(metric.name, {}).setdefault(bundle.start.spec.run_id, metric)

    def values(self, name: str) -> dict[str, float]:
        """Return what was measured."""
        found = self._of(name).items()
        return {run_id: m.value for run_id, m in found if m.value is not None and math.isfinite(m.value)}

    def uncertainties(self, name: str) -> dict[str, float]:
        """Return what measured values may be off by."""
        found = self.metrics(name).items()
        return {run_id: m.uncertainty for run_id, m in found if m.uncertainty is not None}

    def metrics(self, name: str) -> dict[str, Metric]:
        """Return what was measured with all that is known of it."""
        return {run_id: m for run_id, m in self._of(name).items() if m.value is not None}

    def of_runs(self, run_ids: Collection[str]) -> dict[str, list[Metric]]:
        """Return all that these runs measured."""
        found: dict[str, list[Metric]] = {}
        for own in self._found.values():
            for run_id in run_ids:
                if (metric := own.get(run_id)) is not None and metric.value is not None:
                    found.setdefault(run_id, []).append(metric)
        return found

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the first note."""
        found = self._of(name)
        return next((m.note for run_id in run_ids if (m := found.get(run_id)) is not None and m.note), None)

    def _of(self, name: str) -> dict[str, Metric]:
        return self._found.get(name, {})


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of some runs: `runs` has the places of each one's runs in the columns, `ids` those of all of them.

    `places` are those of sessions of one run each, where all are such; None else.
    """

    runs: Sequence[Sequence[int]]
    ids: Sequence[str]
    places: NDArray[np.intp] | None


class Columns:
    """The figures of runs that are compared, metric by metric, each read once. Only believed runs have any.

    Facts of a model file, which hold whatever became of a run, are among them.
    """

    def __init__(self, bundles: Sequence[RunBundle], figures: Figures) -> None:
        self._bundles = bundles
        self._ids = [bundle.start.spec.run_id for bundle in bundles]
        self._places = {run_id: place for place, run_id in enumerate(self._ids)}
        self._is_believed = np.fromiter(map(is_believed, bundles), np.bool_, len(bundles))
        self._believed = {run_id for run_id, believed in zip(self._ids, self._is_believed, strict=True) if believed}
        self._figures = figures
        self._values: dict[str, Values | None] = {}
        self._uncertainties: dict[str, Mapping[str, float]] = {}
        self._scopes: dict[str, Mapping[str, str]] = {}

    def sessions(self, bundles: Sequence[RunBundle]) -> Sessions:
        """Sort some of the runs by session."""
        runs = [[self._places[bundle.start.spec.run_id] for bundle in own] for own in by_session(bundles)]
        places = [place for own in runs for place in own]
        alone = np.array(places, np.intp) if len(places) == len(runs) else None
        return Sessions(runs, [self._ids[place] for place in places], alone)

    def is_measured(self, metric: str) -> bool:
        """Return whether any run has a figure."""
        return self._column(metric) is not None

    def values(self, metric: str, sessions: Sessions) -> list[float]:
        """Return one value for each session that has any, in the metric's unit: the median over its runs."""
        column = self._column(metric)
        if column is None:
            return []
        if sessions.places is not None:
            own = column[sessions.places]
            told: list[float] = own[np.isfinite(own)].tolist()
            return told
        medians = (median_of(column[place] for place in places) for places in sessions.runs)
        return [float(value) for value in medians if value is not None]

    def uncertainties(self, metric: str) -> Mapping[str, float]:
        """Return what meters may be off by, in the metric's unit; runs that do not know are left out."""
        if metric not in self._uncertainties:
            self._uncertainties[metric] = {} if is_exact(metric) else self._own(self._figures.uncertainties(metric))
        return self._uncertainties[metric]

    def scopes(self, metric: str) -> Mapping[str, str]:
        """Return what the runs' meters cover; nothing for a metric that is not electrical."""
        if not is_electrical(info(metric).unit):
            return {}
        if metric not in self._scopes:
            found = self._own(self._figures.metrics(metric)) if self.is_measured(metric) else {}
            self._scopes[metric] = {run_id: covers(one) for run_id, one in found.items()}
        return self._scopes[metric]

    def why(self, metric: str) -> str:
        """Return why nobody measured it, in the words of a run that ended well if there is one."""
        if not self._believed and any(b.stop.outcome is Outcome.OK for b in self._bundles):
            return "invalid runs only"
        ordered = sorted(self._ids, key=lambda run_id: run_id not in self._believed)
        return self._figures.note(metric, ordered) or "not recorded"

    def _column(self, metric: str) -> Values | None:
        """Return the runs' figures in their order, NaN where one has none; None where none has any."""
        if metric not in self._values:
            if is_exact(metric):
                column = np.array([of_file(metric, b.start.artifact) for b in self._bundles], np.float64)
            else:
                found = self._figures.values(metric)
                column = np.array([*map(found.get, self._ids)] if found else [], np.float64)
                column = np.where(self._is_believed, column, np.nan) if found else column
            self._values[metric] = column if np.isfinite(column).any() else None
        return self._values[metric]

    def _own(self, column: Mapping[str, T]) -> dict[str, T]:
        return {run_id: one for run_id, one in column.items() if run_id in self._believed}
