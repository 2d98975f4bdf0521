"""Runs by columns, for who compares thousands: no document of a single run is parsed.

What runs share comes from their setups, what is their own from the columns, and figures a metric at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from melt.records import Apart, Metric, Outcome, Reason, RunSpec, RunStart, RunStop, Session, Verdict
from melt.store.database import Database
from melt.store.rows import metric_of
from melt.store.schema import metrics, reasons, reviews, runs, sessions
from melt.store.selection import Selection, chosen_ids, select_runs
from melt.store.setups import Setup, setups_of
from melt.traces import RunBundle

_FEW = 500
"""So many runs are looked up each by itself; of more the whole column is read, which is quicker."""

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

    def __init__(self, database: Database, run_ids: Collection[str]) -> None:
        self._database = database
        self._run_ids = run_ids

    def values(self, name: str) -> dict[str, float]:
        """Return what was measured."""
        return self._column(name, "value")

    def uncertainties(self, name: str) -> dict[str, float]:
        """Return what measured values may be off by."""
        return self._column(name, "uncertainty")

    def metrics(self, name: str) -> dict[str, Metric]:
        """Return what was measured with all that is known of it."""
        query = select(metrics).where(
            metrics.c.name == name, metrics.c.repetition.is_(None), metrics.c.value.is_not(None)
        )
        with self._database.read() as connection:
            return {row.run_id: metric_of(row) for row in connection.execute(query)}

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the first note: of the first few hundred runs, or of the next."""
        remaining = iter(run_ids)
        table = metrics.c
        query = select(table.run_id, table.note).where(table.name == name, table.repetition.is_(None))
        with self._database.read() as connection:
            while batch := list(islice(remaining, _FEW)):
                rows = connection.execute(query.where(table.run_id.in_(batch)))
                found: dict[str, str | None] = {row[0]: row[1] for row in rows}
                if any(found.values()):
                    return next(note for run_id in batch if (note := found.get(run_id)))
        return None

    def _column(self, name: str, column: str) -> dict[str, float]:
        few = f" AND run_id IN ({', '.join('?' * len(self._run_ids))})" if len(self._run_ids) <= _FEW else ""
        sql = (
            f"SELECT run_id, {column} FROM metrics"
            f" WHERE name = ? AND repetition IS NULL AND value IS NOT NULL AND {column} IS NOT NULL{few}"
        )
        with self._database.read() as connection:
            # The driver's own rows: of a hundred thousand, SQLAlchemy's would take longer than the database.
            rows = connection.connection.cursor().execute(sql, (name, *(self._run_ids if few else ())))
            return dict(rows.fetchall())


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
