"""Which runs are meant: the filters that every verb and every query shares."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, not_, or_, select

from melt.errors import UsageError
from melt.plan.expand import PROFILED
from melt.records import Outcome, Verdict
from melt.store.schema import runs, tags

_AGES_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
COMMIT = "commit:"
"""How a tag begins that says which commit was tested."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Runs that meet every condition given; None or empty asks nothing.

    `sweep` and `runs` are full ids: `Store.resolve` finds them. `device` is an id or a name. `quant` "none" means
    models without one. `engine` is a name or a revision, `commit` the beginning of what follows `commit:` in a tag.
    `since_utc_ns` compares with the start. `profiled`: only runs under the profiler, or none of them. `only_valid`:
    what ended well and has no reason against it, of a review neither. `limit` keeps the newest so many.
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
    commit: str | None = None
    os_build: str | None = None
    melt_version: str | None = None
    plan: str | None = None
    since_utc_ns: int | None = None
    cell_key: str | None = None
    profiled: bool | None = None
    only_valid: bool = False
    limit: int | None = None


def select_runs(selection: Selection, *columns: Any) -> Select[Any]:
    """Build the query for columns of the selected runs, newest first."""
    query = select(*columns).where(*_conditions(selection))
    query = query.order_by(runs.c.started_utc_ns.desc(), runs.c.position.desc(), runs.c.run_id.desc())
    return query if selection.limit is None else query.limit(selection.limit)


def chosen_ids(selection: Selection) -> Select[Any]:
    """Build the query for the ids of the selected runs, to be used inside another one."""
    query = select_runs(selection, runs.c.run_id)
    # Only with a limit does the order decide which runs are meant; without one it would be work for nothing.
    return query if selection.limit is not None else query.order_by(None)


def begins_with(column: Any, prefix: str) -> ColumnElement[bool]:
    """Compare the beginning of a column, in a way that can use its index."""
    return and_(column >= prefix, column < prefix + "\U0010ffff")


def since_utc_ns(text: str, now_utc_ns: int | None = None) -> int:
    """Read a moment: an age (`90m`, `12h`, `7d`) or a date, with a time if need be, in UTC unless it says otherwise.

    Raises UsageError.
    """
    age = re.fullmatch(r"(\d+)([mhdw])", text)
    if age:
        now = time.time_ns() if now_utc_ns is None else now_utc_ns
        return now - int(age[1]) * _AGES_S[age[2]] * 1_000_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time: give a date (2026-11-03), a time (2026-11-03T18:00) or 12h, 7d"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    table = runs.c
    asked: list[ColumnElement[bool]] = []
    for column, wanted in (
        (table.sweep_id, selection.sweep),
        (table.model, selection.model),
        (table.workload, selection.workload),
        (table.os_build, selection.os_build),
        (table.melt_version, selection.melt_version),
        (table.plan, selection.plan),
        (table.cell_key, selection.cell_key),
        (table.outcome, selection.outcome),
        (table.verdict, selection.verdict),
    ):
        if wanted is not None:
            asked.append(column == wanted)
    if selection.profiled is not None:
        profiled = begins_with(table.cell_key, PROFILED)
        asked.append(profiled if selection.profiled else not_(profiled))
    if selection.only_valid:
        asked += [table.outcome == Outcome.OK.value, table.verdict == Verdict.VALID.value]
    if selection.quant is not None:
        asked.append(table.quant.is_(None) if selection.quant == "none" else table.quant == selection.quant)
    if selection.runs:
        asked.append(table.run_id.in_(selection.runs))
    if selection.device is not None:
        asked.append(or_(table.device_id == selection.device, table.device_name == selection.device))
    if selection.engine is not None:
        asked.append(or_(table.engine == selection.engine, table.engine_revision == selection.engine))
    if selection.tag is not None:
        asked.append(table.run_id.in_(select(tags.c.run_id).where(tags.c.tag == selection.tag)))
    if selection.commit is not None:
        begins = begins_with(tags.c.tag, f"{COMMIT}{selection.commit}")
        asked.append(table.run_id.in_(select(tags.c.run_id).where(begins)))
    if selection.since_utc_ns is not None:
        asked.append(table.started_utc_ns >= selection.since_utc_ns)
    return asked
