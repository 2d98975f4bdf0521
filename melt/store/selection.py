"""Which runs are meant: the filters that every verb and every query shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from melt.store.schema import runs, tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Runs that meet every condition given; None or empty asks nothing.

    `runs` are ids or their beginnings, one of which must match. `device` is an id or a name. `quant` "none" means
    models without one. `since_utc_ns` compares with the start. `limit` keeps the newest so many.
    """

    sweep: str | None = None
    runs: tuple[str, ...] = ()
    device: str | None = None
    model: str | None = None
    quant: str | None = None
    workload: str | None = None
    engine: str | None = None
    outcome: str | None = None
    verdict: str | None = None
    tag: str | None = None
    since_utc_ns: int | None = None
    limit: int | None = None


def select_runs(selection: Selection, *columns: Any) -> Select[Any]:
    """Build the query for columns of the selected runs, newest first."""
    query = select(*columns).where(*_conditions(selection))
    query = query.order_by(runs.c.started_utc_ns.desc(), runs.c.position.desc(), runs.c.run_id.desc())
    return query if selection.limit is None else query.limit(selection.limit)


def begins_with(column: Any, prefix: str) -> ColumnElement[bool]:
    """Compare the beginning of a column, in a way that can use its index."""
    return and_(column >= prefix, column < prefix + "\U0010ffff")


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    table = runs.c
    asked: list[ColumnElement[bool]] = []
    for column, wanted in (
        (table.sweep_id, selection.sweep),
        (table.model, selection.model),
        (table.workload, selection.workload),
        (table.engine, selection.engine),
        (table.outcome, selection.outcome),
        (table.verdict, selection.verdict),
    ):
        if wanted is not None:
            asked.append(column == wanted)
    if selection.quant is not None:
        asked.append(table.quant.is_(None) if selection.quant == "none" else table.quant == selection.quant)
    if selection.runs:
        asked.append(or_(*(begins_with(table.run_id, prefix) for prefix in selection.runs)))
    if selection.device is not None:
        asked.append(or_(table.device_id == selection.device, table.device_name == selection.device))
    if selection.tag is not None:
        asked.append(table.run_id.in_(select(tags.c.run_id).where(tags.c.tag == selection.tag)))
    if selection.since_utc_ns is not None:
        asked.append(table.started_utc_ns >= selection.since_utc_ns)
    return asked
