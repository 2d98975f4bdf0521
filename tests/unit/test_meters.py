"""Power meters: what each makes of what comes, hostile or not, and how a profile names them."""

from __future__ import annotations

import json
import os
import pty
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis import channels
from melt.errors import UsageError
from melt.targets.profiles import METER_COVERS, load_profiles
from melt.telemetry.meters import make_meter
from melt.telemetry.meters.base import (
    AMPS,
    JOULES,
    VOLTS,
    WATTS,
    Batch,
    ClockReading,
    MeterError,
    MeterFacts,
    PowerMeter,
    streams_of,
)
from melt.telemetry.meters.joulescope import JoulescopeMeter
from melt.telemetry.meters.linecolumns import line_format, parse_lines
from melt.telemetry.meters.lines import LineMeter
from melt.telemetry.meters.monsoon import Decoder, MonsoonMeter, Scales
from melt.telemetry.meters.options import Options
from melt.telemetry.meters.recording import DOCUMENT, Noted, Played, Writer, dump_noted, read_recording
from melt.traces import Trace

_DATA = Path(__file__).parents[1] / "data" / "meters"
_PRINTS = """\
import itertools, time
for k in itertools.count():
    print(f"{k / 100:.3f},4.0,0.5", flush=True)
    time.sleep(0.01)
"""
_HALVES = """\
import itertools, time
for k in itertools.count():
    print(f"{k},1", end="", flush=True)
    time.sleep(0.003)
    print(flush=True)
"""


def _lines(*columns: str, **more: object) -> Options:
    return Options("shelf.yaml: meter", {"columns": list(columns), **more}, ("columns", "separator"))


def _gathered(meter: PowerMeter, at_least: int, within_s: float = 10.0) -> list[Batch]:
    deadline, batches = time.monotonic() + within_s, []
    while sum(len(b.t_ns) for b in batches) < at_least and time.monotonic() < deadline:
        batch = meter.read()
        batches += [batch] if batch is not None else []
    return batches


def test_lines_are_samples_in_si_units() -> None:
    form = line_format(_lines("time_ms", "mv", "-", "ma"))
    parsed = parse_lines(["1.5, 4000, x, 250", "2.5, 4000, x, nan"], form, 0)
    assert parsed.t_ns.tolist() == [1_500_000, 2_500_000]
    assert form.columns == (VOLTS, AMPS)
    assert parsed.values[0].tolist() == [4.0, 0.25]
    assert np.isnan(parsed.values[1][1])


def test_nanoseconds_keep_their_digits() -> None:
    form = line_format(_lines("time_ns", "w", separator="space"))
    assert parse_lines(["9007199254740993  1"], form, 0).t_ns.tolist() == [9007199254740993]


@given(st.lists(st.text(), max_size=20))
def test_garbage_is_counted_and_never_believed(lines: list[str]) -> None:
    parsed = parse_lines(lines, line_format(_lines("time_s", "v", "a")), 0)
    assert len(parsed.t_ns) + parsed.unread == sum(bool(line.strip()) for line in lines)


@pytest.mark.parametrize("line", ["inf,1,1", "nan,1,1", "1e30,1,1", "1,1", "1,1,1,1", "volts", "1;1;1"])
def test_a_line_without_a_time_that_can_be_is_none(line: str) -> None:
    assert parse_lines([line], line_format(_lines("time_s", "v", "a")), 0).unread == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [(["time_s", "volt"], "not known"), (["time_s", "v"], "no power"), (["w", "mw"], "twice"), ([], "list")],
)
def test_columns_that_are_wrong_are_named(columns: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=rf"shelf\.yaml: meter: columns: .*{words}"):
        line_format(_lines(*columns))


def test_a_program_is_a_meter() -> None:
    given = {"command": [sys.executable, "-c", _PRINTS], "columns": ["time_s", "v", "a"], "rate_hz": 100}
    meter = make_meter("lines", given, "x")
    try:
        assert meter.open() == MeterFacts(name=f"{Path(sys.executable).name} -c", columns=(VOLTS, AMPS), rate_hz=100)
        meter.start()
        batches = _gathered(meter, 20)
    finally:
        meter.close()
    t_ns = np.concatenate([b.t_ns for b in batches])
    assert (np.diff(t_ns) == 10_000_000).all()
    # Not every batch has a moment of the clock.
    clock = next(b.clock for b in reversed(batches) if b.clock is not None)
    assert clock.one_way
    assert clock.received_ns - clock.sent_ns == 20_000_000


