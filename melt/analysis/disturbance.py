"""Checks whether something else slowed a run down: heat, other programs, the hypervisor, the disk, the charger."""

from __future__ import annotations

import math
from collections.abc import Sequence

from melt.analysis import channels
from melt.analysis.conditions import Check
from melt.analysis.evidence import Evidence
from melt.analysis.series import Series, Span, common_span
from melt.records import Reason

THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's words (PowerManager.THERMAL_STATUS_*). Light means already that clocks are cut, if unnoticed by a user."""

THERMAL_PRESSURE = ("nominal", "moderate", "heavy", "trapping", "sleeping")
"""macOS's words (OSThermalNotification.h). From moderate on the system takes performance back to get cooler."""


def throttled(seen: Evidence) -> Reason | None:
    """The processor was slowed down by its own protection, or by the kernel's."""
    span = seen.span
    if span is None:
        return None
    return (
        _counted(seen, span)
        or _cooled(seen, span)
        or _reported(seen, span)
        or _limited(seen, span)
        or _slower_at_the_end(seen, span)
    )


def _counted(seen: Evidence, span: Span) -> Reason | None:
    """The hardware counts how often it throttled, by cause or by part."""
    grown = {s.stream.site: times for s in channels.throttle_counts(seen.traces) if (times := s.growth(span))}
    if not grown:
        return None
    times, where = math.fsum(grown.values()), max(grown, key=lambda site: grown[site])
    others = f" and {len(grown) - 1} more" if len(grown) > 1 else ""
    # Less than one where it was counted between two samples, of which only one lies in the span.
    message = f"the hardware throttled {max(1, round(times))} times while it was measured ({where}{others})"
    return Reason(code="throttled", message=message, figures={"throttle_events": times})


def _cooled(seen: Evidence, span: Span) -> Reason | None:
    """The kernel holds the processor back to cool it."""
    cooled = [
        (float(part.max()), s.stream.site) for s in channels.cooling_states(seen.traces) if len(part := s.inside(span))
    ]
    state, site = max(cooled, default=(0.0, ""))
    if state <= 0:
        return None
    message = f"the kernel slowed the processor down to cool it ({site}, step {state:.0f})"
    return Reason(code="throttled", message=message, figures={"cooling_state": state})


def _reported(seen: Evidence, span: Span) -> Reason | None:
    """A phone's or a Mac's own thermal service says that it throttles."""
    for who, name, series, words in (
        ("phone", "thermal status", channels.thermal_status(seen.traces), THERMAL_STATUS),
        ("Mac", "thermal pressure", channels.thermal_pressure(seen.traces), THERMAL_PRESSURE),
    ):
        worst = max((int(part.max()) for s in series if len(part := s.inside(span))), default=0)
        if worst > 0:
            word = words[min(worst, len(words) - 1)]
            message = f"the {who} reported {name} {worst} ({word}) while it was measured"
            return Reason(code="throttled", message=message, figures={name.replace(" ", "_"): float(worst)})
    return None


def _limited(seen: Evidence, span: Span) -> Reason | None:
    """The clock that CPUs may reach at most was lowered after all was set; a limit that somebody set stays."""
    for series in channels.clock_limits(seen.traces):
        limits, known = series.inside(span), series.inside((min(seen.settled_ns, span[0]), span[1]))
        if len(limits) and limits.min() < (highest := float(known.max())):
            figures = {"limit_hz": float(limits.min()), "before_hz": highest}
            message = (
                f"the clock of {series.stream.site} was limited to {limits.min() / 1e9:.2f} of {highest / 1e9:.2f} GHz"
            )
            return Reason(code="throttled", message=message, figures=figures)
    return None


def _slower_at_the_end(seen: Evidence, span: Span) -> Reason | None:
    """Compare the fastest CPUs, as many as the run has threads, in the first and the last quarter of the span.

    Where a GPU computes, CPUs wait for it: their clock follows how they wait.
    """
    layers = seen.used.get("n_gpu_layers")
    if isinstance(layers, int) and layers:
        return None
    quarter = (span[1] - span[0]) // 4
    n = seen.start.spec.settings.threads or 1
    series = channels.cpu_frequency(seen.traces)
    first = _fastest(series, (span[0], span[0] + quarter), n)
    last = _fastest(series, (span[1] - quarter, span[1]), n)
    if first is None or last is None or last >= first * (1 - seen.thresholds.frequency_drop_ratio):
        return None
    message = f"the CPU clock fell by {100 * (1 - last / first):.0f} % from the start to the end of what was measured"
    return Reason(code="throttled", message=message, figures={"first_hz": first, "last_hz": last})


