"""Rest before and after a run, energy above it, and every reason for which an energy is refused or in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis_samples import agent_events, at, channel, figures, make_start, notes, run, runner_said

from melt.analysis.baseline import Baseline, find_baseline
from melt.analysis.evaluate import Evaluation
from melt.analysis.meter import find_meter
from melt.records import Calibration, Metric, Reason, Sampling, Verdict
from melt.telemetry.journal import Event
from melt.traces import Trace

REQUIRED = make_start(sampling=Sampling(energy="required"))


def busy(t: np.ndarray) -> np.ndarray:
    """Whether the sample run prefills or decodes: from 4.01 s, then for 2.28 s every 4 s from 10.01 s on."""
    return ((t > 4.0) & (t < 8.0)) | ((t > 10.0) & (t < 22.0) & ((t - 10.0) % 4.0 < 2.3))


def rest_events(started_s: float = 0.9, exited_s: float = 50.0) -> list[Event]:
    """What the agent tells of a runner between two rests; the job begins with the first sample."""
    moved = {"runner_started": at(started_s), "runner_exited": at(exited_s)}
    events = [Event(e.name, moved.get(e.name, e.t_ns), e.data) for e in agent_events()]
    return [Event("self", at(0), {}), *events, Event("end", at(60), {})]


def power(watts: Any, **how: Any) -> Trace:
    return channel("psys_w", "power", watts, site="psys", unit="w", **{"rate_hz": 50.0, **how})


def step_by(seen: Evaluation, name: str, repetition: int | None = None) -> Metric:
    return next(m for m in seen.metrics if m.name == name and m.repetition == repetition)


def codes(seen: Evaluation) -> list[str]:
    energy = ("energy", "meter", "baseline", "charge_", "no_power")
    return [reason.code for reason in seen.reasons if reason.code.startswith(energy)]


def resting(before_w: float, after_w: float, seed: int = 0) -> Trace:
    """2 W above a rest that is another one after the run; some noise."""
    noise = np.random.default_rng(seed).normal(0, 0.02, 3000)

    def watts(t: np.ndarray) -> np.ndarray:
        return np.where(t < 30, before_w, after_w) + 2.0 * busy(t) + noise

    return power(watts)


def shifted_run(trace: Trace, **how: Any) -> Evaluation:
    """The sample run, whose runner starts after 2 s of rest at the latest; what it loads before is left out."""
    said = [event for event in runner_said() if event["event"] != "load"]
    events = rest_events(started_s=3.5)
    return run(said, traces=[trace], events=events, **how)


def test_net_energy_is_what_was_used_above_rest() -> None:
    seen = shifted_run(resting(3.0, 3.0))
    assert figures(seen)["power_idle_w"] == pytest.approx(3.0, abs=0.01)
    net = step_by(seen, "energy_decode_net_j", 0)
    assert net.value == pytest.approx(2.0 * 1.27, abs=net.uncertainty or 0)
    assert net.value == pytest.approx(2.0 * 1.27, rel=0.02)
    gross = step_by(seen, "energy_decode_j", 0)
    assert gross.value == pytest.approx(5.0 * 1.27, rel=0.01)
    assert net.figures["u_class"] == pytest.approx(0.05 * (net.value or 0)), "a gain is that of what is left"
    assert figures(seen, 0)["energy_per_token_net_j"] == pytest.approx(2.0 * 0.01, rel=0.02)
    assert figures(seen, 0)["energy_per_prompt_token_j"] == pytest.approx(5.0 / 512, rel=0.01)
    assert codes(seen) == []


def test_a_rest_that_is_another_one_afterwards_is_a_doubt_with_its_figures() -> None:
    seen = shifted_run(resting(3.0, 3.6), start=REQUIRED)
    (reason,) = [r for r in seen.reasons if r.code == "baseline_unsteady"]
    assert reason.figures["before_w"] == pytest.approx(3.0, abs=0.02)
    assert reason.figures["after_w"] == pytest.approx(3.6, abs=0.02)
    net = step_by(seen, "energy_decode_net_j", 0)
    assert net.figures["u_baseline"] == pytest.approx(0.3 * 1.27, rel=0.05), "the rest lay somewhere between the two"
    assert seen.verdict is Verdict.SUSPECT
    small = shifted_run(resting(3.0, 3.1), start=REQUIRED)
    assert codes(small) == [], "a small difference widens what is stated, and that is all"
    nobody_asked = shifted_run(resting(3.0, 3.6))
    assert (nobody_asked.verdict, codes(nobody_asked)) == (Verdict.VALID, [])
    for name in ("power_idle_w", "energy_decode_net_j", "energy_per_token_net_j"):
        assert "net energy is off by up to" in (notes(nobody_asked)[name] or "")
    assert "net energy" not in (notes(nobody_asked)["energy_decode_j"] or "")


@pytest.mark.parametrize("seed", range(20))
def test_net_energy_is_within_what_is_stated(seed: int) -> None:
    drift_w = np.random.default_rng(seed).uniform(-0.5, 0.5)
    noise = np.random.default_rng(seed).normal(0, 0.3, 3000)
    seen = shifted_run(power(lambda t: 3.0 + drift_w * t / 60 + 2.0 * busy(t) + noise))
    net = step_by(seen, "energy_decode_net_j", 1)
    assert abs((net.value or 0) - 2.0 * 1.27) <= (net.uncertainty or 0)


def test_a_rest_that_was_not_waited_for_says_how_long_it_takes() -> None:
    seen = run(traces=[power(lambda t: 3.0)], events=rest_events(started_s=0.49))
    assert notes(seen)["power_idle_w"] == (
        "25 samples of rest before the run, 5 in 1 s are needed: ask for `sampling: {baseline_s: 2}`"
    )
    assert notes(seen)["energy_decode_net_j"] == "power at rest is not known"
    gauge = channel("bat0_w", "power", lambda t: 10.0, site="BAT0", unit="w", rate_hz=1.0)
    meter = find_meter([gauge])
    assert meter is not None
    found = find_baseline(meter, rest_events(started_s=8.0))
    assert isinstance(found, Reason)
    assert found.message.endswith("ask for `sampling: {baseline_s: 13}`")
    assert isinstance(find_baseline(meter, rest_events(started_s=13.0, exited_s=46.0)), Baseline)


def test_what_a_condition_changed_settles_before_the_rest_is_measured() -> None:
    meter = find_meter([power(lambda t: np.where(t < 1.2, 9.0, 3.0))])
    assert meter is not None
    events = [Event("prepared", at(0.9), {}), *rest_events(started_s=3.5)]
    found = find_baseline(meter, events)
    assert isinstance(found, Baseline)
    assert found.before.power_w == pytest.approx(3.0)
    assert found.before.time_s == pytest.approx(3.5 - 0.9 - 0.52)


def test_a_meter_that_stops_half_way_is_a_doubt_and_where_energy_is_asked_for_no_run() -> None:
    stopped = power(lambda t: 5.0, drop=(15.0, 60.0))
    seen = run(traces=[stopped])
    assert codes(seen) == ["meter_stopped"]
    assert seen.verdict is Verdict.SUSPECT
    reason = next(r for r in seen.reasons if r.code == "meter_stopped")
    assert reason.figures["missing_s"] == pytest.approx(16.29 - 15.0, abs=0.03)
    assert figures(seen, 0)["energy_decode_j"] is not None
    assert figures(seen, 1)["energy_decode_j"] is None
    assert run(traces=[stopped], start=REQUIRED).verdict is Verdict.INVALID


def test_a_hole_is_never_bridged_without_a_word() -> None:
    small = power(lambda t: 5.0 + t * 0, drop=(14.5, 14.54), rate_hz=200.0)
    seen = run(traces=[small], start=REQUIRED)
    (reason,) = [r for r in seen.reasons if r.code == "energy_bridged"]
    nobody_asked = run(traces=[small])
    assert codes(nobody_asked) == []
    assert reason.message in (notes(nobody_asked)["power_mean_w"] or "")
    assert 0.95 < reason.figures["coverage"] < 1
    assert "% covered" in (next(m.note for m in seen.metrics if m.name == "power_mean_w" and m.repetition == 1) or "")
    large = run(traces=[power(lambda t: 5.0, drop=(14.5, 15.5))])
    assert figures(large, 1)["power_mean_w"] is None
    assert "covered" in notes(run(traces=[power(lambda t: 5.0, drop=(10.0, 23.0))]))["power_mean_w"]


@pytest.mark.parametrize(
    ("traces", "code"),
    [
        ([], "no_power_sensor"),
        ([channel("bat0_w", "power", lambda t: 3.0, site="BAT0", unit="w", rate_hz=1.0)], "meter_too_slow"),
    ],
)
def test_energy_that_is_asked_for_and_cannot_be_had_makes_a_run_invalid(traces: list[Trace], code: str) -> None:
    assert codes(run(traces=traces)) == []
    seen = run(traces=traces, start=REQUIRED)
    assert (seen.verdict, codes(seen)) == (Verdict.INVALID, [code])


def gauge(amperes: Any, *, charge: Any = None) -> list[Trace]:
    """A phone's battery at 4 V that says that it feeds the phone, with a current and the power that follows."""
    columns = {
        "battery_discharging": ("state", "1", lambda t: 1.0),
        "battery_current_a": ("current", "a", amperes),
        "battery_voltage_v": ("voltage", "v", lambda t: 4.0),
        "battery_power_w": ("power", "w", lambda t: np.abs(4.0 * np.asarray(amperes(t)))),
    }
    if charge is not None:
        columns["battery_charge_c_coulomb"] = ("charge", "c_coulomb", charge)
    return [
        channel(name, quantity, value, site="battery", unit=unit, rate_hz=10.0)
        for name, (quantity, unit, value) in columns.items()
    ]


