"""`melt query`: a question in SQL over the store, answered by DuckDB as a table, csv, json, jsonl or Parquet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from melt.cli._left_out import left_out_by, say_left_out
from melt.cli._output import text_output
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

if TYPE_CHECKING:
    import pyarrow as pa

    from melt.store.selection import Selection
    from melt.store.store import Store

NAME = "query"
HELP = "ask the store in SQL (DuckDB; reads only)"
FORMATS = ("table", "md", "csv", "json", "jsonl", "parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument(
        "sql", metavar="SQL", nargs="?", help='a SELECT over the tables of docs/store.md; "-" for stdin'
    )
    parser.add_argument("--tables", action="store_true", help="list the tables with their columns instead")
    parser.add_argument("-f", "--format", choices=FORMATS, default="table", help="form of the answer (default: table)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    add_store_argument(parser)
    add_selection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the answer. Raises UsageError, StoreError."""
    from melt.errors import UsageError

    if args.tables == (args.sql is not None):
        raise UsageError('give a query, "-" to read one from stdin, or --tables')
    if args.format == "parquet" and args.output is None:
        raise UsageError("parquet goes into a file: name it with -o FILE")
    with open_store(args) as store:
        selection = selection_from_args(args, store)
        say_left_out(left_out_by(selection, store))
        with _answered(args, store, selection) as reader:
            if args.format == "parquet":
                _write_parquet(reader, args.output)
            else:
                with text_output(args.output) as out:
                    _write_text(reader, args.format, out)
    return 0


@contextmanager
def _answered(args: argparse.Namespace, store: Store, selection: Selection) -> Iterator[pa.RecordBatchReader]:
    from melt.store.query import answer, tables

    if args.tables:
        yield tables(store, selection).to_reader()
        return
    with answer(store, sys.stdin.read() if args.sql == "-" else args.sql, selection) as reader:
        yield reader


def _write_parquet(reader: pa.RecordBatchReader, path: Path) -> None:
    import pyarrow.parquet as pq

    from melt.store.files import whole_file

    with whole_file(path) as file, pq.ParquetWriter(file, reader.schema, compression="zstd") as out:
        for batch in reader:
            out.write_batch(batch)


def _write_text(reader: pa.RecordBatchReader, fmt: str, out: TextIO) -> None:
    """Write rows as they come; a table and a JSON array need all of them first."""
    from melt.report.table import render_table, write_rows

    names = _unique(reader.schema.names)
    if fmt in ("csv", "jsonl"):
        head = write_rows(names, [], fmt)
        out.write(head)
        for batch in reader:
            records = [dict(zip(names, row, strict=True)) for row in _rows(batch)]
            out.write(write_rows(names, records, fmt)[len(head) :])
        return
    rows = [row for batch in reader for row in _rows(batch)]
    if fmt == "json":
        out.write(write_rows(names, [dict(zip(names, row, strict=True)) for row in rows], fmt))
        return
    numeric = [i for i, field in enumerate(reader.schema) if _is_number(field.type)]
    out.write(render_table(None, names, [[_cell(value) for value in row] for row in rows], fmt, numeric=numeric))


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*([_plain(value) for value in column.to_pylist()] for column in batch.columns), strict=True)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON has: exact decimals into numbers, times and whatever else is left into words."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _cell(value: Any) -> str:
    import json

    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _unique(names: list[str]) -> list[str]:
    """Number names that occur again, as in a join of two tables: `run_id`, `run_id_2`."""
    unique: list[str] = []
    for name in names:
        candidates = (name if i == 1 else f"{name}_{i}" for i in count(1))
        unique.append(next(one for one in candidates if one not in unique))
    return unique
