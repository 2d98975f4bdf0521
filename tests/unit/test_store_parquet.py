"""Traces survive Parquet bit for bit, stay small, and read the same in other programs."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import make_stream, make_trace

from melt.errors import StoreError
from melt.store.parquet import encode_trace, read_trace
from melt.traces import Trace

_UNITS = ["c", "w", "hz", "bytes", "s", "j", "1", "ratio", "tok/s", "something"]
_NUMBERS = st.one_of(
    st.floats(width=64),
    st.integers(-(2**60), 2**60).map(float),
    st.integers(-(10**9), 10**9).map(lambda n: n / 1000),
    st.integers(-(10**9), 10**9).map(lambda n: n / 1e6),
    st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 2.0**53, -(2.0**53) - 2]),
)


def _bits(values: np.ndarray) -> list[int]:
    """Bit patterns, all NaN made alike: a NaN means one thing, not measured."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()


@settings(max_examples=3 * settings.default.max_examples // 2)
@given(values=st.lists(_NUMBERS, max_size=30), unit=st.sampled_from(_UNITS))
def test_every_bit_comes_back(tmp_path_factory: pytest.TempPathFactory, values: list[float], unit: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    column = np.array(values, dtype=np.float64)
    t_ns = np.cumsum(np.arange(len(values), dtype=np.int64))
    stream = make_stream("x", "temperature", unit, cumulative=len(values) % 2 == 0)
    trace = Trace(collector="sensors", t_ns=t_ns, columns={"x": column}, streams=(stream,))
    path.write_bytes(encode_trace(trace))
    back = read_trace(path)
    assert _bits(back.columns["x"]) == _bits(column)
    assert back.t_ns.tolist() == t_ns.tolist()
    assert back.t_ns.dtype == np.int64
    assert back.streams == (stream,)
    assert back.collector == "sensors"


def test_types_follow_the_unit(duckdb: ModuleType, tmp_path: Path) -> None:
    """A column with whole degrees in one run and halves in the next must not become an integer in the first."""
    path = tmp_path / "t.parquet"
    for values in ([45.0, 46.0], [45.5, np.nan]):
        stream = make_stream("zone_c", "temperature", "c")
        columns = {"zone_c": np.array(values)}
        path.write_bytes(encode_trace(Trace(collector="s", t_ns=np.arange(2), columns=columns, streams=(stream,))))
        described = duckdb.execute(f"DESCRIBE SELECT zone_c FROM '{path}'").fetchone()
        assert described is not None
        assert described[1] == "DECIMAL(18,3)"


def test_other_programs_read_the_same(duckdb: ModuleType, polars: ModuleType, tmp_path: Path) -> None:
    trace = make_trace(300)
    path = tmp_path / "sensors.parquet"
    path.write_bytes(encode_trace(trace))
    frame = polars.read_parquet(path)
    rows = duckdb.execute(f"SELECT * FROM '{path}'").fetchnumpy()
    for name, values in trace.columns.items():
        theirs = frame[name].cast(polars.Float64).fill_null(float("nan")).to_numpy()
        np.testing.assert_allclose(theirs, values, rtol=1e-15)
        np.testing.assert_allclose(np.ma.filled(rows[name].astype(float), np.nan), values, rtol=1e-15)
    assert duckdb.execute(f"SELECT max(zone0_c) FROM '{path}'").fetchone() == (
        Decimal(str(np.nanmax(trace.columns["zone0_c"]))),
    )
    assert frame["zone0_c"].null_count() == 2


def test_chosen_columns(tmp_path: Path) -> None:
    path = tmp_path / "sensors.parquet"
    path.write_bytes(encode_trace(make_trace(10)))
    assert list(read_trace(path, ["cpu0_hz"]).columns) == ["cpu0_hz"]


def test_small_enough(tmp_path: Path) -> None:
    """Two minutes of 60 channels at 10 Hz: at most 2 bytes a sample, with everything the file says about itself."""
    random = np.random.default_rng(3)
    rows, columns, streams = 1200, {}, []
    for i in range(24):
        columns[f"cpu{i}_hz"] = random.choice([800_000, 1_200_000, 2_000_000, 3_100_000], rows) * 1000.0
        streams.append(make_stream(f"cpu{i}_hz", "frequency", "hz"))
    for i in range(16):
        columns[f"zone{i}_c"] = (45_000 + 500 * np.cumsum(random.integers(-1, 2, rows))) / 1000
        streams.append(make_stream(f"zone{i}_c", "temperature", "c"))
    for i in range(16):
        columns[f"cpu{i}_busy_s"] = np.cumsum(random.integers(0, 11, rows)) / 100
        streams.append(make_stream(f"cpu{i}_busy_s", "duration", "s", cumulative=True))
    for i in range(4):
        columns[f"mem{i}_bytes"] = (8_000_000 - np.cumsum(random.integers(-40, 50, rows))) * 1024.0
        streams.append(make_stream(f"mem{i}_bytes", "memory", "bytes"))
    t_ns = np.arange(rows) * 100_000_000 + random.integers(0, 50_000, rows)
    data = encode_trace(Trace(collector="sensors", t_ns=t_ns, columns=columns, streams=tuple(streams)))
    assert data.size / (rows * len(columns)) <= 2.0


def test_the_streams_of_the_first_stores_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_form(trace: Trace) -> str:
        keys = ("quantity", "unit", "site", "source", "rate_hz", "cumulative", "wraps_at")
        return json.dumps({"": keys, **{s.name: [getattr(s, key) for key in keys] for s in trace.streams}})

    trace = make_trace()
    monkeypatch.setattr("melt.store.parquet._dump_streams", first_form)
    (tmp_path / "sensors.parquet").write_bytes(encode_trace(trace))
    assert read_trace(tmp_path / "sensors.parquet").streams == trace.streams


def test_damage_is_said_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sensors.parquet"
    whole = bytes(encode_trace(make_trace(2000)))
    path.write_bytes(whole)
    read_trace(path)
    for at in range(40, len(whole) // 2, len(whole) // 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(StoreError, match=r"sensors\.parquet"):
            read_trace(path)
    for at in range(len(whole) // 2, len(whole), 37):
        # The footer has no checksum of its own (`melt store verify` has), but it is never a traceback.
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with contextlib.suppress(StoreError):
            read_trace(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        read_trace(path)


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    for columns in ({"x": np.zeros(3)}, {"t_ns": np.zeros(2)}):
        with pytest.raises(StoreError, match="does not fit"):
            encode_trace(Trace(collector="s", t_ns=np.arange(2), columns=columns))