CERTAIN = Calibration(column="battery_current_a", factor=1.0, basis="-412000 while discharging", certain=True)


def test_a_gauge_with_the_wrong_sign_gives_no_energy() -> None:
    start = replace(make_start(), calibrations=(CERTAIN,))
    seen = run(traces=gauge(lambda t: -0.5 + 0 * t), start=start)
    assert figures(seen)["power_mean_w"] is None
    assert "flowed the wrong way" in (notes(seen)["power_mean_w"] or "")
    assert codes(seen) == ["energy_misread"]
    asked = replace(start, spec=REQUIRED.spec)
    assert run(traces=gauge(lambda t: -0.5 + 0 * t), start=asked).verdict is Verdict.INVALID
    assert figures(run(traces=gauge(lambda t: 0.5 + 0 * t), start=start))["power_mean_w"] == pytest.approx(2.0)


def test_a_sign_that_was_guessed_is_no_contradiction_but_one_that_turns_round_is() -> None:
    guessed = replace(make_start(), calibrations=(replace(CERTAIN, certain=False),))
    assert figures(run(traces=gauge(lambda t: -0.5 + 0 * t), start=guessed))["power_mean_w"] == pytest.approx(2.0)
    turned = run(traces=gauge(lambda t: np.where(t < 30, 0.5, -0.5)), start=guessed)
    assert codes(turned) == ["energy_misread"]