def test_a_program_that_ends_is_lost_and_one_that_is_missing_is_said() -> None:
    given = {"command": [sys.executable, "-c", "print('0,1,1')"], "columns": ["time_s", "v", "a"], "rate_hz": 1}
    meter = make_meter("lines", given, "x")
    with pytest.raises(MeterError, match=r"ended \(exit code 0\)"):
        meter.open()
    meter.close()
    with pytest.raises(UsageError, match="no-such-meter is not there"):
        make_meter("lines", {**given, "command": ["no-such-meter"]}, "x").open()


def test_a_line_that_was_joined_inside_is_no_sample() -> None:
    given = {"command": [sys.executable, "-c", _HALVES], "columns": ["time_s", "w"], "rate_hz": 300}
    meter = make_meter("lines", given, "x")
    try:
        meter.open()
        meter.start()
        t_ns = np.concatenate([b.t_ns for b in _gathered(meter, 40)])
    finally:
        meter.close()
    assert (np.diff(t_ns) == 1_000_000_000).all()


class _Flood:
    """Sends on and on; whoever reads it to its end never comes back."""

    name = "flood"

    def __init__(self) -> None:
        self.received = 0

    def open(self) -> None:
        pass

    def receive(self, timeout_s: float) -> bytes:
        self.received += 1
        assert self.received < 1000, "read without end"
        return b"1.0,2.0\n" * 1000

    def close(self) -> None:
        pass


class _Portions:
    """Sends a line each 33 ms, and in it the time of this computer when it was sent."""

    name = "portions"

    def open(self) -> None:
        self._sent_ns = time.monotonic_ns()

    def receive(self, timeout_s: float) -> bytes | None:
        left_s = self._sent_ns / 1e9 + 0.033 - time.monotonic()
        if left_s > timeout_s:
            return None
        time.sleep(max(0.0, left_s))
        self._sent_ns = time.monotonic_ns()
        return f"{self._sent_ns},1.0\n".encode()

    def close(self) -> None:
        pass


def test_the_clock_of_a_meter_that_sends_in_portions_is_read_when_one_comes() -> None:
    meter = LineMeter(_Portions(), Options("x", {"columns": ["time_ns", "w"], "rate_hz": 30}, ("columns", "rate_hz")))
    meter.open()
    batches = _gathered(meter, 20)
    late_ns = [b.clock.received_ns - b.clock.there_ns for b in batches if b.clock is not None]
    assert min(late_ns) < 10_000_000, "after the 50 ms for which lines are gathered the last portion is 17 ms old"


def test_a_source_that_never_pauses_is_read_a_part_at_a_time() -> None:
    options = Options("x", {"columns": ["time_s", "w"], "rate_hz": 1000}, ("columns", "rate_hz"))
    flood = _Flood()
    meter = LineMeter(flood, options)
    meter.open()
    assert len(_gathered(meter, 1)) == 1
    flood.received = -(2**62)
    began = time.monotonic()
    meter.start()
    assert time.monotonic() - began < 5.0


def test_a_serial_port_is_a_meter() -> None:
    pytest.importorskip("serial")
    ours, theirs = pty.openpty()
    meter = make_meter("serial", {"port": os.ttyname(theirs), "columns": ["w"], "rate_hz": 10}, "x")
    over = threading.Event()

    def speak() -> None:
        while not over.wait(0.02):
            os.write(ours, b"2.5\r\ngarbage\r\n")

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        assert meter.open().columns == (WATTS,)
        meter.start()
        batches = _gathered(meter, 2)
        assert {value for b in batches for value in b.values.ravel().tolist()} == {2.5}
        assert sum(b.unread for b in batches)
    finally:
        over.set()
        speaker.join()
        meter.close()
        os.close(ours)
        os.close(theirs)
    with pytest.raises(MeterError, match="cannot be opened"):
        make_meter("serial", {"port": "/dev/no-such-port", "columns": ["w"], "rate_hz": 10}, "x").open()


def test_a_recording_is_played_in_real_time_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time_s,note,w\n" + "".join(f"{k / 1000},x,{k}\n" for k in range(300)))
    meter = make_meter("recorded", {"file": str(path)}, "x")
    facts = meter.open()
    assert (facts.columns, round(facts.rate_hz)) == ((WATTS,), 1000)
    began = time.monotonic()
    meter.start()
    batches = _gathered(meter, 300)
    assert time.monotonic() - began >= 0.299
    assert np.concatenate([b.values for b in batches]).ravel().tolist() == list(range(300))
    with pytest.raises(MeterError, match="at its end"):
        meter.read()


