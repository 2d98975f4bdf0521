"""Traces as Parquet: one wide file per collector, small, lossless, and readable by any Parquet reader.

A column's type follows its unit, never its data alone, so that files of many runs can be read together: whole numbers
(bytes, Hz, counts) as int64, decimal fractions (°C, W, s) as decimal(18, n), and anything that would lose a bit that
way as double. Nulls are what was not measured.
"""

from __future__ import annotations

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
_COLLECTOR = b"melt.collector"


def encode_trace(trace: Trace) -> pa.Buffer:
    """Write a trace as a Parquet file in memory. Raises StoreError when its columns do not fit together."""
    declared = {stream.name: stream for stream in trace.streams}
    fields = [pa.field(TIME, pa.int64(), nullable=False, metadata={"unit": "ns"})]
    arrays = [pa.array(trace.t_ns, type=pa.int64())]
    encodings = {TIME: "DELTA_BINARY_PACKED"}
    for name, values in trace.columns.items():
        if name == TIME or values.shape != trace.t_ns.shape:
            raise StoreError(
                f"trace {trace.collector}: column {name} has {values.size} values for {trace.t_ns.size} times"
            )
        stream = declared.get(name)
        array, encoding = _encode_column(values, stream.unit if stream else "")
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=_describe(stream)))
        encodings[name] = encoding
    schema = pa.schema(fields, metadata={_COLLECTOR: trace.collector.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema),
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        column_encoding=encodings,
        store_decimal_as_integer=True,
        # Page checksums let a reader notice a flipped bit; statistics let it skip what a query does not need.
        write_page_checksum=True,
    )
    return sink.getvalue()


def read_trace(path: Path, names: Iterable[str] | None = None) -> Trace:
    """Read a trace back, bit for bit as it was published; `names` picks columns. Raises StoreError."""
    try:
        wanted = None if names is None else [TIME, *names]
        table = pq.read_table(path, columns=wanted, page_checksum_verification=True, partitioning=None)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; `melt store verify` lists what else is") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if TIME not in table.column_names:
        raise StoreError(f"{path} is not a trace of melt: it has no column {TIME}")
    collector = (table.schema.metadata or {}).get(_COLLECTOR, path.stem.encode()).decode()
    fields = [field for field in table.schema if field.name != TIME]
    declared = [_declared(collector, field.name, field.metadata) for field in fields]
    return Trace(
        collector=collector,
        t_ns=table[TIME].to_numpy(),
        columns={field.name: _decode_column(table[field.name]) for field in fields},
        streams=tuple(stream for stream in declared if stream is not None),
    )


def _describe(stream: Stream | None) -> dict[str, str]:
    """Write a declaration as the column's metadata, without defaults: a footer is not compressed."""
    if stream is None:
        return {}
    told = {"unit": stream.unit, "quantity": stream.quantity, "site": stream.site, "source": stream.source}
    told["rate_hz"] = repr(stream.rate_hz)
    if stream.cumulative:
        told["cumulative"] = "true"
    if stream.wraps_at is not None:
        told["wraps_at"] = repr(stream.wraps_at)
    return told


def _declared(collector: str, name: str, metadata: dict[bytes, bytes] | None) -> Stream | None:
    told = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    if "quantity" not in told:
        return None
    wraps_at = told.get("wraps_at")
    return Stream(
        collector=collector,
        name=name,
        quantity=told["quantity"],
        unit=told["unit"],
        site=told["site"],
        source=told["source"],
        rate_hz=float(told["rate_hz"]),
        cumulative=told.get("cumulative") == "true",
        wraps_at=None if wraps_at is None else float(wraps_at),
    )


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
