"""What the answers of a model are worth: accuracy by power and energy, size by size, carbon by the thousand.

The accuracy is of a task that was scored by itself, the power of the run's own workload: they join by the model file.
docs/metrics.md says whose definitions these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

from melt.analysis.figures import Figure, median_figure
from melt.analysis.names import Info
from melt.records import Artifact, Metric, RunStart
from melt.records.quality import ChoiceFigures, Quality
from melt.traces import RunBundle

ANSWERS = MappingProxyType(
    {
        "intelligence_per_w": Info("1/w", "Intelligence per Watt", 1),
        "accuracy_per_j": Info("1/j", "accuracy per joule", 1),
        "compression_ratio": Info("1", "compression", 1),
        "carbon_1000_answers_g": Info("gco2e", "carbon per 1,000 answers", -1),
    }
)
"""In the order in which a report shows them."""

_THOUSAND = 1000
_SOURCE = "derived"
_NO_RUNS = "not run"
_OTHER_FILE = "the quality is that of another model file"
_MAY_BE_NONE = "it may be none: it is not known better"


def answer_figures(
    start: RunStart, metrics: Sequence[Metric], quality: Quality | None, original: Artifact | None = None
) -> dict[str, Figure]:
    """Return the figures of `ANSWERS` for a run and what was scored of its model file.

    `quality` is an evaluation on a multiple-choice task. `original` is what the level was made from. Uncertainties
    hold the accuracy's interval and what the meter may be off by, in quadrature, at 95 %.
    """
    own = {metric.name: metric for metric in metrics if metric.repetition is None}
    accuracy = _accuracy(start, quality)
    return {
        "intelligence_per_w": _accuracy_per(accuracy, own.get("power_mean_w"), "power"),
        "accuracy_per_j": _accuracy_per(accuracy, own.get("energy_response_j"), "energy of a response"),
        "compression_ratio": _compression(start.artifact, original),
        "carbon_1000_answers_g": _thousandfold(own.get("carbon_response_g")),
    }


def level_answers(
    bundles: Sequence[RunBundle], quality: Quality | None, original: Artifact | None = None
) -> dict[str, Figure]:
    """Return the figures of `ANSWERS` for a level: the medians over its runs, which are of one workload."""
    found = [answer_figures(bundle.start, bundle.metrics, quality, original) for bundle in bundles]
    return {name: median_figure([figures[name] for figures in found], _NO_RUNS) for name in ANSWERS}


def _accuracy(start: RunStart, quality: Quality | None) -> ChoiceFigures | str:
    """Return how the model's file answers, or why nobody knows."""
    if quality is None or quality.choices is None:
        return "its accuracy is not known: melt quality, with questions"
    return quality.choices if quality.artifact.sha256 == start.artifact.sha256 else _OTHER_FILE


def _accuracy_per(accuracy: ChoiceFigures | str, measured: Metric | None, what: str) -> Figure:
    """Divide the accuracy by a power or an energy. It reaches as far as with the least that this may be."""
    if isinstance(accuracy, str):
        return Figure(None, accuracy, _SOURCE)
    if measured is None or measured.value is None:
        return Figure(None, (measured and measured.note) or f"the {what} was not measured", _SOURCE)
    off = measured.uncertainty
    least = measured.value - (off or 0.0)
    if least <= 0:
        return Figure(None, f"the {what}: {_MAY_BE_NONE}", _SOURCE)
    value = accuracy.accuracy / measured.value
    of_accuracy = max(accuracy.accuracy_high - accuracy.accuracy, accuracy.accuracy - accuracy.accuracy_low)
    uncertainty = None if off is None else math.hypot(of_accuracy / measured.value, value * off / least)
    note = f"accuracy {accuracy.accuracy:.3g} of {accuracy.n} questions, by {measured.source}"
    return Figure(value, note, measured.source, uncertainty)


def _compression(artifact: Artifact, original: Artifact | None) -> Figure:
    """Return how many times the original's tensors are larger than those of a level."""
    if original is None:
        return Figure(None, "it is not known what the level was made from", _SOURCE)
    if not artifact.weight_bytes or not original.weight_bytes:
        return Figure(None, "the bytes of the model's weights are unknown", _SOURCE)
    return Figure(original.weight_bytes / artifact.weight_bytes, f"against {original.name}", _SOURCE)


def _thousandfold(response: Metric | None) -> Figure:
    if response is None or response.value is None:
        return Figure(None, (response and response.note) or "the energy of a response was not measured", _SOURCE)
    off = None if response.uncertainty is None else response.uncertainty * _THOUSAND
    return Figure(response.value * _THOUSAND, response.note, response.source, off)
