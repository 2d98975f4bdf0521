"""A value on its way to become a metric, with what its reader must know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from melt.analysis.names import METRICS
from melt.analysis.statistics import median_of
from melt.records import Metric

NOT_REACHED = "the run ended before it"


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` None: not measured, and `note` says why in a few words; otherwise `note` is a remark, or None."""

    value: float | None
    note: str | None = None
    source: str = "runner"


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
    )


def median_figure(figures: Sequence[Figure], none_note: str = NOT_REACHED) -> Figure:
    """Return the median of those that were measured, with the first one's source and note; else the first of all.

    `none_note` says why there are none.
    """
    if not figures:
        return Figure(None, none_note)
    kept = [f for f in figures if f.value is not None]
    return replace(kept[0], value=median_of(f.value for f in kept)) if kept else figures[0]
