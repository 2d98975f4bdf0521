"""From journal bytes to traces: order, gaps, odd programs, counters, and nothing invented."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from melt.records import Stream
from melt.telemetry.base import Discovery, FileSource, LineSource
from melt.telemetry.decode import decode
from melt.telemetry.journal import Journal, JournalWriter, Tick, read_journal
from melt.telemetry.parsers import csv_fields, number
from melt.telemetry.platforms.columns import Collector
from melt.telemetry.schedule import Schedule, make_schedule
from melt.traces import Trace

NAN = float("nan")


def stream(collector: str, name: str, *, quantity: str = "count", unit: str = "1", site: str = "x") -> Stream:
    return Stream(collector=collector, name=name, quantity=quantity, unit=unit, site=site, source="/f", rate_hz=100.0)


def thermometers(count: int) -> Discovery:
    names = [f"t{i}" for i in range(count)]
    return Discovery(tuple(FileSource(f"/{name}", 100.0, (stream("sensors", name),), number(1e3)) for name in names))


def journal(write: Callable[[JournalWriter], None]) -> Journal:
    out = io.BytesIO()
    writer = JournalWriter(out, b"12345678")
    writer.meta({"run": "r"})
    write(writer)
    return read_journal(out.getvalue())


def one(traces: list[Trace], collector: str) -> Trace:
    return next(trace for trace in traces if trace.collector == collector)


def same(values: object, expected: list[float]) -> None:
    np.testing.assert_array_equal(np.asarray(values), expected)


def test_ticks_become_rows_and_what_could_not_be_read_is_nan() -> None:
    def write(writer: JournalWriter) -> None:
        writer.tick(0, 100, 5, [b"41000\n", b"7000\n"])
        writer.tick(0, 200, 5, [b"41000\n", 5])
        writer.tick(0, 300, 5, [b"N/A\n", b"7000\n"])

    [trace] = decode(journal(write), make_schedule(thermometers(2)))
    assert trace.t_ns.dtype == np.int64
    same(trace.t_ns, [100, 200, 300])
    same(trace.columns["t0"], [41, 41, NAN])
    same(trace.columns["t1"], [7, NAN, 7])
    assert [s.name for s in trace.streams] == list(trace.columns) == ["t0", "t1"]


def test_a_run_that_died_before_its_first_tick_has_empty_traces() -> None:
    [trace] = decode(Journal(), make_schedule(thermometers(2)))
    assert trace.t_ns.shape == (0,)
    assert {column.dtype.name for column in trace.columns.values()} == {"float64"}


def test_rows_are_in_the_order_of_time() -> None:
    ticks = [Tick(0, t_ns, 1, (b"%d" % t_ns,)) for t_ns in (300, 100, 200)]
    [trace] = decode(Journal(records=[*ticks]), make_schedule(thermometers(1)))
    same(trace.t_ns, [100, 200, 300])
    same(trace.columns["t0"], [0.1, 0.2, 0.3])


def test_ticks_of_another_schedule_are_not_mistaken_for_this_one() -> None:
    ticks = [Tick(0, 1, 1, (b"1", b"2")), Tick(7, 2, 1, (b"1",)), Tick(0, 3, 1, (b"3",))]
    [trace] = decode(Journal(records=[*ticks]), make_schedule(thermometers(1)))
    same(trace.t_ns, [3])


def test_a_file_is_parsed_once_per_content() -> None:
    seen = []

    def parse(raw: bytes) -> tuple[float, ...]:
        seen.append(raw)
        return (float(raw),)

    source = FileSource("/f", 100.0, (stream("sensors", "f"),), parse)
    ticks = [Tick(0, i, 1, (b"%d" % (i % 3),)) for i in range(1000)]
    [trace] = decode(Journal(records=[*ticks]), make_schedule(Discovery((source,))))
    assert seen == [b"0", b"1", b"2"]
    same(trace.columns["f"], [float(i % 3) for i in range(1000)])


def program() -> Schedule:
    streams = (stream("gpu", "a"), stream("gpu", "b"))
    return make_schedule(Discovery(lines=(LineSource("gpu", ("prog",), streams, csv_fields(0, (1.0, 1.0))),)))


def test_lines_of_a_program_become_rows_and_headings_do_not() -> None:
    def write(writer: JournalWriter) -> None:
        writer.line(2, 100, b"power, busy")
        writer.line(0, 110, b"1, 2")
        writer.line(2, 200, b"12.5, [N/A]")
        writer.line(3, 210, b"9, 9")
        writer.line(2, 300, b"")
        writer.line(2, 400, b"13.5, 0")

    [trace] = decode(journal(write), program())
    same(trace.t_ns, [200, 400])
    same(trace.columns["a"], [12.5, 13.5])
    same(trace.columns["b"], [NAN, 0])


def test_a_line_that_was_cut_is_put_together() -> None:
    def write(writer: JournalWriter) -> None:
        writer.line(2, 100, b"1", cut=True)
        writer.line(2, 150, b"2, ", cut=True)
        writer.line(2, 160, b"3")
        writer.line(2, 200, b"4, ", cut=True)

    [trace] = decode(journal(write), program())
    same(trace.t_ns, [100])
    same(trace.columns["a"], [12])


def counters(*names: str) -> tuple[Collector, tuple[Stream, ...]]:
    made = Collector("system", 10.0)
    site = names[0].partition("_")[0]
    return made, tuple(made.stream(n, "duration", site=site, source="/proc/stat", cumulative=True) for n in names)


def test_load_is_the_busy_share_of_each_span() -> None:
    made, streams = counters("cpu0_busy", "cpu0_total")
    schedule = make_schedule(Discovery((made.file("/proc/stat", streams, csv_fields(0, (1.0, 1.0))),)))
    rows = [b"0,0", b"1,4", b"1,4", b"5,8", b"0,1", b"1,2"]
    [trace] = decode(Journal(records=[Tick(0, i, 1, (raw,)) for i, raw in enumerate(rows)]), schedule)
    same(trace.columns["cpu0_busy_s"], [0, 1, 1, 5, 0, 1])
    same(trace.columns["cpu0_busy_ratio"], [NAN, 0.25, NAN, 1, NAN, 1])
    assert trace.streams[-1].unit == "ratio"
    assert not trace.streams[-1].cumulative


def test_the_runner_uses_so_many_cpus() -> None:
    made, streams = counters("cpu_user", "cpu_system")
    schedule = make_schedule(Discovery((made.file("/proc/{pid}/stat", streams, csv_fields(0, (1.0, 1.0))),)))
    ticks = [Tick(0, i * 500_000_000, 1, (b"%f,%f" % (i * 0.75, i * 0.25),)) for i in range(3)]
    [trace] = decode(Journal(records=[*ticks]), schedule)
    same(trace.columns["cpus_used"], [NAN, 2, 2])


def test_power_comes_of_volts_and_amperes_of_one_chip_only() -> None:
    made = Collector("sensors", 10.0)
    files = [
        made.sensor("/sys/class/hwmon/hwmon0/in1_input", "rail", "voltage", site="rail"),
        made.sensor("/sys/class/hwmon/hwmon0/curr1_input", "rail", "current", site="rail"),
        made.sensor("/sys/class/hwmon/hwmon1/curr1_input", "rail", "current", site="rail"),
        made.sensor("/sys/class/power_supply/BAT0/voltage_now", "bat0_voltage", "voltage", site="BAT0"),
        made.sensor("/sys/class/power_supply/BAT0/current_now", "bat0_current", "current", site="BAT0"),
    ]
    tick = Tick(0, 1, 1, (b"5", b"2", b"100", b"4", b"-3"))
    [trace] = decode(Journal(records=[tick]), make_schedule(Discovery(tuple(files))))
    powers = {s.name: float(trace.columns[s.name][0]) for s in trace.streams if s.quantity == "power"}
    assert powers == {"rail_power_w": 10.0, "bat0_power_w": 12.0}


def test_a_collector_with_two_rates_is_a_mistake_of_its_platform() -> None:
    files = (
        FileSource("/a", 10.0, (stream("sensors", "a"),), number()),
        FileSource("/b", 20.0, (stream("sensors", "b"),), number()),
    )
    with pytest.raises(ValueError, match="several rates"):
        make_schedule(Discovery(files))
