"""Heat as a story over time: burst, steady state, time to throttle, and how a device came back. See docs/metrics.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melt.analysis.figures import Figure, Figures
from melt.analysis.heat_curve import (
    KEPT_RATIO,
    LEAST_BIN_S,
    MAX_STEADY_CHANGE,
    MIN_BINS,
    Curve,
    burst_tps,
    curve,
    decode_steps,
    inference_steps,
    is_long_enough,
    prefill_steps,
    steady,
    throttled_from_ns,
)
from melt.analysis.heat_reports import Report, has_reports, reports
from melt.analysis.series import Series, Span
from melt.analysis.thermal import hottest, start_c
from melt.records import Window, Workload
from melt.telemetry.journal import Event
from melt.traces import Trace

_OF_THE_CURVE = ("burst_tps", "steady_tps", "steady_ratio", "time_to_throttle_s")

ONLY_WHERE_TOLD = frozenset({*_OF_THE_CURVE, "recovery_s", "temperature_start_c", "temperature_rise_c"})
"""Figures that a run may not have at all: a request of a second tells little of heat, no sensor nothing."""

MIN_RISE_C = 2.0
"""Below this, going half of the way back is within what sensors jitter by."""

_AT_THE_END_NS = 1_000_000_000
_S = 1e9


def heat_figures(
    workload: Workload,
    found: Curve | None,
    traces: Sequence[Trace],
    events: Sequence[Event],
    span: Span | None,
    none_note: str,
) -> Figures:
    """Return what a sustained workload tells of heat, from its curve and what the device said meanwhile.

    `span` is the time that warmed the device; `none_note` says why there is no curve.
    """
    settled_ns = max((event.t_ns for event in events if event.name == "prepared"), default=0)
    back = None if span is None else recovery(traces, span, events, settled_ns)
    if found is None or not is_long_enough(found):
        figures = dict.fromkeys(_OF_THE_CURVE, Figure(None, none_note if found is None else _too_short(found)))
    else:
        figures = _of_the_curve(found, workload, traces, settled_ns)
    return figures if back is None else {**figures, "recovery_s": back}


def main_curve(requests: Trace, windows: Sequence[Window], workload: Workload) -> Curve | None:
    """Return the rate over time of what was measured: of decode where the workload decodes, else of prefill.

    Of a single-shot model it is that of inferences. `requests` has the time of every token, or of every inference.
    """
    if workload.kind == "inference":
        return curve(inference_steps(requests))
    return curve(decode_steps(requests) if workload.n_gen else prefill_steps(windows))


def rate_of_curve(workload: Workload) -> tuple[str, str]:
    """Return of which phase the main curve tells the rate, and its unit."""
    if workload.kind == "inference":
        return "inference", "inferences/s"
    return "decode" if workload.n_gen else "prefill", "tok/s"


def _of_the_curve(found: Curve, workload: Workload, traces: Sequence[Trace], settled_ns: int) -> dict[str, Figure]:
    rate, n_bins = burst_tps(found)
    throttled_ns = throttled_from_ns(found, rate)
    said = reports(traces, (found.t0_ns, int(found.middle_ns[-1])), settled_ns)
    at_once = [report for report in said if report.from_ns <= found.t0_ns + n_bins * found.width_ns]
    warm = f"not cold: {at_once[0].what} within it" if at_once else None
    phase, _ = rate_of_curve(workload)
    burst = Figure(
        rate, f"{phase}, median of the first {n_bins * found.width_ns / _S:.3g} s" + (f"; {warm}" if warm else "")
    )
    lasting = _steady(found, throttled_ns)
    ratio = Figure(None, lasting.note) if lasting.value is None else Figure(lasting.value / rate, warm)
    return {
        "burst_tps": burst,
        "steady_tps": lasting,
        "steady_ratio": ratio,
        "time_to_throttle_s": _time_to_throttle(found, throttled_ns, said, has_reports(traces)),
    }


def _too_short(found: Curve) -> str:
    if found.whole_requests:
        return f"the rate was seen in {int(np.isfinite(found.rates).sum())} bins, {MIN_BINS} are needed: run it longer"
    return f"{MIN_BINS} stretches of whole requests are needed, {LEAST_BIN_S} s or more each: run it longer"


def _steady(found: Curve, throttled_ns: int | None) -> Figure:
    last = steady(found)
    figures = {"spread_ratio": last.spread_ratio, "change_ratio": last.change_ratio, "lasts_s": last.lasts_s}
    moved = f"{'fell' if last.change_ratio < 0 else 'rose'} by {100 * abs(last.change_ratio):.0f} %"
    if throttled_ns is not None and throttled_ns > last.from_ns:
        return Figure(None, f"it throttled within its last {last.lasts_s:.3g} s: run it longer", figures=figures)
    if abs(last.change_ratio) > MAX_STEADY_CHANGE:
        return Figure(None, f"not steady: it {moved} in the last {last.lasts_s:.3g} s; run it longer", figures=figures)
    note = f"last {last.lasts_s:.3g} s, bins vary by {100 * last.spread_ratio:.1f} %"
    return Figure(last.rate_tps, note, figures=figures)


def _time_to_throttle(found: Curve, throttled_ns: int | None, said: Sequence[Report], has_any: bool) -> Figure:
    figures = {"reported_s": _since(said[0].from_ns, found)} if said else {}
    if said:
        opinion = f"the device reported {said[0].what} at {figures['reported_s']:.3g} s"
    else:
        opinion = "the device reported no throttling" if has_any else "the device has no report of throttling"
    if throttled_ns is None:
        return Figure(None, f"never below {100 * KEPT_RATIO:.0f} % of the burst for good; {opinion}", figures=figures)
    value = _since(throttled_ns, found)
    return Figure(value, opinion, uncertainty=found.width_ns / _S, figures=figures)


def _since(t_ns: int, found: Curve) -> float:
    return max(0.0, (t_ns - found.t0_ns) / _S)


def recovery(traces: Sequence[Trace], span: Span, events: Sequence[Event], settled_ns: int) -> Figure | None:
    """Return how long after the runner's end the hottest sensor was half-way back to what it was at the start.

    None without a sensor. Its figures tell how far it fell while it was watched, and when throttling was last reported.
    """
    sensor = hottest(traces, span)
    exited_ns = next((event.t_ns for event in events if event.name == "runner_exited"), None)
    if sensor is None or exited_ns is None:
        return None
    end_c = _level(sensor, (exited_ns - _AT_THE_END_NS, exited_ns))
    before_c = start_c(sensor, span)
    until_ns = int(sensor.t_ns[-1])
    watched_s = max(0.0, (until_ns - exited_ns) / _S)
    if end_c is None or watched_s == 0:
        return Figure(None, "it was not watched after the run: ask for `sampling: {recovery_s: 120}`", "sensor")
    if end_c - before_c < MIN_RISE_C:
        return Figure(None, f"it was {end_c - before_c:.1f} °C warmer than at its start: nothing to recover", "sensor")
    after = sensor.t_ns > exited_ns
    times, values = sensor.t_ns[after], sensor.values[after]
    figures = {"fell_c": end_c - float(values[-1]), "watched_s": watched_s, "end_c": end_c}
    said = [report for report in reports(traces, (exited_ns, until_ns), settled_ns) if report.last_ns > exited_ns]
    if said:
        figures["reported_until_s"] = max(report.last_ns - exited_ns for report in said) / _S
    throttled = f", throttled for {figures['reported_until_s']:.3g} s of it" if said else ""
    story = f"from {end_c:.1f} to {float(values[-1]):.1f} °C in {watched_s:.3g} s{throttled}"
    still = np.flatnonzero(values > (end_c + before_c) / 2)
    back = int(still[-1]) + 1 if len(still) else 0
    if back == len(values):
        longer_s = max(60, round(4 * watched_s))
        note = f"{story}, start {before_c:.1f} °C: ask for `sampling: {{recovery_s: {longer_s}}}`"
        return Figure(None, note, "sensor", figures=figures)
    return Figure((int(times[back]) - exited_ns) / _S, f"half-way back; {story}", "sensor", figures=figures)


def _level(sensor: Series, span: Span) -> float | None:
    part = sensor.inside(span)
    if len(part):
        return float(part.max())
    before = sensor.values[sensor.t_ns <= span[1]]
    return float(before[-1]) if len(before) else None
