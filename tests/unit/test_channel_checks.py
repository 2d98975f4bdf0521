"""What a self-test says of a collector and of a burst, on made-up traces of known rates, gaps and values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis_samples import S, at, channel

from melt.analysis.burst_checks import check_memory, check_power
from melt.analysis.channel_checks import check_collector
from melt.analysis.selftest import Status
from melt.records import Stream
from melt.traces import Trace

WHOLE = at(0), at(20)


def trace(values, *, rate_hz=10.0, got_hz=None, quantity="temperature", unit="c", name="t_c", cumulative=False):
    stream = Stream(
        collector="sensors",
        name=name,
        quantity=quantity,
        unit=unit,
        site="cpu",
        source="/sys/t",
        rate_hz=rate_hz,
        cumulative=cumulative,
    )
    values = np.asarray(values, np.float64)
    t_ns = at(0) + (np.arange(len(values)) * S / (got_hz or rate_hz)).astype(np.int64)
    return Trace(collector="sensors", t_ns=t_ns, columns={name: values}, streams=(stream,))


def test_a_collector_that_delivers_passes_with_its_figures():
    found = check_collector(trace([40.0] * 200), WHOLE, raw="raw")
    assert found.status is Status.PASS
    assert found.figures["got_hz"] == pytest.approx(10)
    assert found.figures["longest_gap_s"] == pytest.approx(0.1)
    assert found.figures["readable_ratio"] == 1
    assert found.raw == "raw"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (trace([40.0] * 100, got_hz=5), "5 Hz came, 10 Hz were asked for"),
        (trace([]), "nothing came in 20 s"),
        (trace([40.0]), "one reading came"),
        (trace([40.0] * 100 + [np.nan] * 100), "/sys/t was readable 100 of 200 times (No such device)"),
        (trace([40.0] * 199 + [4000.0]), "t_c was 1 times not within 1 to 125 c"),
        (trace([-3.0] * 200, quantity="power", unit="w", name="p_w"), "p_w was 200 times not within"),
        (trace(range(200, 0, -1), quantity="energy", unit="j", name="e_j", cumulative=True), "went backwards"),
    ],
)
def test_what_is_wrong_is_said(made, said):
    found = check_collector(made, WHOLE, {"/sys/t": "No such device"})
    assert found.status is Status.FAIL
    assert said in found.said


def test_a_gap_is_said_and_how_long_it_was():
    whole = trace([40.0] * 200)
    keep = (whole.t_ns < at(5)) | (whole.t_ns > at(6))
    holed = replace(whole, t_ns=whole.t_ns[keep], columns={"t_c": whole.columns["t_c"][keep]})
    assert "nothing came for 1.2 s" in check_collector(holed, WHOLE).said


def test_a_sensor_that_is_not_fitted_is_no_failure():
    found = check_collector(trace([-256.0] * 200), WHOLE)
    assert found.status is Status.PASS
    assert "t_c is offline" in found.said


def test_a_column_declared_at_its_renewal_is_judged_by_its_collector():
    fast, slow = trace([40.0] * 200), trace([3.0] * 200, rate_hz=0.5, got_hz=10, quantity="power", unit="w", name="p_w")
    both = replace(fast, columns={**slow.columns, **fast.columns}, streams=(*slow.streams, *fast.streams))
    assert check_collector(both, WHOLE).status is Status.PASS


def test_a_meter_that_is_read_more_often_than_it_measures_is_told():
    batched = trace(np.floor(np.arange(200) / 20) * 8, quantity="energy", unit="j", name="e_j", cumulative=True)
    found = check_collector(batched, WHOLE)
    assert found.status is Status.PASS
    assert found.figures["renewed_hz"] == pytest.approx(0.45, abs=0.02)
    assert "renewed 0.45 times a second" in found.said


REST, BURST = (at(2), at(9)), (at(10), at(18))


def system(rest_w, burst_w):
    return channel("device_w", "power", lambda t: np.where(t < 10, rest_w, burst_w), site="device")


def test_power_that_rises_passes():
    found = check_power([system(2.0, 7.5)], REST, BURST)
    assert found.status is Status.PASS
    assert found.figures["rest_w"] == pytest.approx(2.0)
    assert found.figures["burst_w"] == pytest.approx(7.5, rel=0.05)
    assert "device_w" in found.raw


def test_power_that_does_not_rise_fails():
    assert "does not rise" in check_power([system(5.0, 5.0)], REST, BURST).said


def test_a_busy_device_is_told_so():
    busy = channel("cpu0_busy_s", "duration", lambda t: 0.9 * t, cumulative=True)
    found = check_power([system(5.0, 4.9), busy], REST, BURST)
    assert found.status is Status.FAIL
    assert "busy before, too (90%)" in found.said


def test_no_meter_is_no_failure():
    assert check_power([], REST, BURST).status is Status.ABSENT


def test_memory_must_be_what_was_taken():
    rss = channel("rss_bytes", "memory", lambda t: np.where((t > 10) & (t < 18), 130e6, np.nan), site="runner")
    assert check_memory([rss], 128_000_000, 131e6).status is Status.PASS
    footprint = channel("footprint_bytes", "memory", lambda t: np.where(t > 10, 3e6, np.nan), site="runner")
    found = check_memory([rss, footprint], 128_000_000, 131e6)
    assert found.status is Status.FAIL
    assert "footprint 3 MiB" in found.said
    assert check_memory([], 128_000_000, None).status is Status.FAIL
