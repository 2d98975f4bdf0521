"""A run's raw material made into what is stored of it: windows, metrics, token times, outcome and verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.bandwidth import mbu
from melt.analysis.baseline import find_baseline
from melt.analysis.charge import counted_energy, disagreement
from melt.analysis.derived import derived
from melt.analysis.efficiency import memory_pressure, memory_used, utilisation
from melt.analysis.energy import Account, energy, idle_power, phase_energy
from melt.analysis.energy_checks import energy_reasons
from melt.analysis.evidence import Evidence
from melt.analysis.figures import NOT_REACHED, Figure, median_figure, to_metric, with_remark
from melt.analysis.heat import ONLY_WHERE_TOLD, heat_figures, main_curve
from melt.analysis.latency import RATE, first, inference_trace, latency, not_of, percentiles, sampled_latency
from melt.analysis.memory import engine_memory, peak_memory
from melt.analysis.meter import find_meter, without_meter
from melt.analysis.metered import NOT_METERED, Metered, on_device_clock
from melt.analysis.names import METRICS
from melt.analysis.outcome import outcome
from melt.analysis.overhead import Overhead, overhead, overhead_figures
from melt.analysis.peak import highest
from melt.analysis.rates import UNTIMED, itl_percentiles, rates, sampled_rates
from melt.analysis.repetitions import Repetition, repetitions_of, sampled_repetitions, token_trace
from melt.analysis.series import Span
from melt.analysis.thermal import thermal, warming
from melt.analysis.verdict import judge
from melt.engines.base import RunnerReport
from melt.records import Metric, Outcome, Reason, RunStart, Thresholds, Verdict, Window
from melt.telemetry.journal import Event
from melt.telemetry.meters.recording import Recording
from melt.traces import Trace

_RATES = ("prefill_tps", "decode_tps")
_TOLD_IN = {
    "energy_bridged": "power_mean_w",
    "baseline_unsteady": "power_idle_w",
    "charge_disagrees": "energy_counter_j",
}
"""Doubts that leave a run valid where nobody asked for its energy, and the figure whose note tells of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a run came to. `reasons` explain an outcome that is not ok, then each doubt.

    `traces` are those given, and that of an external meter; `metered` tells how it was brought to the device's clock.
    """

    windows: tuple[Window, ...]
    metrics: tuple[Metric, ...]
    traces: tuple[Trace, ...]
    token_trace: Trace
    outcome: Outcome
    verdict: Verdict
    reasons: tuple[Reason, ...]
    used: Mapping[str, object]
    metered: Metered = NOT_METERED
    inference_trace: Trace | None = None

    @property
    def request_traces(self) -> tuple[Trace, ...]:
        """The times of every token, or of every request of a single-shot model."""
        return (self.token_trace,) if self.inference_trace is None else (self.inference_trace,)


@dataclass(frozen=True, slots=True)
class _Material:
    start: RunStart
    report: RunnerReport
    traces: tuple[Trace, ...]
    token_trace: Trace
    events: tuple[Event, ...]
    repetitions: tuple[Repetition, ...]
    windows: tuple[Window, ...]
    account: Account
    metered: Metered
    counted: Figure
    against: tuple[Reason, ...]
    overhead: Overhead
    max_rss_bytes: float | None


def evaluate(
    start: RunStart,
    report: RunnerReport,
    traces: Sequence[Trace],
    events: Sequence[Event],
    *,
    torn: bool,
    end: Mapping[str, object] | None,
    stderr: str = "",
    recording: Recording | Reason | None = None,
) -> Evaluation:
    """Evaluate one run, whatever became of it; what was measured before it failed is kept.

    `events` are the agent's; `end` is its end document, None when it was never seen; `torn`: the journal breaks off.
    `recording` is what an external meter saw, or why nobody can read it.
    """
    windows = tuple(sorted(report.windows, key=lambda w: (w.t0_ns, w.t1_ns)))
    repetitions = repetitions_of(windows, report.generations, report.inferences) or sampled_repetitions(report.samples)
    measured = tuple(r for r in repetitions if not r.warmup)
    span, thresholds = _measured_span(measured), start.spec.thresholds
    metered = _metered(recording, span, thresholds)
    traces = (*traces, *metered.traces)
    account = _account(start, traces, events, metered)
    counted = counted_energy(traces, span)
    material = _Material(
        start=start,
        report=report,
        traces=traces,
        token_trace=token_trace(report.generations),
        events=tuple(events),
        repetitions=measured,
        windows=windows,
        account=account,
        metered=metered,
        counted=counted,
        against=_against_energy(account, metered, counted, measured),
        overhead=overhead(events),
        max_rss_bytes=_max_rss_bytes(report, events),
    )
    per_repetition = [_repetition_figures(material, r) for r in measured]
    how, why = outcome(report, events, end, stderr, device=start.spec.device, trips=start.trips)
    verdict = Verdict.INVALID
    reasons: tuple[Reason, ...] = () if why is None else (why,)
    if how is Outcome.OK:
        judgement = judge(
            Evidence(
                start=start,
                used=report.used,
                events=tuple(events),
                traces=material.traces,
                repetitions=measured,
                rates={name: _values(per_repetition, name) for name in _rates_of(start)},
                overhead=material.overhead,
                torn=torn,
                energy=material.against,
                energy_required=_energy_is_required(material),
            )
        )
        verdict, reasons = judgement.verdict, judgement.reasons
    return Evaluation(
        windows=windows,
        metrics=_metrics(material, per_repetition),
        traces=material.traces,
        token_trace=material.token_trace,
        outcome=how,
        verdict=verdict,
        reasons=reasons,
        used=report.used,
        metered=metered,
        inference_trace=inference_trace(report.inferences) if _is_single_shot(start) else None,
    )


def _is_single_shot(start: RunStart) -> bool:
    return start.spec.workload.kind == "inference"


def _rates_of(start: RunStart) -> tuple[str, ...]:
    return (RATE,) if _is_single_shot(start) else _RATES


def _metrics(material: _Material, per_repetition: Sequence[Mapping[str, Figure]]) -> tuple[Metric, ...]:
    summary = _summary_figures(material, per_repetition)
    metrics = [to_metric(name, summary[name]) for name in METRICS if name in summary]
    for repetition, figures in zip(material.repetitions, per_repetition, strict=True):
        metrics += [to_metric(name, figures[name], repetition.index) for name in METRICS if name in figures]
    return tuple(metrics)


def _repetition_figures(material: _Material, repetition: Repetition) -> dict[str, Figure]:
    """Return the figures that each repetition has of its own."""
    workload, report = material.start.spec.workload, material.report
    if report.samples:
        source = str(report.used.get("runner"))
        if _is_single_shot(material.start):
            return sampled_latency(report.samples, repetition.index, source)
        return dict(sampled_rates(report.samples, repetition.index, workload, source))
    if _is_single_shot(material.start):
        figures = latency(repetition)
    else:
        figures = rates(repetition, workload)
        decode_tps = figures["decode_tps"].value
        figures["mbu_ratio"] = mbu(material.start, report.used, repetition.phase("decode"), decode_tps)
        figures |= utilisation(material.start, report.used, repetition)
    span = repetition.span
    if span is not None:
        figures["peak_rss_bytes"] = peak_memory(material.traces, span)
        figures["memory_used_ratio"] = memory_used(material.traces, span, material.start.device)
        figures["memory_pressure_ratio"] = memory_pressure(figures["peak_rss_bytes"], material.start.device)
        figures |= thermal(material.traces, span)
        figures |= energy(material.account, repetition)
        figures |= derived(material.account, repetition, material.start, material.traces, figures)
    return figures


def _summary_figures(material: _Material, per_repetition: Sequence[Mapping[str, Figure]]) -> dict[str, Figure]:
    """Return the run's own figures: medians over repetitions, but extremes and pooled gaps where those mean more."""
    workload = material.start.spec.workload
    not_reached = UNTIMED if material.report.samples else NOT_REACHED
    foreign = not_of([workload])
    names = [name for name in METRICS if name not in ONLY_WHERE_TOLD and name not in foreign]
    figures = {name: median_figure([f[name] for f in per_repetition if name in f], not_reached) for name in names}
    load = [w.duration_s for w in material.windows if w.phase == "load"]
    figures["load_s"] = Figure(sum(load)) if load else Figure(None, not_reached)
    if _is_single_shot(material.start):
        measured = [one for r in material.repetitions for one in r.inferences]
        figures |= percentiles(measured, not_reached) | first(material.report.inferences, measured, not_reached)
        if figures["items_per_s"].value is None:
            del figures["items_per_s"]
    else:
        no_gaps = not_reached if workload.n_gen > 1 else "the workload decodes nothing"
        figures |= itl_percentiles([g for r in material.repetitions for g in r.generations], no_gaps)
    figures["peak_rss_bytes"] = peak_memory(material.traces, None, material.max_rss_bytes)
    figures["memory_pressure_ratio"] = memory_pressure(figures["peak_rss_bytes"], material.start.device)
    memory = engine_memory(material.report.memory, material.start.artifact)
    figures |= {name: figure for name, figure in memory.items() if name not in foreign}
    span = _whole_span(material)
    if span is not None:
        figures |= thermal(material.traces, span) | warming(material.traces, span)
    if workload.kind == "sustained":
        curve = main_curve(material.token_trace, material.windows, workload)
        figures |= heat_figures(workload, curve, material.traces, material.events, span, not_reached)
    elif _is_single_shot(material.start) and workload.duration_s is not None:
        curve = main_curve(inference_trace(material.report.inferences), material.windows, workload)
        told = heat_figures(workload, curve, material.traces, material.events, span, not_reached)
        figures |= {name: figure for name, figure in told.items() if name not in foreign}
    figures |= overhead_figures(material.overhead)
    figures |= phase_energy(material.account, "load", [w for w in material.windows if w.phase == "load"])
    figures["power_idle_w"] = idle_power(material.account)
    figures["power_peak_w"] = highest([f["power_peak_w"] for f in per_repetition if "power_peak_w" in f])
    figures["energy_counter_j"] = material.counted
    for reason in material.against:
        if reason.code in _TOLD_IN:
            name = _TOLD_IN[reason.code]
            figures[name] = with_remark(figures[name], reason)
    return figures


