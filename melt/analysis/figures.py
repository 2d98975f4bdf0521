"""A value on its way to become a metric, with what its reader must know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from melt.analysis.names import METRICS
from melt.analysis.statistics import median_of
from melt.records import Metric, Reason

NOT_REACHED = "the run ended before it"


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` None: not measured, and `note` says why in a few words; otherwise `note` is a remark, or None.

    `uncertainty` is what the value may be off by, at 95 %, `figures` the numbers behind it.
    """

    value: float | None
    note: str | None = None
    source: str = "runner"
    uncertainty: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


Figures = Mapping[str, Figure]


def to_metric(name: str, figure: Figure, repetition: int | None = None) -> Metric:
    """Make the metric of a figure. Its unit is that of its name."""
    return Metric(
        name=name,
        value=None if figure.value is None else float(figure.value),
        unit=METRICS[name].unit,
        repetition=repetition,
        source=figure.source,
        note=figure.note,
        uncertainty=figure.uncertainty,
        figures=dict(figure.figures),
    )


def with_remark(figure: Figure, doubt: Reason | None) -> Figure:
    """Return the figure with a doubt about it in its note, where there is one."""
    if doubt is None:
        return figure
    return replace(figure, note=doubt.message if figure.note is None else f"{figure.note}; {doubt.message}")


def median_figure(figures: Sequence[Figure], none_note: str = NOT_REACHED) -> Figure:
    """Return the median of those that were measured, with the first one's source and note; else the first of all.

    Its figures are medians too: what is wrong with a meter is not averaged away. `none_note` says why there are none.
    """
    if not figures:
        return Figure(None, none_note)
    kept = [f for f in figures if f.value is not None]
    if not kept:
        return figures[0]
    return replace(
        kept[0],
        value=median_of(f.value for f in kept),
        uncertainty=_uncertainty_of_median(kept),
        figures={key: median_of(f.figures.get(key) for f in kept) or 0.0 for key in kept[0].figures},
    )


def _uncertainty_of_median(figures: Sequence[Figure]) -> float | None:
    """Return how far the median of the truths may be from that of the values, each within its own uncertainty.

    It lies between the median of the lower ends and that of the upper ends; the median of the uncertainties would be
    too little where the repetition in the middle is the one that is known worst.
    """
    known = [(f.value, f.uncertainty) for f in figures if f.value is not None and f.uncertainty is not None]
    if not known:
        return None
    middle = median(value for value, _ in known)
    return max(middle - median(v - u for v, u in known), median(v + u for v, u in known) - middle)
