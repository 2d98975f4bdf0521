"""Doubts that were found after a run had been published: kept beside its documents, which never change.

What is in the store of a run is then its own verdict, made no better: whoever reads it gets both in one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from melt import __version__
from melt.codec import loads
from melt.records import Reason, RunStart, RunStop, Thresholds
from melt.store.schema import reviews, runs
from melt.verdicts import decide, worst

_BATCH = 500
"""Runs asked for in one query: databases limit the number of parameters."""


def reviewed(stop: RunStop, found: Iterable[Reason], thresholds: Thresholds) -> RunStop:
    """Return the end of a run with what reviews found since; `thresholds` are those that it is judged by."""
    doubts = tuple(found)
    # No review looks at energy: whether a run needs any was decided when it ended.
    verdict = worst((stop.verdict, decide(doubts, thresholds, energy_required=False)))
    return replace(stop, verdict=verdict, reasons=(*stop.reasons, *doubts)) if doubts else stop


def reviews_of(connection: Connection, ids: Collection[str]) -> dict[str, list[Reason]]:
    """Return what reviews say of runs, by run; those of which they say nothing are left out."""
    found: dict[str, list[Reason]] = {}
    for row in _rows(connection, ids):
        reason = Reason(code=row.code, message=row.message, figures=json.loads(row.figures_json))
        found.setdefault(row.run_id, []).append(reason)
    return found


def replace_reviews(connection: Connection, code: str, ids: Collection[str], reasons: Mapping[str, Reason]) -> None:
    """Make `reasons`, by run, all that reviews of this code say of these runs; others of them have no such doubt."""
    before = {row.run_id for row in _rows(connection, ids) if row.code == code}
    stamp = {"made_utc_ns": time.time_ns(), "melt_version": __version__}
    for batch in _batches(before):
        connection.execute(delete(reviews).where(reviews.c.code == code, reviews.c.run_id.in_(batch)))
    rows = [{"run_id": run_id, **row_of(reason), **stamp} for run_id, reason in reasons.items()]
    if rows:
        connection.execute(insert(reviews), rows)
    for batch in _batches(before | set(reasons)):
        _set_verdicts(connection, batch)


def row_of(reason: Reason) -> dict[str, Any]:
    """Return the columns that a reason has wherever it is kept."""
    figures = json.dumps(reason.figures, sort_keys=True)
    return {"code": reason.code, "message": reason.message, "figures_json": figures}


def _set_verdicts(connection: Connection, ids: Collection[str]) -> None:
    """Let the column say what the documents and the reviews come to."""
    doubts = reviews_of(connection, ids)
    query = select(runs.c.run_id, runs.c.start_json, runs.c.stop_json).where(runs.c.run_id.in_(ids))
    for row in connection.execute(query).all():
        thresholds = loads(RunStart, row.start_json).spec.thresholds
        verdict = reviewed(loads(RunStop, row.stop_json), doubts.get(row.run_id, ()), thresholds).verdict
        connection.execute(update(runs).where(runs.c.run_id == row.run_id), {"verdict": verdict.value})


def _rows(connection: Connection, ids: Collection[str]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for batch in _batches(ids):
        query = select(reviews).where(reviews.c.run_id.in_(batch))
        found += connection.execute(query.order_by(reviews.c.run_id, reviews.c.code))
    return found


def _batches(ids: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(ids)
    return (ordered[begin : begin + _BATCH] for begin in range(0, len(ordered), _BATCH))
