"""The results store: a folder with a database of records, a Parquet file per trace and the runs still going on."""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard
from sqlalchemy import Row, Table, delete, func, insert, select

from melt.errors import StoreError, UsageError
from melt.records import Reason, Session
from melt.store import schema
from melt.store.columns import StoredFigures, briefs
from melt.store.database import Database
from melt.store.files import store_error
from melt.store.layout import Layout
from melt.store.listing import FIGURE_COLUMNS, RunLine, figure_rows, list_runs
from melt.store.parquet import read_trace
from melt.store.publish import publish
from melt.store.reviews import replace_reviews, reviews_of
from melt.store.rows import bundle_of
from melt.store.selection import Selection, begins_with, chosen_ids, select_runs
from melt.store.sessions import last_session, last_used_utc_ns
from melt.store.spool import Spool, leftovers
from melt.traces import Figures, RunBundle, Trace

_BATCH = 500
"""Runs asked for in one query: databases limit the number of parameters."""


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """What the store knows of a sweep. `runs` counts the published ones, `ok` those that ended well."""

    sweep_id: str
    plan: str
    started_utc_ns: int
    runs: int
    ok: int


class Store:
    """An open results store. Several processes may have it open, and publish, at the same time."""

    FIGURE_COLUMNS = FIGURE_COLUMNS
    """Names of what `figures` gives; the columns of the view of that name."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self.layout = layout
        self.database = database

    @classmethod
    def open(cls, root: Path, *, create: bool = True) -> Store:
        """Open the store in a folder; `create` makes what is not there. Raises StoreError."""
        layout = Layout(root)
        if create:
            for folder in (layout.traces, layout.spool):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise store_error("make", folder, error) from error
            if not os.access(root, os.W_OK):
                raise store_error("write to", root, PermissionError(errno.EACCES, "permission denied"))
        return cls(layout, Database(layout.database, create=create))

    def close(self) -> None:
        """Close the database; what was published is on disk already."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The folder of the store."""
        return self.layout.root

    # Writing

    def publish(self, bundle: RunBundle) -> None:
        """Make a finished run part of the store, whole and durable when this returns.

        The same run again changes nothing. Raises StoreError, also for a known run with another content.
        """
        publish(self.database, self.layout, bundle)

    def spool(self, run_id: str) -> Spool:
        """Make the folder of a run that begins now, held by this process. Raises StoreError."""
        return Spool.create(self.layout.spool, run_id)

    def leftovers(self) -> list[Spool]:
        """Take the folders of runs whose process died, each locked for this process; oldest first.

        One that `is_published` is among them where it could not be removed: its job may still lie on its device.
        """
        return leftovers(self.layout.spool)

    def tag(self, run_id: str, tags: Iterable[str]) -> None:
        """Add tags to a run; those it has already stay. Raises UsageError, StoreError."""
        full = self.resolve(run_id)
        with self.database.write() as connection:
            known = set(connection.execute(select(schema.tags.c.tag).where(schema.tags.c.run_id == full)).scalars())
            new = [{"run_id": full, "tag": tag} for tag in dict.fromkeys(tags) if tag not in known]
            if new:
                connection.execute(insert(schema.tags), new)

    def untag(self, run_id: str, tags: Iterable[str]) -> None:
        """Take tags from a run; those it has not are passed over. Raises UsageError, StoreError."""
        full = self.resolve(run_id)
        table = schema.tags.c
        with self.database.write() as connection:
            connection.execute(delete(schema.tags).where(table.run_id == full, table.tag.in_(list(tags))))

    def review(self, code: str, run_ids: Collection[str], reasons: Mapping[str, Reason]) -> None:
        """Make `reasons`, by run, all that reviews of this code say of these published runs. Raises StoreError.

        Their documents stay as they are; who reads the runs is told both, and a verdict that is no better.
        """
        with self.database.write() as connection:
            replace_reviews(connection, code, run_ids, reasons)

    # Reading

    def is_published(self, run_id: str) -> bool:
        """Whether a run, by its full id, is part of the store."""
        query = select(schema.runs.c.run_id).where(schema.runs.c.run_id == run_id)
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def run_ids(self, selection: Selection | None = None) -> list[str]:
        """Return the ids of the selected runs, newest first."""
        with self.database.read() as connection:
            return list(connection.execute(select_runs(selection or Selection(), schema.runs.c.run_id)).scalars())

    def bundles(self, selection: Selection | None = None, *, reviewed: bool = True) -> list[RunBundle]:
        """Return the selected runs in the order they were made, without traces and files.

        Not `reviewed`: with the verdicts that they were published with.
        """
        return list(self.each_bundle(selection, reviewed=reviewed))

    def each_bundle(self, selection: Selection | None = None, *, reviewed: bool = True) -> Iterator[RunBundle]:
        """Give what `bundles` gives, a few hundred runs in memory at a time."""
        ids = self.run_ids(selection)[::-1]
        table = schema.runs.c
        query = select(table.run_id, table.start_json, table.stop_json)
        for begin in range(0, len(ids), _BATCH):
            batch = ids[begin : begin + _BATCH]
            with self.database.read() as connection:
                found = {row.run_id: row for row in connection.execute(query.where(table.run_id.in_(batch)))}
                windows = _parts(connection, schema.windows, batch)
                metrics = _parts(connection, schema.metrics, batch)
                doubts = reviews_of(connection, batch) if reviewed else {}
            for run_id in batch:
                row = found[run_id]
                parts = windows[run_id], metrics[run_id], doubts.get(run_id, ())
                yield bundle_of(row.start_json, row.stop_json, *parts)

    def briefs(self, selection: Selection | None = None) -> tuple[list[RunBundle], Figures]:
        """Return the selected runs in brief, in the order they were made, and their figures by columns.

        What was asked for and found, how each ended and why is there as in `bundles`; what only the run itself is read
        for (streams, windows, metrics, what the engine used but its revision, ...) is empty. Much quicker than
        `bundles`; the figures are read while the store is open.
        """
        chosen = selection or Selection()
        with self.database.read() as connection:
            found = briefs(connection, chosen)
        return found, StoredFigures(self.database, chosen, len(found))

    def listing(self, selection: Selection | None = None) -> list[RunLine]:
        """Return the selected runs as lines of a list, newest first: quick over tens of thousands of runs."""
        with self.database.read() as connection:
            return list_runs(connection, selection or Selection())

    def figures(self, selection: Selection | None = None) -> Iterator[tuple[Any, ...]]:
        """Give every metric of the selected runs as `FIGURE_COLUMNS`, by run in the order of their ids."""
        with self.database.read() as connection:
            yield from figure_rows(connection, selection or Selection())

    def count(self, selection: Selection | None = None) -> int:
        """Return how many runs are selected."""
        query = chosen_ids(selection or Selection()).subquery()
        with self.database.read() as connection:
            return connection.execute(select(func.count()).select_from(query)).scalar_one()

    def bundle(self, run: str) -> RunBundle:
        """Return one run, by its id, the beginning of it, or "last". Raises UsageError."""
        return self.bundles(Selection(runs=(self.resolve(run),)))[0]

    def resolve(self, run: str) -> str:
        """Return the full id of a run named by its id, a beginning that only it has, "last", or "last~1" before it.

        Raises UsageError.
        """
        return self._resolve(run, "run", schema.runs.c.run_id, schema.runs.c.run_id)

    def resolve_sweep(self, sweep: str) -> str:
        """Return the full id of a sweep named as `resolve` has it for runs. Raises UsageError."""
        return self._resolve(sweep, "sweep", schema.sweeps.c.sweep_id, schema.runs.c.sweep_id)

    def _resolve(self, wanted: str, kind: str, column: Any, column_of_run: Any) -> str:
        back = re.fullmatch(r"last(?:~(\d{1,9}))?", wanted)
        if wanted == "last":
            query = select_runs(Selection(limit=1), column_of_run)
        elif back:
            newest = func.max(schema.runs.c.started_utc_ns).desc()
            query = select(column_of_run).group_by(column_of_run).order_by(newest, column_of_run.desc())
            query = query.offset(int(back[1])).limit(1)
        else:
            query = select(column).where(begins_with(column, wanted)).order_by(column).limit(4)
        with self.database.read() as connection:
            found = list(connection.execute(query).scalars())
        if not found:
            few = "has no runs yet" if wanted == "last" else f"has no {kind} so far back: {wanted!r}"
            what = few if back else f"has no {kind} {wanted!r}; `melt runs` lists its runs"
            raise UsageError(f"the store {self.root} {what}")
        if len(found) > 1 and wanted not in found:
            named = ", ".join(found[:3]) + ", …" * (len(found) > 3)
            raise UsageError(f"{wanted!r} is the beginning of several {kind}s: {named}")
        return wanted if wanted in found else str(found[0])

    def last_session(self, sweep_id: str, device_id: str) -> Session | None:
        """Return the session of a device in a sweep with the highest number, None where none has one."""
        with self.database.read() as connection:
            return last_session(connection, sweep_id, device_id)

    def last_used_utc_ns(self, device_id: str) -> int | None:
        """Return when the newest run on a device had ended that was started there, None where there is none."""
        with self.database.read() as connection:
            return last_used_utc_ns(connection, device_id)

    def collectors(self, run: str) -> list[str]:
        """Return the names of a run's traces. Raises UsageError."""
        full = self.resolve(run)
        with self.database.read() as connection:
            query = select(schema.traces.c.collector).where(schema.traces.c.run_id == full)
            return list(connection.execute(query.order_by(schema.traces.c.collector)).scalars())

    def trace(self, run: str, collector: str) -> Trace:
        """Return what one collector saw. Raises UsageError when there is none, StoreError when its file is damaged."""
        full = self.resolve(run)
        return read_trace(self._path_of(schema.traces, full, "collector", collector))

    def attachments(self, run: str) -> list[str]:
        """Return the names of a run's attached files: `journal`, `snapshot.json`, ... Raises UsageError."""
        full = self.resolve(run)
        with self.database.read() as connection:
            query = select(schema.attachments.c.name).where(schema.attachments.c.run_id == full)
            return list(connection.execute(query.order_by(schema.attachments.c.name)).scalars())

    def attachment(self, run: str, name: str) -> bytes:
        """Return an attached file as it was before it was compressed. Raises UsageError, StoreError."""
        path = self._path_of(schema.attachments, self.resolve(run), "name", name)
        try:
            with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as out:
                return out.read()
        except OSError as error:
            raise store_error("read", path, error) from error
        except zstandard.ZstdError as error:
            raise StoreError(f"{path} is damaged: {error}; `melt store verify` lists what else is") from error

    def sweeps(self) -> list[SweepSummary]:
        """Return every sweep that has a published run, newest first."""
        sweeps, runs = schema.sweeps.c, schema.runs.c
        query = (
            select(
                sweeps.sweep_id,
                sweeps.plan,
                sweeps.started_utc_ns,
                func.count().label("runs"),
                func.count().filter(runs.outcome == "ok").label("ok"),
            )
            .join_from(schema.sweeps, schema.runs)
            .group_by(sweeps.sweep_id, sweeps.plan, sweeps.started_utc_ns)
            .order_by(sweeps.started_utc_ns.desc(), sweeps.sweep_id.desc())
        )
        with self.database.read() as connection:
            return [SweepSummary(*row) for row in connection.execute(query)]

    def _path_of(self, table: Table, run_id: str, key: str, wanted: str) -> Path:
        with self.database.read() as connection:
            rows = connection.execute(select(table.c[key], table.c.path).where(table.c.run_id == run_id)).all()
        paths = {row[0]: row.path for row in rows}
        if wanted not in paths:
            offered = ", ".join(sorted(paths)) or "none"
            raise UsageError(f"run {run_id} has no {wanted!r}; it has {offered}")
        return self.layout.root / str(paths[wanted])


def _parts(connection: Any, table: Table, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Return the rows of a table by run, in their order."""
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    query = select(table).where(table.c.run_id.in_(ids)).order_by(table.c.run_id, table.c.position)
    for row in connection.execute(query).all():
        found[row.run_id].append(row)
    return found
