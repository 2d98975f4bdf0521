"""Which runs of a sweep need not be made any more: their cell is known as well as was asked, or cannot be measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from melt.analysis.order_effect import session_rate
from melt.analysis.precision import Known, known
from melt.fleet.sweep import MADE_ANEW, Sweep
from melt.plan.expand import Cell, cell_of
from melt.records import RunSpec
from melt.traces import RunBundle


class Settled:
    """Counts the sessions of each cell. Threads may use it at once, each for the cells of its own device.

    What it says follows from the sessions that have ended, in whatever order: a melt that goes on with a sweep decides
    as the one before would have.
    """

    def __init__(self) -> None:
        self._rates: dict[Cell, list[float | None]] = defaultdict(list)
        # By its id: the spec that a run was begun with has the threads that were chosen for its device.
        self._cells: dict[str, Cell] = {}

    @classmethod
    def of(cls, sweep: Sweep, bundles: Iterable[RunBundle]) -> Settled:
        """Count the runs that a sweep has already; not those that were made anew, here or on another device."""
        settled, asked = cls(), {spec.run_id: spec for spec in sweep.specs}
        for bundle in bundles:
            spec = asked.get(bundle.start.spec.run_id)
            if spec is not None:
                settled.add(spec, bundle)
        return settled

    def add(self, spec: RunSpec, bundle: RunBundle) -> None:
        """Count a run that was asked for as `spec` and has ended."""
        cell = self._cells[spec.run_id] = cell_of(spec)
        if not spec.reference and bundle.stop.outcome not in MADE_ANEW:
            self._rates[cell].append(session_rate(bundle))

    def known(self, spec: RunSpec) -> Known:
        """Return what is known of a run's cell."""
        return known(self._rates.get(self._cells.get(spec.run_id) or cell_of(spec), ()))

    def spared(self, specs: Iterable[RunSpec]) -> dict[str, str]:
        """Map the ids of those of some runs, none of which has ended, that need not be made to the reason."""
        return {spec.run_id: why for spec in specs if (why := self.why_spared(spec)) is not None}

    def why_spared(self, spec: RunSpec) -> str | None:
        """Return in a few words why a run need not be made, None where it must. A reference run always must."""
        if spec.repeat.until_ci is None or spec.reference:
            return None
        found = self.known(spec)
        if found.is_precise(spec.repeat):
            return f"±{100 * (found.half_width or 0.0):.2g} % after {found.measured} sessions"
        return f"no rate in {found.ended} sessions" if found.is_hopeless(spec.repeat) else None