def test_a_recording_goes_on_where_it_is_to_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time_ms,w\n" + "".join(f"{k},{k}\n" for k in range(50)))
    meter = make_meter("recorded", {"file": str(path), "repeat": True}, "x")
    meter.open()
    meter.start()
    t_ns = np.concatenate([b.t_ns for b in _gathered(meter, 120)])
    assert (np.diff(t_ns) == 1_000_000).all()


def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    for content, words in (("", "columns"), ("w\n1\n2\n", "time"), ("time_s,w\n1,1\n", "two samples")):
        path.write_text(content)
        with pytest.raises(UsageError, match=words):
            make_meter("recorded", {"file": str(path)}, "x").open()


def test_monsoon_packets_are_what_its_own_package_makes_of_them() -> None:
    """Expected values: what sampleEngine of `monsoon` 0.1.88 makes of these made-up packets."""
    known = json.loads((_DATA / "monsoon_packets.json").read_text())
    decoder = Decoder(Scales(**known["scales"]))
    rows = np.concatenate([decoder.decode(bytes.fromhex(packet))[1] for packet in known["packets"]])
    measured = rows[~np.isnan(rows[:, 0])]
    assert measured[:, 0] == pytest.approx(known["volts"], rel=1e-12)
    assert 1e3 * measured[:, 1] == pytest.approx(known["milliamperes"], rel=1e-9)
    with pytest.raises(ValueError, match="half a packet"):
        decoder.decode(b"\0\0\0\3" + bytes(10))


class _PlayedMonsoon:
    """Stands for `monsoon.HVPM` at the point where its packets come out; after them the cable is out."""

    class statusPacket:  # noqa: N801 - the package's name
        mainCoarseScale, mainFineScale, mainCoarseZeroOffset, mainFineZeroOffset = 6400.0, 36500.0, 15.0, 12.0  # noqa: N815
        serialNumber, firmwareVersion = 12345, 32  # noqa: N815

    def __init__(self, packets: list[bytes]) -> None:
        self._packets = iter(packets)
        self.volts: list[float] = []

    def fillStatusPacket(self) -> None: ...  # noqa: N802

    def StartSampling(self, each_ms: int, at_most: int) -> None: ...  # noqa: N802

    def setVout(self, volts: float) -> None:  # noqa: N802
        self.volts.append(volts)

    def BulkRead(self) -> bytes:  # noqa: N802
        packet = next(self._packets, None)
        if packet is None:
            raise OSError("[Errno 19] No such device")
        return packet


def test_a_monsoon_counts_what_it_dropped_and_is_lost_when_unplugged() -> None:
    known = json.loads((_DATA / "monsoon_packets.json").read_text())
    played = _PlayedMonsoon([bytes.fromhex(packet) for packet in known["packets"]])
    options = Options("x", {"voltage_v": 4.2}, ("serial_number", "voltage_v", "accuracy"))
    meter = MonsoonMeter(options, lambda serial: played)
    assert meter.open().name == "Monsoon HVPM 12345, firmware 32"
    meter.switch(True)
    meter.switch(False)
    assert played.volts == [4.2, 0]
    with pytest.raises(MeterError, match=r"is gone: .*No such device"):
        meter.start()


class _PlayedJoulescope:
    """Stands for `pyjoulescope_driver.Driver`, pushing what it is told to."""

    def __init__(self, blocks: list[dict[str, object]]) -> None:
        self._blocks, self.paths = blocks, ["u/js220/001122"]

    def device_paths(self) -> list[str]:
        return self.paths

    def open(self, path: str) -> None: ...

    def publish(self, topic: str, value: object) -> None: ...

    def subscribe(self, topic: str, flags: str, came: Callable[[str, dict[str, object]], None]) -> None:
        for block in self._blocks:
            came(topic, block)


def _block(first: int, watts: list[float]) -> dict[str, object]:
    return {"data": np.array(watts, np.float32), "sample_id": first, "sample_rate": 1_000_000, "decimate_factor": 200}


