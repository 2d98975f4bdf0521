"""Why a run's energy may not be believed: refusals with their figures, and what leaves it in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from melt.analysis.baseline import Baseline
from melt.analysis.energy import PHASES, Account
from melt.analysis.integrate import Integral
from melt.analysis.meter import Meter
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Span
from melt.records import Reason


def energy_reasons(account: Account, repetitions: Sequence[Repetition]) -> tuple[Reason, ...]:
    """Return each doubt once, with the figures of its first occurrence. Which of them matter the verdict says."""
    found: dict[str, Reason] = {}
    for reason in _doubts(account, repetitions):
        found.setdefault(reason.code, reason)
    return tuple(found.values())


def _doubts(account: Account, repetitions: Sequence[Repetition]) -> Iterator[Reason]:
    meter = account.meter
    if isinstance(meter, Reason):
        yield meter
        return
    spans = [span for r in repetitions if (span := r.span) is not None]
    for span in spans:
        yield from _of_span(meter, [span])
    for repetition in repetitions:
        for phase in PHASES:
            windows = [(w.t0_ns, w.t1_ns) for w in repetition.phase(phase)]
            if windows:
                # A slow gauge tells of the whole and not of its phases: that is no fault of the run.
                yield from (reason for reason in _of_span(meter, windows) if reason.code != "meter_too_slow")
    if isinstance(account.baseline, Baseline) and spans:
        busy = meter.measure(spans)
        most = meter.thresholds.baseline_unsteady_ratio
        unsteady = account.baseline.unsteady(busy.power_w, most) if isinstance(busy, Integral) else None
        if unsteady is not None:
            yield unsteady


def _of_span(meter: Meter, spans: Sequence[Span]) -> Iterator[Reason]:
    found = meter.measure(spans)
    if isinstance(found, Reason):
        yield found
    elif found.coverage < 1 and not meter.is_renewed:
        message = (
            f"{meter.name} was silent for {found.longest_gap_s:.2f} s, and {100 * (1 - found.coverage):.1f} % of a "
            "window lie in such holes: their energy is that of a straight line"
        )
        figures = {"coverage": found.coverage, "longest_gap_s": found.longest_gap_s, "gap_j": found.terms.gap_j}
        yield Reason(code="energy_bridged", message=message, figures=figures)
