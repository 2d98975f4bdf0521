"""Runs and their figures as plain rows, from the columns alone: no document is parsed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, column, select, table

from melt.store.schema import metrics, reasons, reviews, runs, sessions, tags
from melt.store.selection import Selection, chosen_ids, select_runs

FIGURE_COLUMNS = (
    "run_id",
    "sweep_id",
    "session_id",
    "session",
    "apart",
    "cell_key",
    "block",
    "started_utc_ns",
    "device_id",
    "device_name",
    "os_build",
    "model",
    "quant",
    "bits_per_weight",
    "engine",
    "engine_revision",
    "workload",
    "threads",
    "outcome",
    "verdict",
    "position",
    "metric",
    "value",
    "uncertainty",
    "unit",
    "repetition",
    "source",
    "note",
)
"""The columns of the view `figures`."""

_ROWS = 10_000
_RATES = ("prefill_tps", "decode_tps", "inferences_per_s")


@dataclass(frozen=True, slots=True)
class RunLine:
    """What a list says of a run. Rates are per second over the whole run, None: not measured.

    `session` is the session's number on its device in its sweep, `apart` what lies before it; None in old records.
    """

    run_id: str
    sweep_id: str
    session: int | None
    apart: str | None
    cell_key: str
    block: int
    started_utc_ns: int
    device: str
    os_build: str | None
    model: str
    quant: str | None
    bits_per_weight: float | None
    engine: str
    engine_revision: str | None
    workload: str
    threads: int | None
    outcome: str
    verdict: str
    prefill_tps: float | None
    decode_tps: float | None
    inferences_per_s: float | None
    reasons: tuple[str, ...]
    tags: tuple[str, ...]


_LINE = (
    runs.c.run_id,
    runs.c.sweep_id,
    sessions.c.number.label("session"),
    sessions.c.apart,
    runs.c.cell_key,
    runs.c.block,
    runs.c.started_utc_ns,
    runs.c.device_name.label("device"),
    runs.c.os_build,
    runs.c.model,
    runs.c.quant,
    runs.c.bits_per_weight,
    runs.c.engine,
    runs.c.engine_revision,
    runs.c.workload,
    runs.c.threads,
    runs.c.outcome,
    runs.c.verdict,
)
"""What a line takes from its run."""


def list_runs(connection: Connection, selection: Selection) -> list[RunLine]:
    """Return the selected runs, newest first."""
    chosen = chosen_ids(selection)
    table = metrics.c
    measured = (table.name.in_(_RATES), table.repetition.is_(None), table.value.is_not(None))
    figures = select(table.run_id, table.name, table.value).where(table.run_id.in_(chosen), *measured)
    rates = {(run_id, name): value for run_id, name, value in connection.execute(figures).all()}
    codes, names = defaultdict(list), defaultdict(list)
    for told, order in ((reasons, reasons.c.position), (reviews, reviews.c.code)):
        why = select(told.c.run_id, told.c.code).where(told.c.run_id.in_(chosen))
        for run_id, code in connection.execute(why.order_by(told.c.run_id, order)):
            codes[run_id].append(code)
    tagged = select(tags.c.run_id, tags.c.tag).where(tags.c.run_id.in_(chosen))
    for run_id, tag in connection.execute(tagged.order_by(tags.c.tag)):
        names[run_id].append(tag)
    return [
        RunLine(
            **row._mapping,
            prefill_tps=rates.get((row.run_id, "prefill_tps")),
            decode_tps=rates.get((row.run_id, "decode_tps")),
            inferences_per_s=rates.get((row.run_id, "inferences_per_s")),
            reasons=tuple(codes[row.run_id]),
            tags=tuple(names[row.run_id]),
        )
        for row in connection.execute(
            select_runs(selection, *_LINE).join(sessions, sessions.c.session_id == runs.c.session_id)
        )
    ]


def figure_rows(connection: Connection, selection: Selection) -> Iterator[tuple[Any, ...]]:
    """Give every metric of the selected runs, by run in the order of their ids."""
    view = table("figures", *map(column, FIGURE_COLUMNS))
    chosen = view.c.run_id.in_(chosen_ids(selection))
    query = select(view).where(chosen).order_by(view.c.run_id, view.c.position)
    for row in connection.execution_options(yield_per=_ROWS).execute(query):
        yield tuple(row)