def test_a_joulescope_counts_what_is_missing_between_its_blocks() -> None:
    driver = _PlayedJoulescope([_block(0, [1, 2]), _block(400, [3]), _block(1200, [4])])
    meter = JoulescopeMeter(Options("x", {}, ("serial_number", "rate_hz", "accuracy")), lambda: driver)
    assert meter.open().columns == (WATTS,)
    meter.start()
    batches = _gathered(meter, 2)
    assert [b.t_ns.tolist() for b in batches] == [[400_000], [1_200_000]]
    assert [b.lost for b in batches] == [0, 3]
    driver.paths = []
    with pytest.raises(MeterError, match="is gone"):
        meter.read()
    with pytest.raises(MeterError, match="no Joulescope is here"):
        meter.open()


@pytest.mark.parametrize("kind", ["joulescope", "monsoon", "serial"])
def test_a_missing_package_is_one_sentence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("serial", "Monsoon", "pyjoulescope_driver"):
        monkeypatch.setitem(sys.modules, name, None)
    given = {"port": "/dev/x", "columns": ["w"], "rate_hz": 1} if kind == "serial" else {}
    with pytest.raises(UsageError, match=rf"needs .*pip install 'melt\[{kind}\]'"):
        make_meter(kind, given, "x").open()


def test_what_a_profile_says_wrongly_of_a_meter_is_named_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"shelf\.yaml: meter: no meter is called 'monson': did you mean monsoon"):
        make_meter("monson", {}, "shelf.yaml: meter")
    with pytest.raises(UsageError, match=r"shelf\.yaml: meter: unknown key 'voltage': did you mean voltage_v"):
        make_meter("monsoon", {"voltage": 4}, "shelf.yaml: meter")


def test_a_recording_comes_back_as_it_was_written(tmp_path: Path) -> None:
    noted = Noted(
        facts=MeterFacts(name="m", columns=(VOLTS, AMPS), rate_hz=10, accuracy=0.01),
        covers="whole device",
        device_clock=((1, 2, 3),),
        played=(Played(busy_ns=((5, 6), (7, 8))),),
    )
    (tmp_path / DOCUMENT).write_bytes(dump_noted(noted))
    writer = Writer(tmp_path)
    values = np.array([[4.0, 0.5], [4.0, np.nan]])
    writer.append(Batch(np.array([10, 20]), values, ClockReading(1, 20, 3, True), lost=2))
    writer.append(Batch(np.array([30]), values[:1], ClockReading(4, 30, 6), unread=1))
    writer.close()
    with (tmp_path / "meter.samples").open("ab") as out:
        out.write(b"torn")
    found = read_recording(tmp_path)
    assert found is not None
    assert (found.noted, found.lost, found.unread, found.torn) == (noted, 2, 1, True)
    assert found.clock == (ClockReading(1, 20, 3, True), ClockReading(4, 30, 6))
    np.testing.assert_array_equal(found.values, np.concatenate([values, values[:1]]))
    assert read_recording(tmp_path / "elsewhere") is None


def test_an_external_meter_goes_before_what_the_device_says_of_itself() -> None:
    for covers in METER_COVERS:
        facts = MeterFacts(name="m", columns=(VOLTS, AMPS, JOULES), rate_hz=10)
        streams = streams_of(facts, covers)
        assert [s.name for s in streams] == ["meter_v", "meter_a", "meter_j", "meter_w"]
        columns = {s.name: np.ones(2) for s in streams}
        trace = Trace(collector="meter", t_ns=np.array([0, 1]), columns=columns, streams=streams)
        found = channels.power_meter([trace])
        assert found is not None
        assert found[0] == f"external meter, {covers}"
        assert [s.stream.name for s in found[1]] == ["meter_j"]


def test_a_profile_names_the_meter_of_one_device(tmp_path: Path) -> None:
    path = tmp_path / "shelf.yaml"
    path.write_text("title: x\nmatch: {name: x}\nmeter: {kind: monsoon, voltage_v: 4.2}\n")
    meter = load_profiles(tmp_path)[0].meter
    assert meter is not None
    assert (meter.kind, meter.covers, meter.options) == ("monsoon", "whole device", {"voltage_v": 4.2})
    assert meter.where == f"{path}: meter"
    path.write_text("title: x\nmatch: {name: x}\nmeter: {kind: monsoon, covers: half}\n")
    with pytest.raises(UsageError, match=r"meter\.covers: expected whole device or compute module"):
        load_profiles(tmp_path)
