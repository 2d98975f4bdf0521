"""Traces: the numbers of one collector, wide, on one clock. Kept apart from `records` because they need numpy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from melt.records import Metric, RunStart, RunStop, Stream, Window

Times = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one collector saw.

    `t_ns` has shape (n,), int64, on the device's monotonic clock, never decreasing. Each column has shape (n,),
    float64, NaN where nothing was measured. `streams` declares the columns, in the same order as `columns`.
    """

    collector: str
    t_ns: Times
    columns: Mapping[str, Values]
    streams: tuple[Stream, ...] = ()

    def with_columns(self, more: Sequence[tuple[Stream, Values]]) -> Trace:
        """Return the trace with more columns behind its own; the same trace where there are none."""
        if not more:
            return self
        return replace(
            self,
            columns={**self.columns, **{stream.name: values for stream, values in more}},
            streams=(*self.streams, *(stream for stream, _ in more)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBundle:
    """A finished run, whole: what the store publishes in one go. `journal` is the raw file it was decoded from.

    `setup` is given to runs in brief: those with the same one differ in ids, places, times, sessions and in how they
    went, hence what was asked for and found need be read of one of them. None: not known.
    """

    start: RunStart
    stop: RunStop
    windows: tuple[Window, ...] = ()
    metrics: tuple[Metric, ...] = ()
    traces: tuple[Trace, ...] = ()
    journal: Path | None = None
    attachments: Mapping[str, str] = field(default_factory=dict)
    setup: str | None = field(default=None, compare=False)


class Figures(Protocol):
    """Figures of whole runs as columns: what all runs have of one metric, by run id.

    Of documents in memory, or straight from a store: thousands of runs are compared without reading their documents.
    A column may hold more runs than were asked about.
    """

    def values(self, name: str) -> Mapping[str, float]:
        """Return what was measured, finite and in the metric's unit; runs that did not measure it are left out."""

    def uncertainties(self, name: str) -> Mapping[str, float]:
        """Return what measured values may be off by, in the metric's unit; runs that do not know are left out."""

    def metrics(self, name: str) -> Mapping[str, Metric]:
        """Return what was measured with all that is known of it."""

    def of_runs(self, run_ids: Collection[str]) -> Mapping[str, Sequence[Metric]]:
        """Return all that these runs measured, by run and in no order; runs that measured nothing are left out."""

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the note of the first of these runs that has one; None where none has."""
