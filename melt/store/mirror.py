"""The records as Parquet files, for readers that do not open SQLite; DuckDB does not without an extension."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, Integer, Table, select, true

from melt.store import schema
from melt.store.files import store_error, whole_file
from melt.store.selection import Selection, chosen_ids
from melt.store.store import Store

TABLES = (
    schema.runs,
    schema.sessions,
    schema.metrics,
    schema.windows,
    schema.reasons,
    schema.reviews,
    schema.traces,
    schema.tags,
    schema.quality,
)
_RUNS = schema.runs.c
_OF_RUNS = {
    schema.sessions: (schema.sessions.c.session_id, _RUNS.session_id),
    schema.sweeps: (schema.sweeps.c.sweep_id, _RUNS.sweep_id),
    schema.devices: (schema.devices.c.device_id, _RUNS.device_id),
    schema.artifacts: (schema.artifacts.c.sha256, _RUNS.artifact_sha256),
    schema.setups: (schema.setups.c.setup_sha256, _RUNS.setup_sha256),
    schema.quality: (schema.quality.c.artifact_sha256, _RUNS.artifact_sha256),
}
"""Tables whose rows are of several runs: their key, and what a run has of it."""

_ALL_WITHOUT_SELECTION = (schema.artifacts, schema.quality)
"""They have rows that no run needs to have: files that were evaluated and never ran."""

_ROWS = 50_000
_TYPES = ((BigInteger, pa.int64()), (Integer, pa.int64()), (Boolean, pa.bool_()), (Double, pa.float64()))


def write_mirror(store: Store, folder: Path, selection: Selection) -> list[Path]:
    """Write `runs.parquet`, `metrics.parquet` and so on, with the columns of the tables. Returns the files.

    `traces.parquet` has absolute paths, ready for a reader. Each file appears whole or not at all. Raises StoreError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(store, table, folder / f"{table.name}.parquet", selection) for table in TABLES]
    except OSError as error:
        raise store_error("write to", folder, error) from error


def arrow_schema(table: Table) -> pa.Schema:
    """Return the columns of a table as Arrow has them."""
    return pa.schema([pa.field(c.name, _type(c.type), nullable=bool(c.nullable)) for c in table.columns])


def read_table(store: Store, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
    """Give the rows of a table that belong to the selected runs, in the order of its key. Raises StoreError."""
    fields = arrow_schema(table)
    query = select(table).where(_chosen(table, selection)).order_by(*table.primary_key.columns)
    with store.database.read() as connection:
        for rows in connection.execution_options(yield_per=_ROWS).execute(query).partitions():
            columns = dict(zip(fields.names, map(list, zip(*rows, strict=True)), strict=True))
            if table is schema.traces:
                columns["path"] = [str(store.root.absolute() / path) for path in columns["path"]]
            yield pa.RecordBatch.from_pydict(columns, schema=fields)


def _write(store: Store, table: Table, path: Path, selection: Selection) -> Path:
    with (
        whole_file(path) as file,
        pq.ParquetWriter(file, arrow_schema(table), compression="zstd", compression_level=3) as out,
    ):
        for batch in read_table(store, table, selection):
            out.write_batch(batch)
    return path


def _chosen(table: Table, selection: Selection) -> ColumnElement[bool]:
    if table not in _OF_RUNS:
        return table.c.run_id.in_(chosen_ids(selection))
    if table in _ALL_WITHOUT_SELECTION and selection == Selection():
        return true()
    key, of_run = _OF_RUNS[table]
    return key.in_(select(of_run).where(schema.runs.c.run_id.in_(chosen_ids(selection))))


def _type(kind: Any) -> pa.DataType:
    return next((arrow for sql, arrow in _TYPES if isinstance(kind, sql)), pa.string())
