"""Look after a store: check that everything it names is there and whole, and remove what nothing names."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, select

from melt.codec import loads
from melt.errors import StoreError
from melt.records import RunStart, RunStop
from melt.store import schema
from melt.store.files import lock_folder, store_error
from melt.store.publish import JOURNAL
from melt.store.quality import damaged_qualities
from melt.store.reviews import reviewed, reviews_of
from melt.store.setups import setup_of, setups_of
from melt.store.store import Store

ABANDONED_S = 7 * 86_400.0
"""How long after its last entry the journal of an evaluation is kept for who goes on with it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a store. `harmful`: data is lost or damaged; else it only takes room or waits for its turn."""

    where: str
    what: str
    harmful: bool = True


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file or folder that may go. `journal_of` names the run when it is a raw journal."""

    path: Path
    size_bytes: int
    why: str
    journal_of: str | None = None


def verify(store: Store) -> Iterator[Finding]:
    """Check the database, every run's documents and every file's checksum. Raises StoreError if nothing can be read."""
    with store.database.read() as connection:
        for message in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
            if message != "ok":
                yield Finding(store.layout.database.name, str(message))
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Finding(store.layout.database.name, f"a row of {row[0]} belongs to nothing in {row[2]}")
        yield from _check_documents(connection)
        for quality_id, problem in damaged_qualities(connection):
            yield Finding(quality_id, problem)
        yield from _check_files(connection, store)
        for garbage in (*_unnamed(connection, store), *_abandoned_evaluations(store)):
            yield Finding(_relative(store, garbage.path), f"{garbage.why}; `melt store gc` removes it", harmful=False)
    for folder in sorted(store.layout.spool.glob("[!.]*")):
        if store.is_published(folder.name):
            continue
        yield Finding(_relative(store, folder), "a run that is going on, or that `melt resume` finishes", harmful=False)


def collect_garbage(store: Store, *, journals: bool = False, dry_run: bool = False) -> list[Garbage]:
    """Remove what no record names and no process holds; with `journals` the raw journals of published runs too.

    So are evaluations that were cut short over a week ago; what the store has of them stays.

    Returns what was, or with `dry_run` would be, removed. Raises StoreError; also when the store has traces but no
    records at all, for then the records were lost and the traces are all that is left.
    """
    # Holding the write lock, no publication is between its files and its records.
    with store.database.write() as connection:
        found = _unnamed(connection, store)
        if found and connection.execute(select(schema.runs.c.run_id).limit(1)).first() is None:
            whole = [g for g in found if not g.path.name.startswith(".")]
            if whole:
                raise StoreError(
                    f"{store.layout.traces} has files of {len(whole)} runs, but {store.layout.database.name} has no"
                    " record of any: restore it from a backup, or remove the folders by hand"
                )
        found += _abandoned_evaluations(store)
        if journals:
            found += _journals(connection, store)
            if not dry_run:
                connection.execute(delete(schema.attachments).where(schema.attachments.c.name == JOURNAL))
        if not dry_run:
            for garbage in (g for g in found if g.journal_of is None):
                _remove(garbage.path)
    if not dry_run:
        # Only when no record names them any more: a crash in between leaves garbage, never a missing file.
        for garbage in (g for g in found if g.journal_of is not None):
            _remove(garbage.path)
    return found


def _check_documents(connection: Connection) -> Iterator[Finding]:
    table = schema.runs.c
    columns = (table.run_id, table.outcome, table.verdict, table.start_json, table.stop_json, table.setup_sha256)
    setups = setups_of(connection, set(connection.execute(select(table.setup_sha256)).scalars()))
    doubts = reviews_of(connection, set(connection.execute(select(schema.reviews.c.run_id)).scalars()))
    for row in connection.execute(select(*columns).order_by(table.run_id)):
        try:
            start, stop = loads(RunStart, row.start_json), loads(RunStop, row.stop_json)
        except StoreError as error:
            yield Finding(row.run_id, str(error))
            continue
        verdict = reviewed(stop, doubts.get(row.run_id, ()), start.spec.thresholds).verdict
        told = (start.spec.run_id, stop.run_id, stop.outcome.value, verdict.value)
        derived = setups.get(row.setup_sha256) == setup_of(start, stop)
        if told != (row.run_id, row.run_id, row.outcome, row.verdict) or not derived:
            yield Finding(row.run_id, "its documents and its columns say different things")


def _check_files(connection: Connection, store: Store) -> Iterator[Finding]:
    for table in (schema.traces, schema.attachments):
        query = select(table.c.path, table.c.bytes, table.c.sha256).order_by(table.c.path)
        for row in connection.execute(query):
            problem = _problem_of(store.root / row.path, row.bytes, row.sha256)
            if problem is not None:
                yield Finding(row.path, problem)


def _problem_of(path: Path, size_bytes: int, sha256: str) -> str | None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found_bytes = path.stat().st_size
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if found_bytes != size_bytes:
        return f"the file has {found_bytes} bytes instead of {size_bytes}"
    return None if digest == sha256 else "the file is not what was published (its sha256 differs)"


def _unnamed(connection: Connection, store: Store) -> list[Garbage]:
    """Find folders and files that no record names and no living process holds."""
    named = set(connection.execute(select(schema.runs.c.run_id)).scalars())
    paths = {p for t in (schema.traces, schema.attachments) for p in connection.execute(select(t.c.path)).scalars()}
    found = []
    for entry in sorted(store.layout.traces.iterdir()):
        if entry.name.startswith("."):
            found += _abandoned(entry)
        elif entry.name not in named:
            found.append(Garbage(entry, _size(entry), "files without a record, of a publication that was cut short"))
        else:
            strays = (f for f in sorted(entry.iterdir()) if _relative(store, f) not in paths)
            found += [Garbage(f, _size(f), "a file that no record names") for f in strays]
    for entry in sorted(store.layout.spool.iterdir()):
        if entry.name.startswith("."):
            found += _abandoned(entry)
        elif entry.name in named:
            # The next melt removes it, with what lies on the device; unless the device is gone for good.
            found += _abandoned(entry, "a note that something of a published run still lies on its device")
    return found


def _abandoned(folder: Path, why: str = "a temporary folder whose owner is gone") -> list[Garbage]:
    """Return a folder whose owner is dead; nothing while the owner lives."""
    lock = lock_folder(folder)
    if lock is None:
        return []
    os.close(lock)
    return [Garbage(folder, _size(folder), why)]


def _abandoned_evaluations(store: Store) -> list[Garbage]:
    """Return the journals of evaluations that nobody went on with for long."""
    before_s = time.time() - ABANDONED_S
    found = []
    for path in sorted(store.layout.quality.glob("*.jsonl")):
        # One that is gone by now was finished; who goes on with one touches it first.
        with suppress(FileNotFoundError):
            status = path.stat()
            if status.st_mtime < before_s:
                found.append(Garbage(path, status.st_size, "an evaluation that was cut short over a week ago"))
    return found


def _journals(connection: Connection, store: Store) -> list[Garbage]:
    table = schema.attachments.c
    query = select(table.run_id, table.path, table.bytes).where(table.name == JOURNAL).order_by(table.path)
    why = "a raw journal; its traces stay"
    return [Garbage(store.root / row.path, row.bytes, why, row.run_id) for row in connection.execute(query)]


def _relative(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise store_error("remove", path, error) from error
