"""What the judges of a run look at, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from melt.analysis.overhead import Overhead
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Span
from melt.records import Reason, RunStart, Thresholds
from melt.telemetry.journal import Event
from melt.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A run that came to its end. `repetitions` are the measured ones; `rates` has their throughput by metric name.

    `energy` is what speaks against its power and energy, `energy_required` whether a run without them is of no use.
    """

    start: RunStart
    used: Mapping[str, object]
    events: tuple[Event, ...]
    traces: tuple[Trace, ...]
    repetitions: tuple[Repetition, ...]
    rates: Mapping[str, tuple[float, ...]]
    overhead: Overhead
    torn: bool
    energy: tuple[Reason, ...] = ()
    energy_required: bool = False

    @property
    def span(self) -> Span | None:
        """From the start of the first measured repetition to the end of the last; None when there is none."""
        spans = [span for r in self.repetitions if (span := r.span) is not None]
        return (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None

    @property
    def thresholds(self) -> Thresholds:
        """From where on what was seen speaks against the run."""
        return self.start.spec.thresholds

    @property
    def settled_ns(self) -> int:
        """When the last condition was set and read back; what channels say before that is of another state."""
        return max((event.t_ns for event in self.events if event.name == "prepared"), default=0)
