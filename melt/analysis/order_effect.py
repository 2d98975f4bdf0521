"""Whether it mattered when in a sweep a cell was run: heat that stays, a battery that drains, neighbours that wake."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from melt.analysis.columns import DocumentFigures
from melt.analysis.latency import RATE
from melt.analysis.names import METRICS, PHASE_OF
from melt.analysis.sessions import is_believed
from melt.analysis.trend import MIN_BLOCKS, Point, block_trend
from melt.plan.expand import Cell, cell_of
from melt.records import Reason, RunSpec
from melt.traces import Figures, RunBundle

ORDER_P = 0.05
"""How often a chance order may be taken for an effect of it, over all devices and sweeps of a comparison together."""

ORDER_SHARE = 0.01
"""What changes a rate by less than this from the first run to the last, no session median shows."""

CODE = "order_effect"
"""Code of the reason for which a run is suspect, found when its sweep was over."""

_IN_BLOCKS = ("random", "interleaved")
_MOST = math.log(1000)


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """What became of a device over a sweep. `change` is relative, from its first run to its last; `p` is of its trend.

    `device` is the device's name, `order` that of the plan, `n_runs` how many runs tell of it. `alike`: all cells had
    as many sessions, as they have not where each has as many as its precision takes.
    """

    sweep_id: str
    device: str
    order: str | None
    change: float
    p: float
    n_runs: int
    alike: bool = True

    @property
    def favours_none(self) -> bool:
        """Whether its cells stood side by side all through it: in blocks that held each of them."""
        return self.order in _IN_BLOCKS and self.alike


def main_rate(spec: RunSpec) -> str:
    """Return the metric that a cell is run for: inferences of a single-shot model; decode where it decodes; prefill."""
    workload = spec.workload
    if workload.kind == "inference":
        return RATE
    # The first token of an answer comes out of the prefill: one alone has no rate.
    n_free = 1 if workload.n_prompt or workload.prompts else 0
    return "decode_tps" if workload.n_gen > n_free else "prefill_tps"


def session_rate(bundle: RunBundle) -> float | None:
    """Return a run's main rate, in tokens or inferences a second; None where it has none or is not to be believed."""
    return _rates([bundle]).get(bundle.start.spec.run_id)


def order_effects(bundles: Collection[RunBundle], figures: Figures | None = None) -> tuple[OrderEffect, ...]:
    """Return the effects that chance does not explain; none of a sweep with fewer than five blocks.

    Each rate is compared with those of its own cell on that device only: cells that are slower are no trend, wherever
    they stand. Changes are ratios (differences of logarithms), so that fast cells count no more than slow ones.
    Reference runs count as a cell of their own. `figures` None: those in the runs' documents.
    """
    return tuple(effect for _, effect in _found(bundles, _rates(bundles, figures)))


def order_doubts(bundles: Collection[RunBundle]) -> dict[str, Reason]:
    """Return the runs that an order effect makes suspect, by id, with the reason.

    In blocks that hold every cell none is favoured, and what the effect does to sessions is in their spread: it is a
    doubt from the threshold on only. In any other order it is part of the differences between cells, however small.
    """
    doubts: dict[str, Reason] = {}
    for part, effect in _found(bundles, _rates(bundles)):
        least = part[0].start.spec.thresholds.order_effect_ratio
        if effect.favours_none and abs(effect.change) < least:
            continue
        meaning = (
            "no cell is favoured, but a rate tells more of when its session was made than chance does"
            if effect.favours_none
            else "part of the differences between cells is this"
        )
        reason = Reason(
            code=CODE,
            message=f"{_told(effect)}: {meaning}",
            figures={"change": effect.change, "p": effect.p, "runs": float(effect.n_runs)},
        )
        doubts |= {bundle.start.spec.run_id: reason for bundle in part}
    return doubts


def order_notes(
    bundles: Sequence[RunBundle], effects: Sequence[OrderEffect], figures: Figures | None = None
) -> tuple[str, ...]:
    """Return what a reader must know of the order: a sentence for each effect, and what the reference cells said."""
    many = len({bundle.start.spec.sweep_id for bundle in bundles}) > 1
    said = [_sentence(effect, many) for effect in effects]
    if not any(bundle.start.spec.reference for bundle in bundles):
        return tuple(said)
    rates = _rates(bundles, figures)
    return (*said, *(note for part in _parts(bundles, rates) if (note := _reference(part, rates, many))))


