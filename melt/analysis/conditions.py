"""Checks whether a run was the one that was asked for, and was watched well. Each returns a reason or None."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from melt.analysis.channels import is_renewal
from melt.analysis.evidence import Evidence
from melt.analysis.names import PHASE_OF
from melt.analysis.series import Series, find
from melt.analysis.statistics import variation
from melt.analysis.trend import trend
from melt.records import Reason
from melt.units import counted

DRIFT_P = 0.072
"""How often chance may give such an order, over all rates of a run together. Every third of those changes is too small
to matter: where repetitions vary by 1.5 %, at most 5 % of steady runs are said to drift (docs/metrics.md)."""

LIKENESS = 0.3
"""How much of its luck a repetition is taken to share with the one before: heat and neighbours outlast one."""

_CPU = "CPUExecutionProvider"

_OF_ONNX_RUNTIME = ("graph_optimization", "arena", "io_binding")

Check = Callable[[Evidence], Reason | None]


def wrong_threads(seen: Evidence) -> Reason | None:
    """The engine runs with another number of threads than asked."""
    asked, used = seen.start.spec.settings.threads, seen.used.get("threads")
    if asked is None or not isinstance(used, int) or used == asked:
        return None
    message = f"{asked} threads were asked for, the engine used {used}"
    return Reason(code="wrong_threads", message=message, figures={"asked": asked, "used": used})


def wrong_backend(seen: Evidence) -> Reason | None:
    """Layers run on another processor than asked, or an execution provider that was asked for runs nothing."""
    ran = seen.used.get("nodes_by_provider")
    if isinstance(ran, Mapping):
        return _idle_providers(seen.used.get("providers_asked"), ran)
    asked, used = seen.start.spec.settings.n_gpu_layers, seen.used.get("n_gpu_layers")
    if not isinstance(used, int) or (asked != 0) == (used != 0):
        return None
    where = f"{used} layers ran on {seen.used.get('backend', 'a GPU')}" if used else "all layers ran on the CPU"
    message = f"{asked if asked >= 0 else 'all'} layers were asked to run on a GPU, {where}"
    return Reason(code="wrong_backend", message=message, figures={"asked": asked, "used": used})


def _idle_providers(asked: object, ran: Mapping[str, object]) -> Reason | None:
    """Name the providers that took no node: the engine falls back to the next one without a word."""
    # The CPU is behind all others in any case, for what they leave.
    idle = [name for name in asked if name not in ran and name != _CPU] if isinstance(asked, list) else []
    if not idle:
        return None
    where = ", ".join(f"{nodes} on {name}" for name, nodes in ran.items())
    message = f"{' and '.join(idle)} ran none of the model's nodes, though asked to: they ran {where}"
    return Reason(code="wrong_backend", message=message)


def wrong_settings(seen: Evidence) -> Reason | None:
    """The engine did not take a setting that changes what is computed."""
    settings = seen.start.spec.settings
    asked: Mapping[str, object] = {"cache_type_k": settings.cache_type_k, "cache_type_v": settings.cache_type_v}
    if settings.flash_attn != "auto":
        asked = {**asked, "flash_attn": settings.flash_attn}
    asked = {**asked, **{name: getattr(settings, name) for name in _OF_ONNX_RUNTIME}}
    if settings.inter_op_threads is not None:
        asked = {**asked, "inter_op_threads": settings.inter_op_threads}
    wrong = [
        f"{key} {value}, used {used}"
        for key, value in asked.items()
        if (used := seen.used.get(key)) is not None and used != value
    ]
    return Reason(code="wrong_settings", message=f"asked for {'; '.join(wrong)}") if wrong else None


def affinity_not_applied(seen: Evidence) -> Reason | None:
    """The kernel gave the runner other CPUs than asked."""
    data = next((e.data for e in seen.events if e.name == "runner_started"), {})
    asked, got = data.get("affinity_asked"), data.get("affinity")
    if not isinstance(asked, str) or not asked:
        return None
    if not isinstance(got, str):
        message = f"CPUs {asked} were asked for; the system does not say which the runner got (macOS has no affinity)"
        return Reason(code="affinity_not_applied", message=message)
    if cpus(asked) == cpus(got):
        return None
    return Reason(code="affinity_not_applied", message=f"CPUs {asked} were asked for, the runner got {got}")


def cpus(text: str) -> frozenset[int]:
    """Read a CPU list as the kernel writes it: `0-3,6`. What is no number is passed over."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def cache_not_cold(seen: Evidence) -> Reason | None:
    """The load was to find nothing of the file in memory, and did."""
    cache = seen.used.get("page_cache")
    share = cache.get("resident_before") if isinstance(cache, Mapping) else None
    if seen.start.spec.settings.page_cache != "cold":
        return None
    if not isinstance(share, (int, float)):
        return Reason(code="cache_not_cold", message="a cold load was asked for; how cold it was is not known")
    if share <= seen.thresholds.cold_resident_ratio:
        return None
    message = f"a cold load was asked for, {100 * share:.0f} % of the file was still in memory"
    return Reason(code="cache_not_cold", message=message, figures={"resident_before": float(share)})


