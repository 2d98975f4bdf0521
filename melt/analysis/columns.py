"""What runs that are compared say of a metric: their figures, and whether these are of the same thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from melt.analysis.energy import covers
from melt.analysis.names import METRICS, Info
from melt.analysis.sessions import is_believed
from melt.records import Artifact, Metric, Outcome
from melt.traces import Figures, RunBundle

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

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the first note."""
        found = self._of(name)
        return next((m.note for run_id in run_ids if (m := found.get(run_id)) is not None and m.note), None)

    def _of(self, name: str) -> dict[str, Metric]:
        return self._found.get(name, {})


class Columns:
    """The figures of runs that are compared, metric by metric, each read once. Only believed runs have any.

    Facts of a model file, which hold whatever became of a run, are among them.
    """

    def __init__(self, bundles: Sequence[RunBundle], figures: Figures) -> None:
        self._bundles = bundles
        self._believed = {bundle.start.spec.run_id for bundle in bundles if is_believed(bundle)}
        self._figures = figures
        self._values: dict[str, Mapping[str, float]] = {}
        self._uncertainties: dict[str, Mapping[str, float]] = {}
        self._scopes: dict[str, Mapping[str, str]] = {}

    def values(self, metric: str) -> Mapping[str, float]:
        """Return the runs' own figures, in the metric's unit; runs without one are left out."""
        if metric not in self._values:
            self._values[metric] = self._facts(metric) if is_exact(metric) else self._own(self._figures.values(metric))
        return self._values[metric]

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
            found = self._own(self._figures.metrics(metric)) if self.values(metric) else {}
            self._scopes[metric] = {run_id: covers(one) for run_id, one in found.items()}
        return self._scopes[metric]

    def why(self, metric: str) -> str:
        """Return why nobody measured it, in the words of a run that ended well if there is one."""
        if not self._believed and any(b.stop.outcome is Outcome.OK for b in self._bundles):
            return "invalid runs only"
        ids = (bundle.start.spec.run_id for bundle in self._bundles)
        ordered = sorted(ids, key=lambda run_id: run_id not in self._believed)
        return self._figures.note(metric, ordered) or "not recorded"

    def _facts(self, metric: str) -> dict[str, float]:
        found = ((b.start.spec.run_id, of_file(metric, b.start.artifact)) for b in self._bundles)
        return {run_id: value for run_id, value in found if value is not None}

    def _own(self, column: Mapping[str, T]) -> dict[str, T]:
        return {run_id: one for run_id, one in column.items() if run_id in self._believed}
