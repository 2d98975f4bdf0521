"""Runs side by side. The session is the unit: a column holds the median of session medians, and says of how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from melt.analysis import alike, derived, efficiency, latency
from melt.analysis.columns import NO_RATIO, RECKONED, Columns, DocumentFigures, Sessions, info, is_exact
from melt.analysis.heat import ONLY_WHERE_TOLD
from melt.analysis.judgement import Judgement, judge_difference
from melt.analysis.names import Info
from melt.analysis.order_effect import OrderEffect, order_effects, order_notes
from melt.analysis.remarks import doubts, judged_by, without
from melt.analysis.sessions import by_session, closeness, is_believed, outcome_of, verdict_of
from melt.analysis.statistics import Summary, detectable_effect, median_of, summarize
from melt.records import Outcome, RunStart, Verdict
from melt.traces import Figures, RunBundle

DEFAULT = (
    "prefill_tps",
    "decode_tps",
    "burst_tps",
    "steady_tps",
    "steady_ratio",
    "time_to_throttle_s",
    "ttft_s",
    "tpot_s",
    "itl_p95_s",
    "first_inference_s",
    "inference_p50_s",
    "inference_p90_s",
    "inference_p99_s",
    "inferences_per_s",
    "items_per_s",
    "load_s",
    "peak_rss_bytes",
    "file_bytes",
    "bits_per_weight",
    "mbu_ratio",
    "mfu_prefill_ratio",
    "temperature_max_c",
    "temperature_rise_c",
    "recovery_s",
    "power_mean_w",
    "energy_per_token_j",
    "energy_per_inference_j",
    "energy_response_j",
    "charge_response_coulomb",
    "responses_per_battery",
    "energy_delay_js",
    "carbon_response_g",
)
T = TypeVar("T")

_WHERE_TOLD = frozenset((*derived.NAMES, *efficiency.NAMES, "items_per_s")) | ONLY_WHERE_TOLD
"""Rows that nobody misses where no run has them: they are of some devices and of some workloads."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one column. `difference` is relative to the group's base column: 0.05 is 5 % more.

    `detectable` is the smallest relative difference that these sessions would show; None where it cannot be estimated.
    `uncertainty`, in the unit of the row, is what the meter of a session may be off by, the median over sessions.
    """

    summary: Summary | None
    difference: float | None = None
    judgement: Judgement | None = None
    detectable: float | None = None
    uncertainty: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One metric over the columns."""

    metric: str
    info: Info
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that is compared. `outcomes` and `verdicts` count its sessions; verdicts those of ok runs only.

    `start` is that of its first run.
    """

    label: str
    start: RunStart
    run_ids: tuple[str, ...]
    outcomes: Mapping[Outcome, int]
    verdicts: Mapping[Verdict, int]

    @property
    def n_ok(self) -> int:
        """How many sessions ended well."""
        return self.outcomes.get(Outcome.OK, 0)

    @property
    def n_believed(self) -> int:
        """How many sessions have figures: of an invalid one none are shown."""
        return self.n_ok - self.verdicts.get(Verdict.INVALID, 0)


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that agree in everything asked for but the columns. `label` is the workload and what else sets it apart.

    `start` is that of the first run, `revision` its engine's, `base` the index of the column that the others are
    compared with: the first that has figures.
    """

    label: str
    start: RunStart
    revision: str | None
    base: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything a report shows. `unmeasured` maps a metric that no run has to the reason; `notes` are sentences.

    `order_effects` are those of all runs, reference runs too; `notes` tell them in words.
    """

    by: str
    groups: tuple[Group, ...]
    unmeasured: Mapping[str, str]
    notes: tuple[str, ...]
    order_effects: tuple[OrderEffect, ...] = ()


def compare(
    bundles: Sequence[RunBundle],
    by: str = "quant",
    metrics: Sequence[str] = DEFAULT,
    figures: Figures | None = None,
) -> Comparison:
    """Set runs side by side, a column for each value of `by`, in the order of the plan; later sweeps come after.

    Runs that differ in something else that was asked for (workload, threads, ...) form groups of their own. `figures`
    None: those in the runs' documents.
    Raises UsageError for an unknown `by`, IncomparableError when conditions differ that were not asked for.
    """
    alike.check_by(by)
    # Reference runs are no sessions: their cell would have three more than the others, and at chosen times.
    sessions = [bundle for bundle in bundles if not bundle.start.spec.reference]
    ordered = _as_planned(sessions or bundles)
    members = alike.grouped(ordered, by)
    alike.check_alike(members, by)
    labels = alike.group_labels([columns[0][0].start for columns in members], by)
    figures = figures or DocumentFigures(bundles)
    own = Columns(ordered, figures)
    groups = [_group(label, columns, by, metrics, own) for label, columns in zip(labels, members, strict=True)]
    shown = {row.metric for group in groups for row in group.rows}
    missed_by_nobody = _WHERE_TOLD | latency.not_of(bundle.start.spec.workload for bundle in ordered)
    effects = order_effects(bundles, figures)
    return Comparison(
        by=by,
        groups=tuple(groups),
        unmeasured={name: own.why(name) for name in metrics if name not in shown and name not in missed_by_nobody},
        notes=(
            *_unlike_meters(ordered, metrics, by, own),
            *order_notes(bundles, effects, figures),
            *_closeness(groups, ordered),
            *judged_by(ordered),
            *doubts(without(effects, ordered), lambda bundle: alike.column_label(bundle, by)),
        ),
        order_effects=effects,
    )


def _as_planned(bundles: Iterable[RunBundle]) -> list[RunBundle]:
    """Sort runs by sweep, then by cell as the plan has them: the order in which they were run may be random."""
    ordered = sorted(bundles, key=lambda b: (b.start.started_utc_ns, b.start.spec.position))
    sweeps = {sweep_id: i for i, sweep_id in enumerate(dict.fromkeys(b.start.spec.sweep_id for b in ordered))}

    def place(bundle: RunBundle) -> tuple[int, int]:
        spec = bundle.start.spec
        return sweeps[spec.sweep_id], spec.position if spec.cell is None else spec.cell

    return sorted(ordered, key=place)


def _group(
    label: str, columns: Sequence[Sequence[RunBundle]], by: str, metrics: Sequence[str], figures: Columns
) -> Group:
    base = next((i for i, runs in enumerate(columns) if any(map(is_believed, runs))), 0)
    sessions = [by_session(runs) for runs in columns]
    own = [figures.sessions(runs) for runs in columns]
    rows = (Row(name, info(name), _cells(name, own, base, figures)) for name in metrics if figures.is_measured(name))
    bundles = [bundle for runs in columns for bundle in runs]
    return Group(
        label=label,
        start=columns[0][0].start,
        revision=next((str(r) for b in bundles if (r := b.stop.used.get("engine_revision"))), None),
        base=base,
        columns=tuple(_column(runs, own, by) for runs, own in zip(columns, sessions, strict=True)),
        rows=tuple(row for row in rows if any(cell.summary for cell in row.cells)),
    )


def _column(bundles: Sequence[RunBundle], sessions: Sequence[Sequence[RunBundle]], by: str) -> Column:
    return Column(
        label=alike.column_label(bundles[0], by),
        start=bundles[0].start,
        run_ids=tuple(b.start.spec.run_id for b in bundles),
        outcomes=Counter(outcome_of(runs) for runs in sessions),
        verdicts=Counter(verdict for runs in sessions if (verdict := verdict_of(runs)) is not None),
    )


def _cells(metric: str, columns: Sequence[Sessions], base: int, figures: Columns) -> tuple[Cell, ...]:
    scopes = [_those_of(figures.scopes(metric), column) for column in columns]
    # The median of a board's watts and of its chip's would be those of neither.
    sessions = [
        figures.values(metric, column) if len(set(scope)) < 2 else []
        for column, scope in zip(columns, scopes, strict=True)
    ]
    summaries = [summarize(values) for values in sessions]
    first = summaries[base]

    def cell(i: int) -> Cell:
        own = summaries[i]
        if own is None:
            return Cell(None)
        bare = Cell(own, uncertainty=median_of(_those_of(figures.uncertainties(metric), columns[i])))
        comparable = set(scopes[i]) == set(scopes[base]) and info(metric).unit not in NO_RATIO
        if i == base or not comparable or first is None or first.median <= 0:
            return bare
        difference = own.median / first.median - 1
        if is_exact(metric):
            return Cell(own, difference)
        judgement = judge_difference(sessions[base], sessions[i])
        return Cell(own, difference, judgement, detectable_effect(first, own), bare.uncertainty)

    return tuple(map(cell, range(len(columns))))


def _those_of(figures: Mapping[str, T], sessions: Sessions) -> list[T]:
    """Return what a metric has for the runs of a column."""
    return [figures[run_id] for run_id in sessions.ids if run_id in figures] if figures else []


def _unlike_meters(bundles: Sequence[RunBundle], metrics: Sequence[str], by: str, figures: Columns) -> list[str]:
    """Say which columns measured power over different scopes, or reckon with unlike capacities or grids."""
    told: dict[str, str] = {}
    for metric in metrics:
        scopes = figures.scopes(metric)
        covers: dict[str, dict[str, None]] = {}
        for bundle in bundles if scopes else ():
            if (scope := scopes.get(bundle.start.spec.run_id)) is not None:
                covers.setdefault(scope, {})[alike.column_label(bundle, by)] = None
        if len(covers) > 1:
            listed = "; ".join(f"{scope} ({', '.join(labels)})" for scope, labels in covers.items())
            told.setdefault(listed, RECKONED.get(info(metric).unit, "Power was measured over different scopes"))
    return [
        f"{why}, so no difference is shown between them, nor a figure over several: {listed}."
        for listed, why in told.items()
    ]


def _closeness(groups: Iterable[Group], bundles: Iterable[RunBundle]) -> tuple[str, ...]:
    """Say what sessions share that followed each other, where there are several in a column."""
    several = any(sum(column.outcomes.values()) > 1 for group in groups for column in group.columns)
    said = closeness(bundles) if several else None
    return () if said is None else (said,)
