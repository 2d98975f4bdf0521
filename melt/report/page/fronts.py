"""The Pareto pictures of a page: for each device and workload, what a level costs and what it keeps.

Models that generate tokens do the same work, and one may stand for another. Of single-shot models each has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from melt.analysis.names import METRICS
from melt.analysis.sessions import is_believed
from melt.records import Artifact, RunSpec
from melt.records.quality import Quality
from melt.report.charts.pareto import Axis, ParetoPoint, pareto_spec
from melt.report.page.parts import Picture
from melt.report.page.summary import RATES
from melt.traces import RunBundle

Qualities = Mapping[str, Sequence[Quality]]
"""sha256 of a model file -> its evaluations."""

_LEAST_POINTS = 2
_MOST_PICTURES = 12
_SIZE = Axis(title="File size", unit="bytes", better="lower")
_QUALITIES: tuple[tuple[Axis, Callable[[Quality], float | None]], ...] = (
    (Axis(title="KL divergence", unit="1", better="lower"), lambda q: q.text.kl_mean if q.text else None),
    (Axis(title="Perplexity", unit="1", better="lower"), lambda q: q.text.perplexity if q.text else None),
    (Axis(title="Accuracy", unit="ratio", better="higher"), lambda q: q.choices.accuracy if q.choices else None),
    (Axis(title="Cosine with FP32", unit="1", better="higher"), lambda q: q.outputs.cosine_mean if q.outputs else None),
)
"""What a level keeps, the most telling first: perplexity may fall by luck while a model gets worse, docs/quality.md."""


@dataclass(frozen=True, slots=True)
class _Level:
    """A model file on a device, with the rates of its believed runs."""

    label: str
    artifact: Artifact
    rates: tuple[float, ...]


def fronts(bundles: Sequence[RunBundle], qualities: Qualities) -> list[Picture]:
    """Draw a picture for each device and workload on which several levels have figures; the first dozen."""
    places: dict[tuple[str, ...], list[RunBundle]] = {}
    for bundle in bundles:
        if is_believed(bundle) and not bundle.start.spec.reference:
            key = (bundle.start.device.device_id, *_work(bundle.start.spec))
            places.setdefault(key, []).append(bundle)
    pictures = (_picture(members, qualities) for members in places.values())
    return [picture for picture in pictures if picture is not None][:_MOST_PICTURES]


def _work(spec: RunSpec) -> tuple[str, ...]:
    """Return the workload, and the model where no other does the same work."""
    workload = spec.workload
    return (workload.name, spec.model) if workload.kind == "inference" else (workload.name,)


def _picture(bundles: Sequence[RunBundle], qualities: Qualities) -> Picture | None:
    found = ((metric, _levels(bundles, metric)) for metric in RATES)
    metric, levels = next(((metric, levels) for metric, levels in found if len(levels) >= _LEAST_POINTS), ("", []))
    if not levels:
        return None
    known = METRICS[metric]
    rate = Axis(title=known.title.capitalize(), unit=known.unit, better="higher")
    kept, values, subtitle = _kept(levels, qualities)
    start = bundles[0].start
    points = [
        ParetoPoint(
            label=level.label,
            x=median(level.rates),
            y=values.get(level.artifact.sha256),
            state="front",
            x_interval=(min(level.rates), max(level.rates)) if len(level.rates) > 1 else None,
            size_bytes=None if kept is _SIZE else _size(level),
            details={"Runs": str(len(level.rates))},
        )
        for level in levels
    ]
    where = f"{' of '.join(_work(start.spec))} on {start.device.name}"
    title = f"{kept.title} against {known.title}, {where}"
    spec = pareto_spec(_ranked(points, kept), rate, kept, title=title, subtitle=subtitle)
    return Picture(title, spec)


def _levels(bundles: Sequence[RunBundle], metric: str) -> list[_Level]:
    found: dict[str, tuple[str, Artifact, list[float]]] = {}
    several = len({bundle.start.spec.model for bundle in bundles}) > 1
    for bundle in bundles:
        value = next((m.value for m in bundle.metrics if m.name == metric and m.repetition is None), None)
        if value is not None:
            artifact, spec = bundle.start.artifact, bundle.start.spec
            quant = spec.quant or artifact.quant or "as it is"
            label = f"{spec.model} {quant}" if several else quant
            found.setdefault(artifact.sha256, (label, artifact, []))[2].append(value)
    return [_Level(label, artifact, tuple(rates)) for label, artifact, rates in found.values()]


def _kept(levels: Sequence[_Level], qualities: Qualities) -> tuple[Axis, Mapping[str, float], str]:
    """Return what to draw against the rate, by sha256: a quality that several levels have by one method, else size."""
    for axis, read in _QUALITIES:
        methods: dict[object, dict[str, float]] = {}
        names: dict[object, str] = {}
        for level in levels:
            for quality in qualities.get(level.artifact.sha256, ()):
                value = read(quality)
                method = replace(quality.method, reference_sha256=None) if axis.unit == "ratio" else quality.method
                if quality.method.reference_sha256 == level.artifact.sha256 and axis is _QUALITIES[0][0]:
                    # The reference is no distance away from itself.
                    value = 0.0
                if value is not None:
                    methods.setdefault(method, {})[level.artifact.sha256] = value
                    names[method] = quality.method.dataset
        if methods:
            best = max(methods, key=lambda method: len(methods[method]))
            if len(methods[best]) >= _LEAST_POINTS:
                return axis, methods[best], f"Quality on {names[best]}"
    sizes = {level.artifact.sha256: size for level in levels if (size := _size(level)) is not None}
    return _SIZE, sizes, "No quality is known of these files: `melt quality` evaluates them"


def _size(level: _Level) -> float | None:
    return None if level.artifact.size_bytes is None else float(level.artifact.size_bytes)


def _ranked(points: Sequence[ParetoPoint], y: Axis) -> list[ParetoPoint]:
    """Call those dominated that another level beats in both figures."""

    def is_dominated(point: ParetoPoint) -> bool:
        return any(_beats(other, point, y) for other in points if other is not point)

    return [replace(point, state="dominated") if is_dominated(point) else point for point in points]


def _beats(other: ParetoPoint, point: ParetoPoint, y: Axis) -> bool:
    if None in (other.x, other.y, point.x, point.y):
        return False
    sign = 1.0 if y.better == "higher" else -1.0
    gains = ((other.x or 0) - (point.x or 0), sign * ((other.y or 0) - (point.y or 0)))
    return min(gains) >= 0 and max(gains) > 0
