"""The summary of a page: a line for each device, model, workload and quantization level, with its verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from melt.analysis.alike import IncomparableError, group_labels
from melt.analysis.compare import Cell, Column, Comparison, Group, Row, compare
from melt.analysis.history import series_id
from melt.analysis.judgement import Judgement
from melt.records import Outcome, Verdict
from melt.report.page.parts import NOT_MEASURED, Figure
from melt.report.run import title_of
from melt.report.scale import Scale, percent, scale_for
from melt.traces import RunBundle
from melt.units import counted, human

_BY = "quant"
_HEADLINES = (
    "decode_tps",
    "prefill_tps",
    "inferences_per_s",
    "inference_p50_s",
    "ttft_s",
    "steady_tps",
    "peak_rss_bytes",
    "energy_per_token_j",
    "temperature_max_c",
)
"""Figures that have a column of their own where anything measured them; a line, opened, has all."""
RATES = ("decode_tps", "prefill_tps", "inferences_per_s")
"""Whose difference stands in a line, and what is drawn of one: the first of these that its workload has."""
_MOST_HEADLINES = 7
_SHORT = {Judgement.TOO_FEW: "too few sessions", Judgement.NO_DIFFERENCE: "no difference seen"}
"""What is said of a difference where there is little room."""


@dataclass(frozen=True, slots=True)
class Line:
    """One column of one comparison. `state` is the worst of its sessions, `standing` says of how many.

    `figures` belong to the headlines of the summary, `all_figures` are rows of title, median, spread, difference and
    what is said of it. `base`: the others of its group are compared with it.
    """

    device: str
    model: str
    quant: str
    workload: str
    figures: tuple[Figure, ...]
    difference: Figure
    judgement: str
    state: str
    standing: str
    sessions: int
    base: bool
    series_id: str
    run_ids: tuple[str, ...]
    all_figures: tuple[tuple[str, str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """`headlines` are title and unit of the figures of each line; `notes` are sentences, each told once.

    `scales` are those of the headlines by metric: whatever else is written of these has the same unit and digits.
    """

    headlines: tuple[tuple[str, str], ...]
    scales: Mapping[str, Scale]
    judged: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def summarize_runs(bundles: Sequence[RunBundle]) -> Summary:
    """Compare the runs by their level: all at once where they are alike, else sweep by sweep."""
    comparisons, refused = _comparisons(bundles)
    groups = [group for comparison in comparisons for group in comparison.groups]
    titled = dict(_scales(groups))
    scales = {name: scale for name, (_, scale) in titled.items()}
    judged = [name for name in RATES if name in scales]
    notes = [note for comparison in comparisons for note in (*_unmeasured(comparison), *comparison.notes)]
    return Summary(
        headlines=tuple((title, scale.symbol) for title, scale in titled.values()),
        scales=scales,
        judged=", or else ".join(titled[name][0] for name in judged),
        lines=tuple(_lines(groups, scales)),
        notes=tuple(dict.fromkeys((*refused, *notes))),
    )


def _comparisons(bundles: Sequence[RunBundle]) -> tuple[list[Comparison], list[str]]:
    """Return what can be set side by side, newest first, and a sentence for each thing that stood in the way."""
    if not bundles:
        return [], []
    try:
        return [compare(bundles, _BY)], []
    except IncomparableError as error:
        whole = f"Not all of these runs are alike, so they are compared sweep by sweep: {_inner(error)}."
    sweeps: dict[str, list[RunBundle]] = {}
    for bundle in bundles:
        sweeps.setdefault(bundle.start.spec.sweep_id, []).append(bundle)
    found, refused = [], [whole] * (len(sweeps) > 1)
    for sweep_id, members in reversed(sweeps.items()):
        try:
            found.append(compare(members, _BY))
        except IncomparableError as error:
            refused.append(f"Sweep {sweep_id} has no line in the summary: {_inner(error)}.")
    return found, refused


def _inner(error: IncomparableError) -> str:
    """Return what differs, without the advice for a command line."""
    return str(error).partition(": ")[2].rpartition(";")[0] or str(error)


def _unmeasured(comparison: Comparison) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name, why in comparison.unmeasured.items():
        reasons.setdefault(why, []).append(name)

    for why, names in reasons.items():
        yield f"Not measured: {', '.join(title_of(name) for name in names)} ({why})."


def _scales(groups: Iterable[Group]) -> Iterator[tuple[str, tuple[str, Scale]]]:
    """Yield the headlines that were measured, with title and scale, one for all lines."""
    rows: dict[str, list[Row]] = {}
    for group in groups:
        for row in group.rows:
            rows.setdefault(row.metric, []).append(row)
    for name in [name for name in _HEADLINES if name in rows][:_MOST_HEADLINES]:
        info = rows[name][0].info
        medians = (cell.summary.median for row in rows[name] for cell in row.cells if cell.summary)
        yield name, (info.title, scale_for(medians, info.unit))


def _lines(groups: Sequence[Group], scales: Mapping[str, Scale]) -> Iterator[Line]:
    def whose(group: Group) -> tuple[str, str]:
        return group.start.device.device_id, group.start.spec.model

    for _, found in groupby(groups, whose):
        members = list(found)
        labels = group_labels([group.start for group in members], _BY)
        for group, label in zip(members, labels, strict=True):
            for index, column in enumerate(group.columns):
                yield _line(group, label, index, column, scales)


def _line(group: Group, label: str, index: int, column: Column, scales: Mapping[str, Scale]) -> Line:
    cells = {row.metric: row.cells[index] for row in group.rows}
    told = next((cells[name] for name in RATES if name in cells), Cell(None))
    total = sum(column.outcomes.values())
    return Line(
        device=column.start.device.name,
        model=column.start.spec.model,
        quant=column.label,
        workload=label or group.start.spec.workload.name,
        figures=tuple(_figure(cells.get(name), scale) for name, scale in scales.items()),
        difference=NOT_MEASURED if told.difference is None else Figure(percent(told.difference), sort=told.difference),
        judgement="" if told.judgement is None else _SHORT.get(told.judgement, str(told.judgement)),
        state=_state(column),
        standing=_standing(column, total),
        sessions=column.n_believed,
        base=len(group.columns) > 1 and index == group.base,
        series_id=series_id(column.start),
        run_ids=column.run_ids,
        all_figures=tuple(_told(row, row.cells[index]) for row in group.rows if row.cells[index].summary),
    )


def _figure(cell: Cell | None, scale: Scale) -> Figure:
    if cell is None or cell.summary is None:
        return NOT_MEASURED
    summary = cell.summary
    half = math.hypot((summary.high - summary.low) / 2, cell.uncertainty or 0.0)
    return Figure(scale.write(summary.median), sort=summary.median, beside=scale.spread(half))


def _told(row: Row, cell: Cell) -> tuple[str, str, str, str, str]:
    summary = cell.summary
    if summary is None:
        return row.info.title, "-", "", "", ""
    unit = row.info.unit
    spread = "" if summary.low == summary.high else f"{human(summary.low, unit)} to {human(summary.high, unit)}"
    difference = "" if cell.difference is None else percent(cell.difference)
    return row.info.title, human(summary.median, unit), spread, difference, _said(cell)


def _said(cell: Cell) -> str:
    if cell.judgement is None:
        return ""
    seen = "" if cell.detectable is None else f"; {percent(cell.detectable)[1:]} would be seen"
    return f"{cell.judgement}{seen if cell.judgement is not Judgement.HIGHER else ''}"


def _state(column: Column) -> str:
    """Return what a reader must know first: how sessions without any figure ended, else the worst verdict."""
    if not column.n_ok:
        bad = {outcome: n for outcome, n in column.outcomes.items() if outcome is not Outcome.OK}
        return str(max(bad, key=lambda outcome: bad[outcome])) if bad else "-"
    for verdict in (Verdict.INVALID, Verdict.SUSPECT):
        if column.verdicts.get(verdict):
            return str(verdict)
    return str(Verdict.VALID)


def _standing(column: Column, total: int) -> str:
    """Say how many sessions that is, where it is not all of them."""
    parts = [f"{column.n_ok} of {counted(total, 'session')} ok"] if 0 < column.n_ok < total else []
    parts += [
        f"{n} of {column.n_ok} {verdict}"
        for verdict, n in column.verdicts.items()
        if verdict is not Verdict.VALID and n < column.n_ok
    ]
    return ", ".join(parts)