def _fastest(series: Sequence[Series], span: Span, n: int) -> float | None:
    means = sorted((float(part.mean()) for s in series if len(part := s.inside(span))), reverse=True)[:n]
    return math.fsum(means) / len(means) if means else None


def background_load(seen: Evidence) -> Reason | None:
    """Other programs ran on the device's CPUs meanwhile."""
    span = seen.span
    busy = _switched_on(seen)
    own = channels.runner_cpu_time(seen.traces)
    # The last sample of the runner's own counters lies before its end, which may be just before that of the span.
    span = None if span is None else common_span((*busy, *own), span)
    if span is None or not busy or not own:
        return None
    grown = [[s.growth(span) for s in series] for series in (busy, own)]
    if any(value is None for values in grown for value in values):
        return None
    all_s, own_s = (math.fsum(value or 0.0 for value in values) for values in grown)
    wall_s = (span[1] - span[0]) / 1e9
    others = (all_s - own_s) / wall_s - (seen.overhead.cpu_ratio or 0.0)
    if others <= seen.thresholds.background_load_ratio * len(busy):
        return None
    message = f"other programs kept {others:.1f} of {len(busy)} CPUs busy meanwhile"
    return Reason(code="background_load", message=message, figures={"cpus": others, "of": float(len(busy))})


def _switched_on(seen: Evidence) -> list[Series]:
    """Return the busy seconds of the CPUs that were on: a power mode switches some off before it is measured."""
    span = seen.span
    return [] if span is None else [s for s in channels.cpu_busy_time(seen.traces) if len(s.inside(span))]


def cpu_stolen(seen: Evidence) -> Reason | None:
    """The hypervisor gave this machine's CPUs to others."""
    span = seen.span
    busy = _switched_on(seen)
    stolen_s = None if span is None else _growth(channels.stolen_time(seen.traces), span)
    if span is None or stolen_s is None or not busy:
        return None
    share = stolen_s / (len(busy) * (span[1] - span[0]) / 1e9)
    if share <= seen.thresholds.cpu_stolen_ratio:
        return None
    message = f"the hypervisor took {100 * share:.1f} % of the CPUs' time away meanwhile"
    return Reason(code="cpu_stolen", message=message, figures={"share": share})


def swapped(seen: Evidence) -> Reason | None:
    """Part of the runner lay on the disk."""
    span = seen.span
    parts = [] if span is None else [s.inside(span) for s in channels.runner_swap(seen.traces)]
    most = max((float(part.max()) for part in parts if len(part)), default=0.0)
    if most <= seen.thresholds.swap_bytes:
        return None
    message = f"{most / (1 << 20):.0f} MiB of the runner were swapped out"
    return Reason(code="swapped", message=message, figures={"swap_bytes": most})


def read_from_disk(seen: Evidence) -> Reason | None:
    """Weights had to be read again while it was measured."""
    span = seen.span
    faults = None if span is None else _growth(channels.runner_major_faults(seen.traces), span)
    if span is None or not faults:
        return None
    rate = faults / ((span[1] - span[0]) / 1e9)
    if rate <= seen.thresholds.major_faults_hz:
        return None
    message = f"{faults:.0f} times the runner waited for the disk: the model does not stay in memory"
    return Reason(code="read_from_disk", message=message, figures={"major_faults": faults, "major_faults_hz": rate})


def charging(seen: Evidence) -> Reason | None:
    """A battery was charged meanwhile, which heats the device and hides its consumption."""
    span = seen.span
    parts = [] if span is None else [s.inside(span) > 0 for s in channels.charging(seen.traces)]
    ratio = max((float(part.mean()) for part in parts if len(part)), default=0.0)
    if ratio <= 0:
        return None
    message = "the battery was being charged meanwhile"
    return Reason(code="charging", message=message, figures={"charging_ratio": ratio})


def _growth(series: Sequence[Series], span: Span) -> float | None:
    grown = [value for s in series if (value := s.growth(span)) is not None]
    return math.fsum(grown) if grown else None


CHECKS: tuple[Check, ...] = (throttled, background_load, cpu_stolen, swapped, read_from_disk, charging)
