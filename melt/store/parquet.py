"""Traces as Parquet: one wide file per collector, small, lossless, and readable by any Parquet reader.

A column's type follows its unit, never its data alone, so that files of many runs can be read together: whole numbers
(bytes, Hz, counts) as int64, decimal fractions (°C, W, s) as decimal(18, n), and anything that would lose a bit that
way as double. Nulls are what was not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from melt.errors import StoreError
from melt.records import Stream
from melt.traces import Trace, Values

TIME = "t_ns"
_DIGITS = {"hz": 0, "bytes": 0, "1": 0, "c": 3, "w": 6, "v": 6, "a": 6, "j": 6, "s": 9, "ratio": 6}
"""Decimal places that the sensors of a unit are read with: sysfs gives millidegrees, microwatts, nanoseconds."""

_DECIMAL_DIGITS = 18
_LARGEST = 10**_DECIMAL_DIGITS
_COLLECTOR = "melt.collector"
_STREAMS = "melt.streams"
_TOLD = ("quantity", "unit", "site", "source", "rate_hz", "cumulative", "wraps_at")


def encode_trace(trace: Trace) -> pa.Buffer:
    """Write a trace as a Parquet file in memory. Raises StoreError when its columns do not fit together."""
    units = {stream.name: stream.unit for stream in trace.streams}
    fields = [pa.field(TIME, pa.int64(), nullable=False)]
    arrays = [pa.array(trace.t_ns, type=pa.int64())]
    encodings = {TIME: "DELTA_BINARY_PACKED"}
    for name, values in trace.columns.items():
        if name == TIME or values.shape != trace.t_ns.shape:
            raise StoreError(f"trace {trace.collector}: column {name} does not fit beside {len(trace.t_ns)} times")
        array, encodings[name] = _encode_column(values, units.get(name, ""))
        arrays.append(array)
        fields.append(pa.field(name, array.type))
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=False,
        column_encoding=encodings,
        store_decimal_as_integer=True,
        # Arrow's own copy of the schema and statistics of every column would double a short run's file.
        store_schema=False,
        write_statistics=[TIME],
        write_page_checksum=True,
    ) as out:
        out.write_table(table)
        out.add_key_value_metadata({_COLLECTOR: trace.collector, _STREAMS: _dump_streams(trace)})
    return sink.getvalue()


def read_trace(path: Path, names: Iterable[str] | None = None) -> Trace:
    """Read a trace back, bit for bit as it was published; `names` picks columns. Raises StoreError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            told = file.metadata.metadata or {}
            table = file.read(None if names is None else [TIME, *names])
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; `melt store verify` lists what else is") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if TIME not in table.column_names:
        raise StoreError(f"{path} is not a trace of melt: it has no column {TIME}")
    collector = told.get(_COLLECTOR.encode(), path.stem.encode()).decode(errors="replace")
    columns = {name: _decode_column(table[name]) for name in table.column_names if name != TIME}
    try:
        streams = _load_streams(collector, told.get(_STREAMS.encode()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} does not say what its columns are: {error}") from error
    streams = tuple(stream for stream in streams if stream.name in columns)
    return Trace(collector=collector, t_ns=table[TIME].to_numpy(), columns=columns, streams=streams)


def _dump_streams(trace: Trace) -> str:
    """Write the declarations as short JSON, for a footer is not compressed: of each what the one before it has not."""
    told: dict[str, dict[str, Any]] = {}
    before: dict[str, Any] = {}
    for stream in (s for s in trace.streams if s.name in trace.columns):
        own = {key: getattr(stream, key) for key in _TOLD}
        told[stream.name] = {key: value for key, value in own.items() if before.get(key) != value}
        before = own
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _load_streams(collector: str, text: bytes | None) -> tuple[Stream, ...]:
    if text is None:
        return ()
    told: dict[str, Any] = json.loads(text)
    if "" in told:
        # As the first stores have it: the keys once, then every value of every column.
        keys = told.pop("")
        told = {name: dict(zip(keys, values, strict=True)) for name, values in told.items()}
    streams = []
    own: dict[str, Any] = dict.fromkeys(_TOLD)
    for name, differing in told.items():
        own = {**own, **differing}
        streams.append(Stream(collector=collector, name=name, **own))
    return tuple(streams)


def _encode_column(values: Values, unit: str) -> tuple[Any, str]:
    missing = np.isnan(values)
    digits = _DIGITS.get(unit)
    whole = None if digits is None else _as_whole(values, missing, digits)
    if whole is None or digits is None:
        # Splitting doubles by byte puts the bytes that hardly change beside each other, where zstd finds them.
        return pa.array(values, mask=missing if missing.any() else None), "BYTE_STREAM_SPLIT"
    if digits == 0:
        return pa.array(whole, mask=missing if missing.any() else None), "DELTA_BINARY_PACKED"
    return _decimal(whole, missing, digits), "DELTA_BINARY_PACKED"


def _as_whole(values: Values, missing: Any, digits: int) -> Any | None:
    """Return int64 numbers that give back every value exactly when divided by 10**digits; None where none do."""
    scale = float(10**digits)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values * scale)
        if not np.all(missing | (np.abs(scaled) < min(_LARGEST, 2**53))):
            return None
    whole = np.where(missing, 0.0, scaled).astype(np.int64)
    # Bits are compared, not values: -0.0 is not 0.0.
    same = (whole / scale).view(np.int64) == np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return whole if np.all(missing | same) else None


def _decimal(whole: Any, missing: Any, digits: int) -> Any:
    """Build a decimal array from its unscaled integers: 16 bytes each, the low word first."""
    words = np.empty((len(whole), 2), dtype="<i8")
    words[:, 0] = whole
    words[:, 1] = whole >> 63
    validity = pa.array(~missing).buffers()[1] if missing.any() else None
    kind = pa.decimal128(_DECIMAL_DIGITS, digits)
    return pa.Array.from_buffers(kind, len(whole), [validity, pa.py_buffer(words)])


def _decode_column(column: Any) -> Values:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_decimal128(array.type):
        words = np.frombuffer(array.buffers()[1], dtype="<i8")
        low = words[2 * array.offset : 2 * (array.offset + len(array)) : 2]
        values = low / float(10**array.type.scale)
    else:
        values = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    values[missing] = np.nan
    return values