def _account(start: RunStart, traces: Sequence[Trace], events: Sequence[Event], metered: Metered) -> Account:
    thresholds = start.spec.thresholds
    meter = find_meter(traces, start.calibrations, metered.grades, thresholds)
    if meter is None:
        why = without_meter(traces, start.calibrations, thresholds)
        return Account(why, why)
    return Account(meter, find_baseline(meter, events))


def _against_energy(
    account: Account, metered: Metered, counted: Figure, repetitions: Sequence[Repetition]
) -> tuple[Reason, ...]:
    """Return what speaks against the energy of a run, and against its cross-check by the charge counter."""
    known = {reason.code: reason for reason in metered.reasons}
    doubts = energy_reasons(account, repetitions)
    # Who recorded the meter knows why it stopped.
    found = (*known.values(), *(reason for reason in doubts if reason.code not in known))
    apart = disagreement(account.meter, counted, _measured_span(repetitions))
    return found if apart is None else (*found, apart)


def _metered(recording: Recording | Reason | None, span: Span | None, thresholds: Thresholds) -> Metered:
    """Bring what an external meter saw to the device's clock; one that cannot be read was there all the same."""
    if recording is None:
        return NOT_METERED
    if isinstance(recording, Reason):
        return Metered(reasons=(recording,))
    return on_device_clock(recording, span, thresholds)