def too_few_repetitions(seen: Evidence) -> Reason | None:
    """There are not enough repetitions to notice a disturbed one. One that lasts repeats its request within itself."""
    n, least = len(seen.repetitions), seen.thresholds.repetitions_min
    requests = sum(len(r.generations) + sum(len(one.t1_ns) for one in r.inferences) for r in seen.repetitions)
    if n >= least or (seen.start.spec.workload.duration_s is not None and requests >= least):
        return None
    message = f"{counted(n, 'measured repetition')}: under {least}, a disturbed one goes unnoticed"
    return Reason(code="too_few_repetitions", message=message, figures={"repetitions": n})


def unstable(seen: Evidence) -> Reason | None:
    """The repetitions differ more than those of a quiet machine."""
    most = seen.thresholds.unstable_cv
    found = {name: cv for name, values in seen.rates.items() if (cv := variation(values)) is not None}
    worst = max(found, key=lambda name: found[name], default=None)
    if worst is None or found[worst] <= most:
        return None
    phase = PHASE_OF[worst]
    message = f"the repetitions' {phase} rates vary by {100 * found[worst]:.1f} % (CV), over {100 * most:.3g} %"
    return Reason(code="unstable", message=message, figures={"cv": found[worst]})


def drift(seen: Evidence) -> Reason | None:
    """The repetitions became steadily slower or faster: their median is that of no state the device stays in.

    Of fewer than five no order is unlikely enough: five fall, or rise, all the way in one of 33 cases by chance.
    """
    found: dict[str, tuple[float, float]] = {}
    for name, values in seen.rates.items():
        change = trend([math.log(value) for value in values if value > 0], LIKENESS)
        if change is not None and change.p <= DRIFT_P / len(seen.rates):
            found[name] = (math.expm1(change.slope * (len(values) - 1)), change.p)
    worst = max(found, key=lambda name: abs(found[name][0]), default=None)
    if worst is None or abs(found[worst][0]) < seen.thresholds.drift_ratio:
        return None
    share, p = found[worst]
    phase, way = PHASE_OF[worst], "fell" if share < 0 else "rose"
    message = f"the {phase} rate {way} by {100 * abs(share):.1f} % from the first to the last repetition (p = {p:.2g})"
    return Reason(code="drift", message=message, figures={"change": share, "p": p})


def missed_ticks(seen: Evidence) -> Reason | None:
    """The agent could not keep its rate."""
    share = seen.overhead.missed_share
    if share is None or share <= seen.thresholds.missed_ticks_ratio:
        return None
    message = f"the agent missed {100 * share:.1f} % of its ticks"
    figures = {"missed": float(seen.overhead.missed or 0), "ratio": share}
    return Reason(code="missed_ticks", message=message, figures=figures)


def sampling_gap(seen: Evidence) -> Reason | None:
    """A channel was silent for many periods inside the measured span."""
    span = seen.span
    if span is None:
        return None
    periods = seen.thresholds.gap_periods
    worst: tuple[float, Series] | None = None
    for series in find(seen.traces, lambda stream: stream.rate_hz > 0 and not is_renewal(stream)):
        gap_ns = series.longest_gap_ns(span)
        if gap_ns is not None and gap_ns > series.periods_ns(periods) and (worst is None or gap_ns / 1e9 > worst[0]):
            worst = (gap_ns / 1e9, series)
    if worst is None:
        return None
    gap_s, series = worst
    stream = series.stream
    message = f"nothing was read of {stream.collector}/{stream.name} for {gap_s:.2f} s, at {stream.rate_hz:g} Hz"
    return Reason(code="sampling_gap", message=message, figures={"gap_s": gap_s, "rate_hz": stream.rate_hz})


def journal_full(seen: Evidence) -> Reason | None:
    """The device's disk filled up: the runner went on, but nothing watched it any more."""
    full = next((e for e in seen.events if e.name == "journal_full"), None)
    if full is None:
        return None
    unseen_s = max(0.0, (seen.span[1] - max(full.t_ns, seen.span[0])) / 1e9) if seen.span else 0.0
    message = f"the device's disk was full: the last {unseen_s:.1f} s of what was measured were not sampled"
    return Reason(code="journal_full", message=message, figures={"unsampled_s": unseen_s})


def clock_uncertain(seen: Evidence) -> Reason | None:
    """The device's clock is not known well enough on the host: the link was slow when they were compared."""
    uncertainty_ns, most_s = seen.start.clock_uncertainty_ns, seen.thresholds.clock_uncertainty_s
    if uncertainty_ns is None or uncertainty_ns / 1e9 <= most_s:
        return None
    message = (
        f"the device's clock is known to ±{uncertainty_ns / 1e6:.0f} ms on this computer, over "
        f"{1e3 * most_s:.3g} ms: the link was slow"
    )
    return Reason(code="clock_uncertain", message=message, figures={"uncertainty_s": uncertainty_ns / 1e9})


def journal_torn(seen: Evidence) -> Reason | None:
    """The end of the journal is missing."""
    return Reason(code="journal_torn", message="the end of the journal is missing or damaged") if seen.torn else None


CHECKS: tuple[Check, ...] = (
    wrong_backend,
    wrong_threads,
    wrong_settings,
    affinity_not_applied,
    cache_not_cold,
    too_few_repetitions,
    unstable,
    drift,
    missed_ticks,
    sampling_gap,
    journal_full,
    clock_uncertain,
    journal_torn,
)
