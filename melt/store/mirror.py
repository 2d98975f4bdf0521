"""The records as Parquet files, for readers that do not open SQLite; DuckDB does not without an extension."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, Integer, Table, select, true

from melt.store import schema
from melt.store.files import store_error
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


def _write(store: Store, table: Table, path: Path, selection: Selection) -> Path:
    fields = pa.schema([pa.field(c.name, _type(c.type), nullable=bool(c.nullable)) for c in table.columns])
    query = select(table).where(_chosen(table, selection))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with (
            store.database.read() as connection,
            pq.ParquetWriter(temporary, fields, compression="zstd", compression_level=3) as out,
        ):
            result = connection.execution_options(yield_per=_ROWS).execute(query.order_by(*table.primary_key.columns))
            for rows in result.partitions():
                records = (dict(row._mapping) for row in rows)
                if table is schema.traces:
                    records = (_located(record, store.root) for record in records)
                out.write_batch(_batch(records, fields))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _chosen(table: Table, selection: Selection) -> ColumnElement[bool]:
    runs = schema.runs.c
    if table is schema.sessions:
        own = select(runs.session_id).where(runs.run_id.in_(chosen_ids(selection)))
        return table.c.session_id.in_(own)
    if table is schema.quality:
        # Of files that ran in the selected runs; all of them where nothing was selected.
        ran = select(runs.artifact_sha256).where(runs.run_id.in_(chosen_ids(selection)))
        return true() if selection == Selection() else table.c.artifact_sha256.in_(ran)
    return table.c.run_id.in_(chosen_ids(selection))


def _batch(records: Iterable[dict[str, Any]], fields: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(records), schema=fields)


def _located(record: dict[str, Any], root: Path) -> dict[str, Any]:
    return {**record, "path": str(root.absolute() / record["path"])}


def _type(kind: Any) -> pa.DataType:
    return next((arrow for sql, arrow in _TYPES if isinstance(kind, sql)), pa.string())