def _energy_is_required(material: _Material) -> bool:
    """Whether a run without energy is of no use: by the plan, else whoever connects a meter came for it."""
    asked = material.start.spec.sampling.energy
    return material.metered is not NOT_METERED if asked is None else asked == "required"


def _measured_span(repetitions: Sequence[Repetition]) -> Span | None:
    """From the first measured repetition to the end of the last."""
    spans = [span for r in repetitions if (span := r.span) is not None]
    return (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None


def _whole_span(material: _Material) -> Span | None:
    """From loading to the last measured phase: a device is warmed by all of it."""
    ends = [w.t1_ns for w in material.windows]
    return (min(w.t0_ns for w in material.windows), max(ends)) if ends else None


def _values(per_repetition: Sequence[Mapping[str, Figure]], name: str) -> tuple[float, ...]:
    return tuple(v for figures in per_repetition if (v := figures[name].value) is not None)


def _max_rss_bytes(report: RunnerReport, events: Sequence[Event]) -> float | None:
    """Return the runner's peak as the kernel kept it: told by the runner, else by the agent.

    What the kernel tells the agent is the greatest of the runner and of all processes that it started and waited for,
    a first look at the model, for one.
    """
    own = report.memory.get("peak_rss_bytes")
    if own:
        return float(own)
    said = [e.data.get("max_rss_bytes") for e in events if e.name == "runner_exited"]
    return max((float(v) for v in said if isinstance(v, (int, float)) and not isinstance(v, bool)), default=None)
