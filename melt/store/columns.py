"""Runs by columns, for who compares thousands: no document of a single run is parsed.

What runs share comes from their setups, what is their own from the columns, and figures a metric at a time.
"""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Column, Connection, Select, func, select

from melt.records import Apart, Metric, Outcome, Reason, RunStop, Session, Verdict
from melt.store.database import Database
from melt.store.schema import metrics, reasons, reviews, runs, sessions
from melt.store.selection import Selection, chosen_ids, select_runs
from melt.store.setups import Setup, setups_of
from melt.traces import RunBundle

T = TypeVar("T")

_FIRST, _BATCH = 20, 500
"""Runs asked for in the first query, which mostly tells, and in each of the next: databases limit the parameters."""

_COLUMNS = (
    *(runs.c.run_id, runs.c.sweep_id, runs.c.block, runs.c.position, runs.c.started_utc_ns, runs.c.ended_utc_ns),
    *(runs.c.outcome, runs.c.verdict, runs.c.setup_sha256, runs.c.session_id),
)
_SESSION = tuple(field.name for field in fields(Session) if field.name not in ("uid", "apart"))
_APARTS = {one.value: one for one in Apart}
_METRIC = tuple(metrics.c[name] for name in ("name", "unit", "source", "note", "value", "uncertainty", "figures_json"))
_OUTCOMES = {one.value: one for one in Outcome}
_VERDICTS = {one.value: one for one in Verdict}


def briefs(connection: Connection, selection: Selection) -> list[RunBundle]:
    """Return the selected runs in brief, in the order they were made, as `Store.briefs` says. Raises StoreError."""
    rows = _all(connection, select_runs(selection, *_COLUMNS))[::-1]
    keys = {key for *_, key, _ in rows}
    setups = {key: _Shared(key, one) for key, one in setups_of(connection, keys).items()}
    found = _sessions(connection, selection)
    why = _reasons(connection, selection)
    with _uncollected():
        return [
            setups[key].brief(
                run_id, sweep_id, block, position, started, ended, outcome, verdict, why[run_id], found[own]
            )
            for run_id, sweep_id, block, position, started, ended, outcome, verdict, key, own in rows
        ]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away while records are made: it would look through all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
        return {run_id: _metric(*told) for run_id, *told in self._rows(_measured(name, *_METRIC).where(self._chosen))}

    def of_runs(self, run_ids: Collection[str]) -> dict[str, list[Metric]]:
        """Return all that these runs measured."""
        found: dict[str, list[Metric]] = defaultdict(list)
        table = metrics.c
        query = select(table.run_id, *_METRIC).where(table.repetition.is_(None), table.value.is_not(None))
        remaining = iter(run_ids)
        while batch := list(islice(remaining, _BATCH)):
            for run_id, *told in self._rows(query.where(table.run_id.in_(batch))):
                found[run_id].append(_metric(*told))
        return found

    def note(self, name: str, run_ids: Iterable[str]) -> str | None:
        """Return the first note."""
        remaining = iter(run_ids)
        table = metrics.c
        query = select(table.run_id, table.note).where(table.name == name, table.repetition.is_(None))
        size = _FIRST
        while batch := list(islice(remaining, size)):
            found: dict[str, str | None] = dict(self._rows(query.where(table.run_id.in_(batch))))
            if any(found.values()):
                return next(note for run_id in batch if (note := found.get(run_id)))
            size = _BATCH
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
            return _all(connection, query)


def _all(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """Return the driver's own rows: of a hundred thousand, SQLAlchemy's would take longer than the database."""
    return list(connection.execute(query).cursor.fetchall())


def _metric(
    name: str,
    unit: str,
    source: str,
    note: str | None,
    value: float,
    uncertainty: float | None,
    figures: str | None,
) -> Metric:
    return Metric(
        name=name,
        value=value,
        unit=unit,
        source=source,
        note=note,
        uncertainty=uncertainty,
        figures=json.loads(figures) if figures else {},
    )


def _measured(name: str, *columns: Column[Any]) -> Select[Any]:
    """Build the query for what whole runs measured, which an index of its own is for."""
    table = metrics.c
    query = select(table.run_id, *columns)
    return query.where(table.name == name, table.repetition.is_(None), table.value.is_not(None))


class _Copier(Generic[T]):
    """Makes copies of a record that differ in some fields, given in the order in which they are named here.

    As `dataclasses.replace` does, many times faster: the fields of a record with slots are set one by one, without
    looking each of them up by its name, and nothing is checked.
    """

    def __init__(self, record: T, *differing: str) -> None:
        self._kind = kind = type(record)
        names = [field.name for field in fields(cast(Any, record))]
        self._kept = [(getattr(kind, name).__set__, getattr(record, name)) for name in names if name not in differing]
        self._differing = [getattr(kind, name).__set__ for name in differing]

    def __call__(self, *values: Any) -> T:
        made = object.__new__(self._kind)
        for put, value in self._kept:
            put(made, value)
        for put, value in zip(self._differing, values, strict=True):
            put(made, value)
        return made


class _Shared:
    """A setup, ready to make runs of."""

    def __init__(self, key: str, setup: Setup) -> None:
        start, spec = setup.start, setup.start.spec
        stop = RunStop(run_id="", ended_utc_ns=0, outcome=Outcome.OK, verdict=Verdict.VALID, used=setup.used)
        self._spec = _Copier(spec, "run_id", "sweep_id", "block", "position")
        self._start = _Copier(start, "spec", "started_utc_ns", "session")
        self._stop = _Copier(stop, "run_id", "ended_utc_ns", "outcome", "verdict", "reasons")
        self._bundle = _Copier(RunBundle(start=start, stop=stop, setup=key), "start", "stop")

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
        return self._bundle(
            self._start(self._spec(run_id, sweep_id, block, position), started_utc_ns, session),
            self._stop(run_id, ended_utc_ns, _OUTCOMES[outcome], _VERDICTS[verdict], tuple(why)),
        )


def _sessions(connection: Connection, selection: Selection) -> dict[int, Session | None]:
    """Return sessions by their key in this store; None of runs that know of none."""
    chosen = select_runs(selection, runs.c.session_id)
    query = select(*(sessions.c[name] for name in ("session_id", "uid", "apart", *_SESSION)))
    query = query.where(sessions.c.session_id.in_(chosen))
    made = Session(uid="", sweep_id="", device_id="", block=0, number=0, apart=Apart.START, began_utc_ns=0)
    session = _Copier(made, "uid", "apart", *_SESSION)
    return {
        key: None if uid is None else session(uid, _APARTS[apart], *rest)
        for key, uid, apart, *rest in _all(connection, query)
    }


def _reasons(connection: Connection, selection: Selection) -> defaultdict[str, list[Reason]]:
    """Return why outcome and verdict are what they are, by run: what was published, then what reviews found."""
    found: defaultdict[str, list[Reason]] = defaultdict(list)
    for table, order in ((reasons, reasons.c.position), (reviews, reviews.c.code)):
        query = select(table.c.run_id, table.c.code, table.c.message, table.c.figures_json)
        query = query.where(table.c.run_id.in_(chosen_ids(selection))).order_by(table.c.run_id, order)
        for run_id, code, message, figures in _all(connection, query):
            found[run_id].append(Reason(code=code, message=message, figures=json.loads(figures)))
    return found
