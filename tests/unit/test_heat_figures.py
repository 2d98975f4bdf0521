"""What a run's heat is told as: from token times and sensors to figures with their notes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from heat_samples import BOOT_NS, S, tokens

from melt.analysis.figures import Figure
from melt.analysis.heat import heat_figures, main_curve, recovery
from melt.analysis.thermal import warming
from melt.records import Stream, Workload
from melt.telemetry.journal import Event
from melt.traces import Trace

WORKLOAD = Workload(kind="sustained", n_prompt=64, n_gen=32, duration_s=120.0)
RUN_S, END_S = 120.0, 240.0
SPAN = (BOOT_NS, BOOT_NS + round(RUN_S * S))
ENDED = [Event("runner_exited", SPAN[1], {"exit_code": 0})]


def sensor(
    name: str,
    quantity: str,
    value: Callable[[np.ndarray], object],
    *,
    site: str,
    unit: str = "1",
    until_s: float = END_S,
    cumulative: bool = False,
) -> Trace:
    """A channel read twice a second, from 10 s before the run on."""
    seconds = np.arange(-10, until_s, 0.5)
    stream = Stream(
        collector=name,
        name=name,
        quantity=quantity,
        unit=unit,
        site=site,
        source="f",
        rate_hz=2.0,
        cumulative=cumulative,
    )
    values = np.broadcast_to(np.asarray(value(seconds), np.float64), seconds.shape)
    return Trace(
        collector=name, t_ns=BOOT_NS + np.round(seconds * S).astype(np.int64), columns={name: values}, streams=(stream,)
    )


def chip(until_s: float = END_S) -> Trace:
    """30 °C, a degree a second up to 70 while it runs, then half-way back each 10 s."""

    def value(t: np.ndarray) -> np.ndarray:
        return np.where(t < RUN_S, 30 + np.clip(t, 0, 40), 30 + 40 * 0.5 ** ((t - RUN_S) / 10))

    return sensor("cpu_c", "temperature", value, site="cpu-thermal", unit="c", until_s=until_s)


def status(from_s: float, to_s: float) -> Trace:
    return sensor("thermal_status", "state", lambda t: np.where((t >= from_s) & (t < to_s), 3, 0), site="device")


def told(falls_s: float | None, *traces: Trace) -> dict[str, Figure]:
    trace = tokens(lambda t: 20.0 if falls_s is None or t < falls_s else 12.0, RUN_S)
    curve = main_curve(trace, (), WORKLOAD)
    return dict(heat_figures(WORKLOAD, curve, traces, ENDED, SPAN, "no token"))


def test_the_device_is_quoted_beside_the_curve() -> None:
    found = told(60.0, chip(), status(52.0, 130.0))
    throttle = found["time_to_throttle_s"]
    assert throttle.value == pytest.approx(60, abs=2.5)
    assert throttle.uncertainty is not None
    assert throttle.note == "the device reported thermal status 3 (severe) at 51.6 s"
    assert throttle.figures["reported_s"] == pytest.approx(51.6)
    assert found["steady_ratio"].value == pytest.approx(0.6, rel=0.01)


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (sensor("c", "state", lambda t: t > 50, site="x"), "the device has no report of throttling"),
        (sensor("cooling_x", "state", lambda t: t > 50, site="cpufreq-0"), "reported cpufreq-0 at work at 50.1 s"),
        (
            sensor("cpu0_limit_hz", "frequency", lambda t: np.where(t < 50, 2e9, 1e9), site="cpu0-3", unit="hz"),
            "reported clock limit of cpu0-3 lowered at 49.6 s",
        ),
        (
            sensor("throttled", "count", lambda t: np.maximum(0, np.floor(t - 50)), site="core", cumulative=True),
            "reported throttle counter of core rose at 50.6 s",
        ),
        (status(500, 600), "the device reported no throttling"),
    ],
)
def test_every_kind_of_report(trace: Trace, words: str) -> None:
    note = told(60.0, trace)["time_to_throttle_s"].note
    assert note is not None
    assert note.endswith(words)


def test_a_run_that_never_throttles_says_so() -> None:
    found = told(None, chip(), status(500, 600))
    assert found["time_to_throttle_s"].value is None
    assert found["time_to_throttle_s"].note == (
        "never below 90 % of the burst for good; the device reported no throttling"
    )
    assert found["steady_ratio"].value == pytest.approx(1.0, rel=0.01)


def test_a_device_that_was_warm_when_it_began_has_no_burst() -> None:
    found = told(60.0, chip(), status(-10, 130))
    assert "not cold: thermal status 3 (severe) within it" in str(found["burst_tps"].note)
    assert found["time_to_throttle_s"].figures["reported_s"] == pytest.approx(0, abs=0.6)


def test_what_throttles_at_the_end_has_no_steady_state() -> None:
    found = told(100.0)
    assert found["steady_tps"].value is None
    assert "it throttled within its last" in str(found["steady_tps"].note)
    assert found["steady_ratio"].value is None


def test_a_fall_that_goes_on_has_no_steady_state() -> None:
    curve = main_curve(tokens(lambda t: 20 - t / 10, RUN_S), (), WORKLOAD)
    found = heat_figures(WORKLOAD, curve, (), ENDED, SPAN, "no token")
    assert found["steady_tps"].value is None
    assert "not steady: it fell by" in str(found["steady_tps"].note)


def test_too_few_requests_and_no_tokens() -> None:
    long_requests = Workload(kind="sustained", n_gen=256, duration_s=60.0)
    curve = main_curve(tokens(lambda t: 20.0, 60, n_gen=256), (), long_requests)
    notes = {f.note for f in heat_figures(long_requests, curve, (), [], None, "no token").values()}
    assert notes == {"16 stretches of whole requests are needed, 0.25 s or more each: run it longer"}
    assert {f.note for f in heat_figures(WORKLOAD, None, (), [], None, "no token").values()} == {"no token"}


def test_recovery_is_half_of_the_way_back() -> None:
    found = recovery([chip(), status(100, 135)], SPAN, ENDED, 0)
    assert found is not None
    assert found.value == pytest.approx(10.0, abs=0.5)
    assert found.figures["fell_c"] == pytest.approx(40, abs=0.1)
    assert found.figures["reported_until_s"] == pytest.approx(14.5)
    assert found.note == "half-way back; from 70.0 to 30.0 °C in 120 s, throttled for 14.5 s of it"


def test_a_rest_that_is_too_short_to_recover() -> None:
    short = recovery([chip(until_s=RUN_S + 5)], SPAN, ENDED, 0)
    assert short is not None
    assert short.value is None
    assert "start 30.0 °C: ask for `sampling: {recovery_s: 60}`" in str(short.note)
    unwatched = recovery([chip(until_s=RUN_S)], SPAN, ENDED, 0)
    assert unwatched is not None
    assert "it was not watched after the run" in str(unwatched.note)
    cool = sensor("cpu_c", "temperature", lambda t: 40 + 0.5 * (t % 2), site="cpu", unit="c")
    assert "nothing to recover" in str(getattr(recovery([cool], SPAN, ENDED, 0), "note", None))
    assert recovery([], SPAN, ENDED, 0) is None


def test_start_and_rise_are_those_of_the_hottest_sensor() -> None:
    found = warming([chip(), sensor("skin_c", "temperature", lambda t: 35 + t / 100, site="skin", unit="c")], SPAN)
    assert found["temperature_start_c"].value == pytest.approx(30.0)
    assert found["temperature_rise_c"].value == pytest.approx(40.0)
    assert warming([], SPAN) == {}
