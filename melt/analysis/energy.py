"""Energy of a run by phase and by token: gross, as the meter saw it, and net of what the device takes at rest.

The source of each figure is the scope of its meter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from melt.analysis import channels
from melt.analysis.baseline import Baseline, net
from melt.analysis.figures import NOT_REACHED, Figure, with_remark
from melt.analysis.integrate import Integral, Terms
from melt.analysis.meter import Meter
from melt.analysis.repetitions import Repetition
from melt.analysis.series import Span
from melt.records import Metric, Reason, Window

PHASES = ("load", "prefill", "decode", "inference")

_SOURCE = "sensor"
_NO_REST = "power at rest is not known"
_PER_TOKEN = {
    "decode": "energy_per_token",
    "prefill": "energy_per_prompt_token",
    "inference": "energy_per_inference",
}
_WORTH_NAMING = 0.1
"""Terms under a tenth of the largest change the sum by half a per cent."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a run's energy is measured with. A Reason stands for what is not there."""

    meter: Meter | Reason
    baseline: Baseline | Reason


def energy(account: Account, repetition: Repetition) -> dict[str, Figure]:
    """Return the energy of prefill and decode and of their tokens, or of requests; gross and net, and mean power."""
    span = repetition.span
    if span is None:
        return {}
    whole = _over(account, [span])
    figures = {"power_mean_w": figure_of(account, whole, 1 / _length_s(span))}
    if repetition.inferences:
        n_requests = sum(len(one.t1_ns) for one in repetition.inferences)
        return figures | phase_energy(account, "inference", repetition.phase("inference"), n_requests)
    for phase in ("prefill", "decode"):
        figures |= phase_energy(account, phase, repetition.phase(phase))
    return figures


def phase_energy(
    account: Account, phase: str, windows: Sequence[Window], n_requests: int | None = None
) -> dict[str, Figure]:
    """Return the energy of a phase's windows, gross and net, and what a token took, where it has tokens.

    With `n_requests`, what a request took.
    """
    gross: Integral | Reason = Reason(code="no_phase", message=f"the workload has no {phase} phase")
    if windows and isinstance(account.meter, Meter):
        gross = _over(account, [(w.t0_ns, w.t1_ns) for w in windows])
    elif isinstance(account.meter, Reason):
        gross = account.meter
    above = _net(account, gross)
    unsteady = _unsteady(account, gross)
    figures = {
        f"energy_{phase}_j": figure_of(account, gross),
        f"energy_{phase}_net_j": with_remark(figure_of(account, above), unsteady),
    }
    if phase in _PER_TOKEN:
        n_tokens = sum(w.n_tokens or 0 for w in windows) if n_requests is None else n_requests
        name = _PER_TOKEN[phase]
        figures[f"{name}_j"] = _per(account, gross, n_tokens)
        figures[f"{name}_net_j"] = with_remark(_per(account, above, n_tokens), unsteady)
    return figures


def idle_power(account: Account) -> Figure:
    """Return the power at rest, the mean of before and after the run."""
    baseline = account.baseline
    if isinstance(baseline, Reason) or isinstance(account.meter, Reason):
        why = account.meter if isinstance(account.meter, Reason) else baseline
        return Figure(None, why.message if isinstance(why, Reason) else None, _SOURCE)
    before_w, after_w = baseline.before.power_w, baseline.after.power_w
    note = f"{account.meter.sites}; {before_w:.3g} W before the run, {after_w:.3g} W after it"
    figures = {"before_w": before_w, "after_w": after_w, "noise_w": baseline.noise_w}
    # A class that is wrong by so much is wrong by as much here.
    gain_w = baseline.before.terms.class_j / baseline.before.time_s
    uncertainty = (baseline.uncertainty_w**2 + gain_w**2) ** 0.5
    return Figure(baseline.power_w, note, account.meter.scope, uncertainty, figures)


def covers(metric: Metric) -> str:
    """Return what the meter behind a figure covered: its scope, of a sum of rails also which they are.

    What a figure was reckoned with beside its energy, a capacity or a grid's intensity, is told behind it.
    """
    if not metric.source.startswith(channels.RAILS):
        return metric.source
    rails = (metric.note or "").partition(";")[0]
    return f"{channels.RAILS}: {rails}{metric.source.removeprefix(channels.RAILS)}"


def _over(account: Account, spans: Sequence[Span]) -> Integral | Reason:
    return account.meter if isinstance(account.meter, Reason) else account.meter.measure(spans)


def _net(account: Account, gross: Integral | Reason) -> Integral | Reason:
    if isinstance(gross, Reason) or isinstance(account.meter, Reason):
        return gross
    if isinstance(account.baseline, Reason):
        return replace(account.baseline, message=_NO_REST)
    return net(gross, account.baseline, account.meter.gain_ratio)


def _unsteady(account: Account, gross: Integral | Reason) -> Reason | None:
    """Say that power at rest was another before than after, and by much of what a phase took above it."""
    meter, baseline = account.meter, account.baseline
    if isinstance(gross, Reason) or isinstance(meter, Reason) or isinstance(baseline, Reason):
        return None
    return baseline.unsteady(gross.power_w, meter.thresholds.baseline_unsteady_ratio)


def _per(account: Account, found: Integral | Reason, n_tokens: int) -> Figure:
    if isinstance(found, Integral) and n_tokens <= 0:
        return Figure(None, NOT_REACHED, _SOURCE)
    return figure_of(account, found, 1 / max(1, n_tokens))


def figure_of(account: Account, found: Integral | Reason, factor: float = 1.0) -> Figure:
    """Make a figure of an energy times `factor`, with all that is known of it, in its own unit."""
    if isinstance(found, Reason) or isinstance(account.meter, Reason):
        return Figure(None, found.message if isinstance(found, Reason) else None, _SOURCE)
    meter = account.meter
    terms = {f.name.removesuffix("_j"): getattr(found.terms, f.name) * factor for f in fields(Terms)}
    figures = {
        "rate_hz": meter.rate_hz,
        "samples": float(found.samples),
        "coverage": found.coverage,
        "longest_gap_s": found.longest_gap_s,
        **{f"u_{name}": value for name, value in terms.items()},
    }
    largest = max(terms.values())
    named = sorted((n for n, v in terms.items() if v > _WORTH_NAMING * largest), key=lambda n: -terms[n])
    parts = [f"{found.samples} samples inside at {meter.rate_hz:.3g} Hz"]
    if found.coverage < 1:
        parts.append(f"{100 * found.coverage:.0f} % covered")
    if meter.averages:
        parts.append(f"a slow gauge that averages over about {1 / meter.rate_hz:.2g} s")
    if named:
        parts.append(f"± from {', '.join(named)}")
    return Figure(
        value=found.energy_j * factor,
        note=f"{meter.sites}; {', '.join(parts)}",
        source=meter.scope,
        uncertainty=found.uncertainty_j * factor,
        figures=figures,
    )


def _length_s(span: Span) -> float:
    return (span[1] - span[0]) / 1e9
