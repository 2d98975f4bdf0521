"""Runs by columns, for who compares thousands: no document of a single run is parsed.

What runs share comes from their setups, what is their own from the columns, and figures a metric at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cached_property
from itertools import islice
from typing import Any

from sqlalchemy import Column, Connection, Select, func, select

from melt.records import Apart, Metric, Outcome, Reason, RunSpec, RunStart, RunStop, Session, Verdict
from melt.store.database import Database
from melt.store.schema import metrics, reasons, reviews, runs, sessions
from melt.store.selection import Selection, chosen_ids, select_runs
from melt.store.setups import Setup, setups_of
from melt.traces import RunBundle

_BATCH = 500
"""Runs asked for in one query: databases limit the number of parameters."""

_COLUMNS = (
    *(runs.c.run_id, runs.c.sweep_id, runs.c.block, runs.c.position, runs.c.started_utc_ns, runs.c.ended_utc_ns),
    *(runs.c.outcome, runs.c.verdict, runs.c.setup_sha256, runs.c.session_id),
)
_SESSION = tuple(field.name for field in fields(Session))
_OUTCOMES = {one.value: one for one in Outcome}
_VERDICTS = {one.value: one for one in Verdict}


def briefs(connection: Connection, selection: Selection) -> list[RunBundle]:
    """Return the selected runs in brief, in the order they were made, as `Store.briefs` says. Raises StoreError."""
    rows = connection.execute(select_runs(selection, *_COLUMNS)).all()[::-1]
    setups = {key: _Shared(one) for key, one in setups_of(connection, {row.setup_sha256 for row in rows}).items()}
    found = _sessions(connection, selection)
    why = _reasons(connection, selection)
    # Unpacked at once: there may be ten thousand, and a row's attributes are looked up by name each time.
    return [
        setups[setup].brief(
            run_id, sweep_id, block, position, started, ended, outcome, verdict, why[run_id], found[own]
        )
        for run_id, sweep_id, block, position, started, ended, outcome, verdict, setup, own in map(tuple, rows)
    ]


class StoredFigures:
    """Figures of whole runs as the store's own columns have them. Raises StoreError."""

    def __init__(self, database: Database, selection: Selection, n_runs: int) -> None:
        self._database = database
        self._chosen = metrics.c.run_id.in_(chosen_ids(selection))
        self._n_runs = n_runs

    def values(self, name: str) -> dict[str, float]:
        """Return what was measured."""
        return self._column(name, metrics.c.value)

    def uncertainties(self, name: str) -> dict[str, float]:
        """Return what measured values may be off by."""
        return self._column(name, metrics.c.uncertainty)

    def metrics(self, name: str) -> dict[str, Metric]:
        """Return what was measured with all that is known of it."""
        columns = (metrics.c[column] for column in ("unit", "source", "note", "value", "uncertainty", "figures_json"))
        rows = self._rows(_measured(name, *columns).where(self._chosen))
        return {
            run_id: Metric(
                name=name,
                value=value,
                unit=unit,
                source=source,
                note=note,
                uncertainty=uncertainty,
                figures=json.loads(figures) if figures else {},
            )
            for run_id, unit, source, note, value, uncertainty, figures in rows
        }

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the first note: of the first few hundred runs, or of the next."""
        remaining = iter(run_ids)
        table = metrics.c
        query = select(table.run_id, table.note).where(table.name == name, table.repetition.is_(None))
        while batch := list(islice(remaining, _BATCH)):
            found: dict[str, str | None] = dict(self._rows(query.where(table.run_id.in_(batch))))
            if any(found.values()):
                return next(note for run_id in batch if (note := found.get(run_id)))
        return None

    def _column(self, name: str, column: Column[float]) -> dict[str, float]:
        query = _measured(name, column).where(column.is_not(None))
        return dict(self._rows(query if self._are_most else query.where(self._chosen)))

    @cached_property
    def _are_most(self) -> bool:
        """Whether to read the whole column is quicker than to look runs up in it, which takes three times as long."""
        with self._database.read() as connection:
            return 3 * self._n_runs > connection.execute(select(func.count()).select_from(runs)).scalar_one()

    def _rows(self, query: Select[Any]) -> list[tuple[Any, ...]]:
        with self._database.read() as connection:
            # The driver's own rows: of a hundred thousand, SQLAlchemy's would take longer than the database.
            return list(connection.execute(query).cursor.fetchall())


def _measured(name: str, *columns: Column[Any]) -> Select[Any]:
    """Build the query for what whole runs measured, which an index of its own is for."""
    table = metrics.c
    query = select(table.run_id, *columns)
    return query.where(table.name == name, table.repetition.is_(None), table.value.is_not(None))


class _Shared:
    """A setup, taken apart to make runs of: a record is made of its fields faster than of another record."""

    def __init__(self, setup: Setup) -> None:
        self._used = setup.used
        self._start = _fields_of(setup.start, "spec", "started_utc_ns", "session")
        self._spec = _fields_of(setup.start.spec, "run_id", "sweep_id", "block", "position")

    def brief(
        self,
        run_id: str,
        sweep_id: str,
        block: int,
        position: int,
        started_utc_ns: int,
        ended_utc_ns: int,
        outcome: str,
        verdict: str,
        why: Sequence[Reason],
        session: Session | None,
    ) -> RunBundle:
        """Make the run with this of its own."""
        spec = RunSpec(run_id=run_id, sweep_id=sweep_id, block=block, position=position, **self._spec)
        return RunBundle(
            start=RunStart(spec=spec, started_utc_ns=started_utc_ns, session=session, **self._start),
            stop=RunStop(
                run_id=run_id,
                ended_utc_ns=ended_utc_ns,
                outcome=_OUTCOMES[outcome],
                verdict=_VERDICTS[verdict],
                reasons=tuple(why),
                used=self._used,
            ),
        )


def _fields_of(record: Any, *without: str) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name not in without}


def _sessions(connection: Connection, selection: Selection) -> dict[int, Session | None]:
    """Return sessions by their key in this store; None of runs that know of none."""
    chosen = select_runs(selection, runs.c.session_id)
    query = select(sessions.c.session_id, *(sessions.c[name] for name in _SESSION))
    query = query.where(sessions.c.session_id.in_(chosen))
    return {key: _session(told) for key, *told in map(tuple, connection.execute(query).all())}


def _session(told: Sequence[Any]) -> Session | None:
    values = dict(zip(_SESSION, told, strict=True))
    if values["uid"] is None:
        return None
    values["apart"] = Apart(values["apart"])
    return Session(**values)


def _reasons(connection: Connection, selection: Selection) -> defaultdict[str, list[Reason]]:
    """Return why outcome and verdict are what they are, by run: what was published, then what reviews found."""
    found: defaultdict[str, list[Reason]] = defaultdict(list)
    for table, order in ((reasons, reasons.c.position), (reviews, reviews.c.code)):
        query = select(table.c.run_id, table.c.code, table.c.message, table.c.figures_json)
        query = query.where(table.c.run_id.in_(chosen_ids(selection))).order_by(table.c.run_id, order)
        for run_id, code, message, figures in connection.execute(query).all():
            found[run_id].append(Reason(code=code, message=message, figures=json.loads(figures)))
    return found
