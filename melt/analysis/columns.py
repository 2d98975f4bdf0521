"""What the runs of one column say of a metric: their figures, and whether these are of the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from melt.analysis.energy import covers
from melt.analysis.names import METRICS, Info
from melt.analysis.sessions import is_believed
from melt.analysis.statistics import median_of
from melt.records import Artifact, Metric, Outcome
from melt.traces import RunBundle

_OF_THE_FILE: Mapping[str, tuple[Info, Callable[[Artifact], float | None]]] = MappingProxyType(
    {
        "file_bytes": (Info("bytes", "file size", -1), lambda a: None if a.size_bytes is None else float(a.size_bytes)),
        "bits_per_weight": (Info("1", "bits per weight", 0), lambda a: a.bits_per_weight),
    }
)
"""Rows that are facts of the model file: exact, hence never judged."""

_ELECTRICAL = frozenset({"w", "j", "j/tok", "tok/j", "c_coulomb", "responses", "j*s", "gco2e"})
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


def uncertainty(metric: str, column: Iterable[RunBundle]) -> float | None:
    """Return what a session's meter may be off by, in the metric's unit: the median over the runs."""
    if is_exact(metric):
        return None
    found = (figure(metric, bundle) for bundle in column)
    return median_of(one.uncertainty for one in found if one is not None)


def scopes_of(metric: str, column: Iterable[RunBundle]) -> frozenset[str]:
    """Return what the meters of a column's runs cover; empty for a metric that is not electrical."""
    if not is_electrical(info(metric).unit):
        return frozenset()
    found = (figure(metric, bundle) for bundle in column)
    return frozenset(covers(one) for one in found if one is not None and one.value is not None)


def value(metric: str, bundle: RunBundle) -> float | None:
    """Return a run's own figure: of its file whatever became of it, of its measurement only if it is believed."""
    if metric in _OF_THE_FILE:
        return _OF_THE_FILE[metric][1](bundle.start.artifact)
    found = figure(metric, bundle)
    return None if found is None else found.value


def figure(metric: str, bundle: RunBundle) -> Metric | None:
    """Return a run's own figure, None of a run that did not end well or is invalid: no median may hold it."""
    if not is_believed(bundle):
        return None
    return next((m for m in bundle.metrics if m.name == metric and m.repetition is None), None)


def why(metric: str, bundles: Sequence[RunBundle]) -> str:
    """Return why nobody measured it, in the words of a run that ended well if there is one."""
    if any(b.stop.outcome is Outcome.OK for b in bundles) and not any(map(is_believed, bundles)):
        return "invalid runs only"
    for bundle in sorted(bundles, key=lambda b: not is_believed(b)):
        note = next((m.note for m in bundle.metrics if m.name == metric and m.repetition is None), None)
        if note:
            return note
    return "not recorded"