def counted(per_s: float) -> Any:
    return lambda t: 9000 - np.floor(per_s * t / 0.36) * 0.36


def test_a_charge_counter_that_agrees_is_a_second_opinion() -> None:
    seen = run(traces=gauge(lambda t: 0.5 + 0 * t, charge=counted(0.5)))
    found = step_by(seen, "energy_counter_j")
    assert found.value == pytest.approx(2.0 * 10.29, abs=found.uncertainty or 0), "all repetitions, pauses between too"
    assert codes(seen) == []


def test_a_charge_counter_that_disagrees_is_a_doubt() -> None:
    traces = gauge(lambda t: 0.5 + 0 * t, charge=counted(0.75))
    (reason,) = [r for r in run(traces=traces, start=REQUIRED).reasons if r.code == "charge_disagrees"]
    assert reason.figures["counted_j"] == pytest.approx(1.5 * reason.figures["sampled_j"], rel=0.05)
    nobody_asked = run(traces=traces)
    assert codes(nobody_asked) == []
    assert reason.message in (notes(nobody_asked)["energy_counter_j"] or "")


def test_a_counter_that_hardly_moves_is_no_second_opinion() -> None:
    seen = run(traces=gauge(lambda t: 0.5 + 0 * t, charge=lambda t: 9000 - np.floor(0.5 * t / 3.6) * 3.6))
    assert figures(seen)["energy_counter_j"] is None
    assert "too few for an energy" in (notes(seen)["energy_counter_j"] or "")
    assert codes(seen) == []
