"""Open the SQLite file: settings, migrations, and its errors as sentences."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, exc

from melt.errors import StoreError
from melt.store.files import locked
from melt.store.schema import HEAD

BUSY_S = 30.0
"""How long a writer waits for another one. A publication holds the database for milliseconds."""

NEWEST = Path(__file__).parent / "migrations" / "newest.sql"
"""What SQLite keeps of the tables when all migrations have run on an empty file; a test holds it against them."""

_WRITE = "melt_write"
_MESSAGES = (
    (r"file is not a database", "is not a results store; move it away or choose another folder with --store"),
    (r"malformed|corrupt", "is damaged; run `melt store verify`, then restore it from a backup"),
    (r"disk is full", "has no room left on its disk; make room and try again"),
    (r"disk I/O error", "cannot be read or written (disk I/O error or no room left); check the disk"),
    (r"readonly|read-only", "cannot be written; choose a folder you may write with --store"),
    (r"unable to open", "cannot be opened; check the folder's permissions or choose another one with --store"),
    (r"locked|busy", f"has been busy for {BUSY_S:.0f} s; find the melt that holds it and try again"),
)


class Database:
    """A store's SQLite file, at the newest schema."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open, and create or migrate where that is needed. Raises StoreError."""
        self.path = path
        if not create and not path.is_file():
            raise StoreError(f"there is no results store in {path.parent}; `melt run` makes one")
        self._writable = os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
        self._engine = _engine(path, self._writable)
        try:
            with self.errors():
                self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the database's errors into StoreError."""
        try:
            yield
        except exc.DBAPIError as error:
            raise self._explain(str(error.orig)) from error
        except sqlite3.Error as error:
            raise self._explain(str(error)) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a consistent view of the database. Raises StoreError."""
        with self.errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Hold the write lock; what was done is durable when this returns, and undone when it raises."""
        with self.errors(), self._engine.connect() as connection:
            writer = connection.execution_options(**{_WRITE: True})
            with writer.begin():
                yield writer

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _explain(self, message: str) -> StoreError:
        for pattern, advice in _MESSAGES:
            if re.search(pattern, message, re.IGNORECASE):
                return StoreError(f"{self.path} {advice}")
        return StoreError(f"{self.path}: {message}")

    def _bring_up_to_date(self) -> None:
        if self._revision() == HEAD:
            return
        if not self._writable:
            raise StoreError(f"{self.path} must be brought to this melt's format, but cannot be written")
        # Switching a new file to WAL does not wait for other processes, so only one may do this at a time.
        with locked(self.path.parent):
            with self._engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
            is_empty = self._revision() is None
            with self.write() as connection:
                if is_empty:
                    create_tables(connection)
                else:
                    migrate(connection)
        self._revision()

    def _revision(self) -> str | None:
        """Return the schema's revision, None for an empty file. Raises StoreError for what is not ours or newer."""
        with self._engine.begin() as connection:
            names = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
            if not names:
                return None
            if "alembic_version" not in names or "runs" not in names:
                raise StoreError(
                    f"{self.path} is a database of another program; move it away or choose another folder with --store"
                )
            revision = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
        if revision > HEAD:
            raise StoreError(
                f"{self.path} was written by a newer melt (schema {revision}, this one knows {HEAD}): update"
            )
        return revision


def _engine(path: Path, writable: bool) -> Engine:
    mode = "rwc" if writable else "ro"
    if not writable and not path.with_name(path.name + "-wal").exists():
        # Without a write-ahead log nobody is writing, and a reader that may not make one must be told so.
        mode += "&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        if writable:
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: a read that turns into a write can fail although it waited.
        immediate = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def create_tables(connection: Connection) -> None:
    """Make of an empty file at once what the migrations make of it, step by step, in half a second."""
    for statement in NEWEST.read_text(encoding="utf-8").split(";\n"):
        connection.exec_driver_sql(statement)


def migrate(connection: Connection) -> None:
    """Bring a database of any age, or an empty one, to the newest schema by the migrations."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(NEWEST.parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