def _rates(bundles: Collection[RunBundle], figures: Figures | None = None) -> dict[str, float]:
    """Return the main rates, in tokens a second, of the runs that have one and are to be believed, by run id."""
    columns = figures or DocumentFigures(bundles)
    named: dict[str, Mapping[str, float]] = {}
    found = {}
    for bundle in filter(is_believed, bundles):
        spec = bundle.start.spec
        name = main_rate(spec)
        if name not in named:
            named[name] = columns.values(name)
        rate = named[name].get(spec.run_id)
        if rate is not None and rate > 0:
            found[spec.run_id] = rate
    return found


def _found(bundles: Iterable[RunBundle], rates: Mapping[str, float]) -> list[tuple[list[RunBundle], OrderEffect]]:
    """Return the runs of a device in a sweep with what became of it, where chance does not explain that."""
    tested = [(part, effect) for part in _parts(bundles, rates) if (effect := _effect(part, rates)) is not None]
    return [(p, e) for p, e in tested if e.p <= ORDER_P / len(tested) and abs(e.change) >= ORDER_SHARE]


def _parts(bundles: Iterable[RunBundle], rates: Mapping[str, float]) -> list[list[RunBundle]]:
    """Return the runs that have a rate, by sweep and device, as they were run."""
    parts: dict[tuple[str, str], list[RunBundle]] = {}
    for bundle in sorted(bundles, key=lambda b: b.start.started_utc_ns):
        if bundle.start.spec.run_id in rates:
            parts.setdefault((bundle.start.spec.sweep_id, bundle.start.device.device_id), []).append(bundle)
    return list(parts.values())


def _effect(part: Sequence[RunBundle], rates: Mapping[str, float]) -> OrderEffect | None:
    if len({bundle.start.spec.block for bundle in part}) < MIN_BLOCKS:
        return None
    first_ns = part[0].start.started_utc_ns
    cells: dict[tuple[Cell, bool], dict[int, Point]] = {}
    for bundle in part:
        after_s = (bundle.start.started_utc_ns - first_ns) / 1e9
        spec = bundle.start.spec
        cells.setdefault((cell_of(spec), spec.reference), {})[spec.block] = (after_s, math.log(rates[spec.run_id]))
    found = block_trend(list(cells.values()))
    if found is None:
        return None
    start = part[0].start
    n_sessions = {len(points) for (_, is_reference), points in cells.items() if not is_reference}
    return OrderEffect(
        sweep_id=start.spec.sweep_id,
        device=start.device.name,
        order=start.spec.order,
        # Where the host's clock jumped a slope may be anything.
        change=math.expm1(min(_MOST, found.slope * (part[-1].start.started_utc_ns - first_ns) / 1e9)),
        p=found.p,
        n_runs=len(part),
        alike=start.spec.repeat.until_ci is None or len(n_sessions) < 2,
    )


def _meaning(effect: OrderEffect) -> str:
    if effect.favours_none:
        return "; every block had all cells, so none is favoured, but their sessions differ by it"
    if effect.order == "sequential":
        return "; the order was sequential, so part of the differences between cells is this"
    unlike = "; some cells had more sessions than others, so part of the differences between them is this"
    return "" if effect.alike else unlike


def _sentence(effect: OrderEffect, many: bool) -> str:
    where = f"{effect.device}{_in_sweep(effect.sweep_id, many)}"
    return f"Order effect on {where}: {_told(effect)}{_meaning(effect)}."


def _told(effect: OrderEffect) -> str:
    way = "fell" if effect.change < 0 else "rose"
    return (
        f"rates {way} by {100 * abs(effect.change):.1f} % from the first run to the last "
        f"(p = {effect.p:.2g}, {effect.n_runs} runs)"
    )


def _reference(part: Sequence[RunBundle], rates_of: Mapping[str, float], many: bool) -> str | None:
    """Tell the rates of the reference runs on a device, in their order; they stand in no column."""
    runs = [bundle for bundle in part if bundle.start.spec.reference]
    rates = [rates_of[bundle.start.spec.run_id] for bundle in runs]
    if not runs or len(runs) == len(part):
        return None
    spec, device = runs[0].start.spec, runs[0].start.device.name
    change = "" if len(rates) < 2 else f", {100 * (rates[-1] / rates[0] - 1):+.1f} % from the first to the last"
    listed = ", ".join(f"{rate:.4g}" for rate in rates)
    wanted = main_rate(spec)
    phase, unit = PHASE_OF[wanted], METRICS[wanted].unit
    return (
        f"Reference runs on {device}{_in_sweep(spec.sweep_id, many)} ({spec.label}): {phase} {listed} {unit}{change}."
    )


def _in_sweep(sweep_id: str, many: bool) -> str:
    return f" in sweep {sweep_id}" if many else ""
