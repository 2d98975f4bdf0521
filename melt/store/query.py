"""Questions in SQL over a store: DuckDB, in this process, with the records as tables and the traces as views.

It only reads, and nothing but the store: only SELECT is run, with every setting locked and no file in reach except the
traces. Only the tables that a query names are loaded. DuckDB's wheels cannot open SQLite, so the records go through
Arrow. The files of traces are those of the catalogue: looking for what matches a pattern takes longer than reading it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa
from sqlalchemy import select

from melt.errors import StoreError, UsageError
from melt.store import schema
from melt.store.mirror import arrow_schema, read_table
from melt.store.parquet import TIME
from melt.store.selection import Selection, chosen_ids
from melt.store.store import Store

SAMPLES = "samples"
TRACE_VIEW = "trace_"
"""What the name of a collector's view begins with."""

FIGURES = "figures"
_RECORDS = {table.name: table for table in schema.metadata.sorted_tables}
_FIGURES_ARE_OF = {"runs", "metrics", "sessions"}
_VIEW = "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ?"
_ROWS = 50_000
_ROWS_NAME = "melt_rows"
_EXPLAIN = "EXPLAIN "
_KIND = re.compile(r"^\w+ Error: ")
_ADVICE = "; `melt query --tables` lists what there is"


class QueryError(UsageError):
    """A query cannot be answered; the message says why and where in it."""


@contextmanager
def answer(store: Store, sql: str, selection: Selection | None = None) -> Iterator[pa.RecordBatchReader]:
    """Give the rows of a query over the selected runs, a batch at a time. Raises QueryError, StoreError."""
    with _connected(store) as connection, _told(sql):
        statements = connection.extract_statements(sql)
        if not statements:
            raise QueryError("there is no query: write a SELECT over the store's tables")
        if len(statements) != 1:
            raise QueryError(f"one query at a time, and here are {len(statements)}")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(f"a query only reads: SELECT, not {statements[0].type.name}")
        _provide(connection, store, lambda name: _is_named(name, sql), selection or Selection())
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        reader = _relation(connection, sql).to_arrow_reader(_ROWS)
        yield pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, sql))


def tables(store: Store, selection: Selection | None = None) -> pa.Table:
    """Return every column that a query may name: its table, its name, DuckDB's name of its type."""
    with _connected(store) as connection:
        _provide(connection, store, lambda name: True, selection or Selection(), only_columns=True)
        return connection.sql(
            'SELECT table_name AS "table", column_name AS "column", lower(data_type) AS type FROM duckdb_columns()'
            " WHERE NOT internal ORDER BY table_name, column_index"
        ).to_arrow_table()


@contextmanager
def _connected(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="melt-query-") as room:
        # What does not fit into memory is spilled there, not into the folder that melt happens to be called in.
        settings: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": room,
            "python_enable_replacements": False,
            "errors_as_json": True,
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.execute(f"SET allowed_directories = [{_text(str(store.layout.traces.absolute()))}]")
            yield connection


def _relation(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    try:
        return connection.sql(sql)
    except duckdb.Error:
        # Said of a relation, an error does not tell where in the query it is.
        with _told(sql, len(_EXPLAIN)):
            connection.execute(_EXPLAIN + sql)
        raise


def _batches(reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
    with _told(sql):
        yield from reader


def _is_named(name: str, sql: str) -> bool:
    """Return whether a query may name a table. One too many costs time; DuckDB's own list fails at `JOIN ... USING`."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql.replace('""', '"'), re.IGNORECASE) is not None


def _provide(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    wanted: Callable[[str], bool],
    selection: Selection,
    *,
    only_columns: bool = False,
) -> None:
    """Make the tables and views that are wanted."""
    figures, samples = wanted(FIGURES), wanted(SAMPLES)
    for name, table in _RECORDS.items():
        if wanted(name) or (figures and name in _FIGURES_ARE_OF):
            batches = iter(()) if only_columns else read_table(store, table, selection)
            connection.register(_ROWS_NAME, pa.RecordBatchReader.from_batches(arrow_schema(table), batches))
            connection.execute(f"CREATE TABLE {name} AS FROM {_ROWS_NAME}")
            connection.unregister(_ROWS_NAME)
    if figures:
        with store.database.read() as records:
            connection.execute(records.exec_driver_sql(_VIEW, (FIGURES,)).scalar_one())
    collectors = {c: paths for c, paths in _files(store, selection).items() if samples or wanted(TRACE_VIEW + c)}
    for collector, paths in sorted(collectors.items()):
        _view(connection, collector, paths)
    if samples and collectors:
        parts = (
            f"SELECT run_id, {_text(collector)} AS collector, channel, {TIME}, value FROM (UNPIVOT "
            f"(SELECT run_id, {TIME}, COLUMNS(* EXCLUDE (run_id, {TIME}))::DOUBLE FROM {_name(TRACE_VIEW + collector)})"
            f" ON COLUMNS(* EXCLUDE (run_id, {TIME})) INTO NAME channel VALUE value)"
            for collector in sorted(collectors)
        )
        connection.execute(f"CREATE VIEW {SAMPLES} AS {' UNION ALL '.join(parts)}")


def _view(connection: duckdb.DuckDBPyConnection, collector: str, paths: list[Path]) -> None:
    """Make the view of a collector: its files one below the other, columns put together by their names."""
    files = ", ".join(_text(str(path)) for path in paths)
    connection.execute(
        f"CREATE VIEW {_name(TRACE_VIEW + collector)} AS SELECT parse_path(filename)[-2] AS run_id,"
        f" * EXCLUDE (filename) FROM read_parquet([{files}], union_by_name = true, filename = true)"
    )


def _files(store: Store, selection: Selection) -> dict[str, list[Path]]:
    """Return the files of the selected runs by collector."""
    query = select(schema.traces.c.collector, schema.traces.c.path)
    query = query.where(schema.traces.c.run_id.in_(chosen_ids(selection)))
    found: dict[str, list[Path]] = defaultdict(list)
    with store.database.read() as connection:
        for collector, path in connection.execute(query.order_by(schema.traces.c.run_id)):
            found[collector].append(store.root.absolute() / path)
    return found


@contextmanager
def _told(sql: str, before: int = 0) -> Iterator[None]:
    """Turn DuckDB's errors, also those that Arrow passes on, into ours. So many bytes stood `before` the query."""
    try:
        yield
    except duckdb.Error as error:
        raise _explained(sql, str(error), before) from error
    except (pa.ArrowException, OSError) as error:
        if "Error: {" not in str(error):
            raise
        raise _explained(sql, str(error), before) from error


def _explained(sql: str, text: str, before: int) -> UsageError | StoreError:
    found: dict[str, object] = {}
    with suppress(ValueError):
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    said = _KIND.sub("", " ".join(str(found.get("exception_message", text)).split("\n")[0].split())).rstrip(".!")
    if found.get("exception_type") == "IO":
        return StoreError(f"a trace cannot be read: {said}; `melt store verify` lists what is damaged")
    if found.get("exception_type") == "Permission":
        return QueryError(f"a query reads the store's own tables and no other file: {said.partition(' - ')[0]}")
    at = str(found.get("position", ""))
    where = f" at {_place(sql, int(at) - before)}" if at.isdigit() else ""
    return QueryError(f"the query is wrong{where}: {said}{_ADVICE if found.get('type') == 'Table' else ''}")


def _place(sql: str, position_bytes: int) -> str:
    before = sql.encode()[:position_bytes].decode(errors="ignore")
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
