"""Parsers turn what the kernel writes into numbers, and whatever else they meet into NaN."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.telemetry import parsers
from melt.telemetry.base import Parser

PARSERS: dict[str, tuple[Parser, int]] = {
    "number": (parsers.number(1e3), 1),
    "number for four": (parsers.number(1e-3, copies=4, valid=(0, 1e10)), 4),
    "word": (parsers.word({"Charging": 1.0}), 1),
    "keyed": (parsers.keyed("VmRSS", "Threads"), 2),
    "cpu_times": (parsers.cpu_times((0, 1)), 5),
    "process_times": (parsers.process_times, 5),
    "allowed_cpus": (parsers.allowed_cpus, 1),
    "pressure": (parsers.pressure("some", "full"), 2),
    "csv_fields": (parsers.csv_fields(1, (1.0, 100.0)), 2),
    "joined": (parsers.joined(parsers.number(), parsers.keyed("Threads")), 2),
}
NEAR_MISSES = st.sampled_from(
    [
        b"cpu0 1 2 3 4",
        b"cpu1 9 9 9 9 9 9 9 9 9 9\n",
        b"cpu  18446744073709551615 1 1 1 1 1 1 1\n",
        b"VmRSS:\t 12 kB\n",
        b"Threads:\t",
        b"12 (a) b) R " + b"1 " * 40,
        b"some avg10=0 total=12\n",
        b"Cpus_allowed_list:\t0-99999999999999\n",
        b"0, 12.5, [N/A]",
        b"9" * 5000,
        b"1e999",
        b"nan",
        b"-inf",
        b"0x10",
        b"\n",
        b"Charging",
    ]
)


@pytest.mark.parametrize("name", PARSERS)
@given(raw=st.one_of(st.binary(max_size=300), st.lists(NEAR_MISSES, max_size=4).map(b"".join)))
def test_any_bytes_give_the_declared_number_of_floats(name: str, raw: bytes) -> None:
    parse, width = PARSERS[name]
    values = parse(raw)
    assert len(values) == width
    assert all(type(value) is float and not math.isinf(value) for value in values)


@given(value=st.integers(-(10**15), 10**15))
def test_a_number_is_read_exactly(value: int) -> None:
    assert parsers.number()(b" %d\n" % value) == (float(value),)
    assert parsers.number(1e6)(b"%d\n\0" % value) == (value / 1e6,)


@pytest.mark.parametrize("raw", [b"", b"\n", b"N/A", b"<unknown>", b"12 34", b"0x12", b"1,5", b"\xff"])
def test_what_is_no_number_is_nan(raw: bytes) -> None:
    assert math.isnan(parsers.number()(raw)[0])


def test_a_value_out_of_range_is_nan_at_every_site() -> None:
    assert all(math.isnan(value) for value in parsers.number(1e3, copies=2, valid=(-100, 250))(b"-256000"))


def test_a_word_is_looked_up() -> None:
    parse = parsers.word({"Charging": 1.0, "Full": 0.0})
    assert (parse(b"Charging\n"), parse(b"Full")) == ((1.0,), (0.0,))
    assert math.isnan(parse(b"Unknown\n")[0])


def test_memory_comes_in_bytes_and_counts_as_they_are() -> None:
    raw = b"Name:\tpython VmRSS: 5 kB\nVmRSS:\t  2048 kB\nRssAnon:\t 1024 kB\nThreads:\t7\n"
    assert parsers.keyed("VmRSS", "RssAnon", "Threads")(raw) == (2_097_152.0, 1_048_576.0, 7.0)
    assert math.isnan(parsers.keyed("VmHWM")(raw)[0])


def test_this_machine_reads() -> None:
    status = Path("/proc/self/status").read_bytes()
    rss, peak, threads = parsers.keyed("VmRSS", "VmHWM", "Threads")(status)
    assert 0 < rss <= peak
    assert threads >= 1
    assert parsers.allowed_cpus(status)[0] >= 1
    user_s, system_s, minor, major, cpu = parsers.process_times(Path("/proc/self/stat").read_bytes())
    assert user_s + system_s > 0
    assert minor > 0
    assert major >= 0
    assert cpu >= 0
    busy_s, total_s, stolen_s = parsers.cpu_times((0,))(Path("/proc/stat").read_bytes())
    assert 0 < busy_s < total_s
    assert stolen_s >= 0


def test_a_process_may_have_any_name() -> None:
    fields = b" ".join(b"%d" % n for n in range(4, 53))
    user_s, system_s, minor, major, cpu = parsers.process_times(b"99 (a) R (b\n) S " + fields)
    assert (user_s, system_s, minor, major, cpu) == (0.14, 0.15, 10.0, 12.0, 39.0)


def test_busy_is_all_but_idle_and_iowait_and_guests_are_not_counted_twice() -> None:
    raw = b"cpu  100 0 0 0 0 0 0 25 100 0\ncpu0 100 0 50 800 40 3 7 0 100 0\nintr 1\n"
    busy_s, total_s, gone_busy_s, gone_total_s, stolen_s = parsers.cpu_times((0, 5))(raw)
    assert (busy_s, total_s, stolen_s) == (1.6, 10.0, 0.25)
    assert math.isnan(gone_busy_s)
    assert math.isnan(gone_total_s)


def test_a_line_of_proc_stat_that_was_cut_is_left_out() -> None:
    assert all(math.isnan(v) for v in parsers.cpu_times((0,))(b"cpu0 100 0 50 800 40 3 7 0 10"))


def test_pressure_is_the_total_in_seconds() -> None:
    raw = b"some avg10=0.12 avg60=0.40 avg300=0.31 total=71231888\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
    assert parsers.pressure("full", "some")(raw) == (5e-6, 71.231888)


def test_a_gpu_line_with_gaps() -> None:
    power, busy, missing = parsers.csv_fields(1, (1.0, 100.0, 1.0))(b"0, 46.93, [N/A]")
    assert power == 46.93
    assert math.isnan(busy)
    assert math.isnan(missing)
