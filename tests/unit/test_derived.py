"""What follows from energy: peaks, responses, charges and CO2e, whose answers are known by arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis_samples import channel, figures, generation, make_start, notes, run, runner_said

from melt.analysis import derived as module
from melt.analysis.derived import NAMES, with_grid
from melt.analysis.evaluate import Evaluation
from melt.analysis.figures import Figure
from melt.analysis.names import METRICS
from melt.codec import from_dict, to_dict
from melt.records import Battery, Grid, Metric, RunStart, Workload
from melt.report.run import FOLLOWING, render_run
from melt.traces import RunBundle, Trace

E2E_S = 1.02 + 1.27
FULL = Battery(basis="measured", source="f", charge_coulomb=4.0 * 3600, nominal_v=3.85)


def power(watts: Any = lambda t: 5.0, *, site: str = "system", rate_hz: float = 10.0) -> Trace:
    return channel("w", "power", watts, site=site, unit="w", rate_hz=rate_hz)


def counter(joules: Any, *, rate_hz: float = 10.0) -> Trace:
    return channel("j", "energy", joules, site="system", unit="j", cumulative=True, rate_hz=rate_hz)


def voltage(volts: Any) -> Trace:
    return channel("battery_v", "voltage", volts, site="battery", unit="v")


def on_battery(battery: Battery | None = FULL, **spec: Any) -> RunStart:
    start = make_start(**spec)
    return replace(start, device=replace(start.device, battery=battery))


def metric(done: Evaluation, name: str, repetition: int | None = None) -> Metric:
    return next(m for m in done.metrics if (m.name, m.repetition) == (name, repetition))


def test_a_response_is_a_request_from_its_submission_to_its_last_token() -> None:
    done = run(traces=[power()])
    found = metric(done, "energy_response_j")
    assert found.value == pytest.approx(5 * E2E_S)
    assert found.source == "whole device"
    assert found.uncertainty is not None
    assert found.uncertainty == pytest.approx(0.05 * found.value)
    first, product = metric(done, "energy_response_j", 0), metric(done, "energy_delay_js", 0)
    assert product.value == pytest.approx(5 * E2E_S**2)
    assert first.uncertainty is not None
    assert product.uncertainty == pytest.approx(first.uncertainty * E2E_S)
    assert metric(done, "tokens_per_j").value == pytest.approx(1 / (5 * 0.01))


def test_tokens_per_joule_reach_as_far_as_by_the_least_energy_of_a_token() -> None:
    done = run(traces=[power()])
    each, per = metric(done, "energy_per_token_j"), metric(done, "tokens_per_j")
    assert each.value
    assert per.value
    assert per.uncertainty
    assert each.uncertainty
    assert per.value + per.uncertainty == pytest.approx(1 / (each.value - each.uncertainty))


def test_of_several_requests_in_a_repetition_a_response_is_one() -> None:
    load, warmup, *_ = runner_said()
    requests = [generation(10 + 2.5 * i, 0) for i in range(4)]
    done = run([load, warmup, *requests, runner_said()[-1]], traces=[power(lambda t: 2 + 3 * ((t % 2.5) < E2E_S))])
    assert figures(done)["energy_response_j"] == pytest.approx(5 * E2E_S, rel=0.02)


def one_after_the_other(pause_s: float) -> Evaluation:
    load, warmup, *_ = runner_said()
    requests = [generation(10 + (E2E_S + pause_s) * i, 0) for i in range(10)]
    gauge = power(site="battery", rate_hz=1.0)
    return run([load, warmup, *requests, runner_said()[-1]], traces=[gauge], start=on_battery())


def test_a_slow_gauge_tells_a_response_by_many_that_follow_each_other() -> None:
    done = one_after_the_other(0.05)
    assert figures(done)["energy_decode_j"] is None
    found = metric(done, "energy_response_j")
    assert found.value is not None
    assert found.value == pytest.approx(5 * (E2E_S + 0.05), rel=0.01)
    assert found.uncertainty is not None
    assert found.value - found.uncertainty < 5 * E2E_S
    assert metric(one_after_the_other(0.5), "energy_response_j").value is None


def test_a_charge_is_an_energy_by_the_batterys_voltage_in_the_run() -> None:
    done = run(traces=[power(), voltage(lambda t: np.where(t < 9, 4.4, 4.0))], start=on_battery())
    found = metric(done, "charge_response_coulomb")
    assert found.value == pytest.approx(5 * E2E_S / 4.0)
    assert found.note == "system; at 4 V, its mean in the run"
    nominal = metric(run(traces=[power()], start=on_battery()), "charge_response_coulomb")
    assert nominal.value == pytest.approx(5 * E2E_S / 3.85)
    assert nominal.note == "system; at 3.85 V, its nominal voltage"
    for battery, why in ((None, module.NO_BATTERY), (replace(FULL, nominal_v=None), module.NO_VOLTAGE)):
        assert notes(run(traces=[power()], start=on_battery(battery)))["charge_response_coulomb"] == why


@pytest.mark.parametrize(
    ("battery", "capacity_j", "off", "said"),
    [
        (FULL, 4 * 3600 * 3.85, 0.05, "measured capacity at 3.85 V, its nominal voltage"),
        (replace(FULL, basis="design"), 4 * 3600 * 3.85, 0.2, "design capacity at 3.85 V, its nominal voltage"),
        (
            replace(FULL, nominal_v=None),
            4 * 3600 * 4.1,
            (0.05**2 + 0.1**2) ** 0.5,
            "measured capacity at 4.1 V, its mean in the run",
        ),
        (Battery(basis="measured", source="f", energy_j=180_000.0), 180_000, 0.05, "measured capacity"),
    ],
)
def test_a_full_battery_is_good_for_its_energy_over_that_of_a_response(
    battery: Battery, capacity_j: float, off: float, said: str
) -> None:
    done = run(traces=[power(), voltage(lambda t: 4.1)], start=on_battery(battery))
    found, response = metric(done, "responses_per_battery"), metric(done, "energy_response_j")
    assert found.value == pytest.approx(capacity_j / (5 * E2E_S))
    assert found.note == f"system; {said}"
    assert found.uncertainty is not None
    assert response.uncertainty is not None
    assert response.value is not None
    least = response.value - response.uncertainty
    expected = (off**2 + (response.uncertainty / least) ** 2) ** 0.5
    assert found.uncertainty / found.value == pytest.approx(expected, rel=1e-3)
    assert found.source == f"whole device by {battery.basis} capacity"


def test_of_an_energy_that_may_be_none_nothing_is_told_that_is_divided_by_it() -> None:
    battery = Battery(basis="measured", source="f", energy_j=1000.0)
    known = module.responses_per_battery(Figure(2.0, "n", "battery", 1.0), battery, None)
    assert known.value == 500
    assert known.uncertainty == pytest.approx(np.hypot(1000 - 500, 0.05 * 500)), "of 1 J there are 1000"
    for value in (1.0, 0.0, -1.0):
        unsure = Figure(value, "n", "battery", 1.0)
        for told in (module.responses_per_battery(unsure, battery, None), module.tokens_per_joule(unsure)):
            assert (told.value, told.uncertainty, told.note) == (None, None, module.MAY_BE_NONE)


@pytest.mark.parametrize("site", ["package-0", "soc cpu+gpu", "rail 1", "gpu"])
def test_what_does_not_measure_the_whole_device_tells_nothing_of_its_battery(site: str) -> None:
    done = run(traces=[power(site=site), voltage(lambda t: 4.1)], start=on_battery())
    assert figures(done)["energy_response_j"] is not None
    for name in ("responses_per_battery", "charge_response_coulomb"):
        assert (figures(done)[name], notes(done)[name]) == (None, module.NOT_THE_DEVICE)


def test_a_device_that_does_not_say_what_its_battery_holds() -> None:
    done = run(traces=[power(), voltage(lambda t: 4.1)], start=on_battery(None))
    assert (figures(done)["responses_per_battery"], notes(done)["responses_per_battery"]) == (None, module.NO_BATTERY)


def test_half_a_request_is_no_response() -> None:
    for workload, why in ((Workload(n_prompt=512), module.NO_ANSWER), (Workload(n_gen=128), module.NO_PROMPT)):
        done = run(traces=[power()], start=on_battery(workload=workload))
        for name in NAMES[2:]:
            assert (figures(done)[name], notes(done)[name]) == (None, why)


def test_without_power_nothing_follows_and_that_is_the_reason() -> None:
    done = run()
    assert {figures(done)[name] for name in NAMES} == {None}
    assert {notes(done)[name] for name in NAMES} == {"no power sensor"}


def test_a_peak_is_the_highest_mean_of_a_second() -> None:
    """The second request, 14 to 16.29 s, takes 9 W for half a second and 7 W for the rest of that second."""
    done = run(
        traces=[power(lambda t: 5 + 2 * ((t >= 14.5) & (t < 15.5)) + 2 * ((t >= 14.5) & (t < 15.0)), rate_hz=1000)]
    )
    found = metric(done, "power_peak_w")
    assert found.value == pytest.approx(8.0, abs=0.01)
    assert found.figures["from_s"] == pytest.approx(0.5, abs=0.01)
    assert metric(done, "power_peak_w", 0).value == pytest.approx(5.0)
    assert found.uncertainty is not None
    assert found.uncertainty >= 0.05 * 8.0


def test_a_peak_comes_out_of_a_counter_too() -> None:
    done = run(traces=[counter(lambda t: 5 * t + 4 * np.clip(t - 14.5, 0, 1.0), rate_hz=100)])
    assert figures(done)["power_peak_w"] == pytest.approx(9.0, abs=0.01)


def test_meters_of_unlike_rates_tell_the_same_peak() -> None:
    """A burst of 20 ms is none: it moves the mean of a second by a fiftieth of what it is high."""
    burst = [power(lambda t: 5 + 20 * ((t >= 15) & (t < 15.02)), rate_hz=rate_hz) for rate_hz in (1000, 5000)]
    assert [figures(run(traces=[one]))["power_peak_w"] for one in burst] == [pytest.approx(5.4, abs=0.03)] * 2


def test_a_gauge_that_has_a_value_a_second_tells_no_peak() -> None:
    done = one_after_the_other(0.05)
    assert figures(done)["power_mean_w"] is not None
    assert figures(done)["power_peak_w"] is None
    assert "1 new values a second are too few for a peak of 1 s" in str(notes(done)["power_peak_w"])


def test_carbon_takes_an_intensity_and_has_none_by_default() -> None:
    assert notes(run(traces=[power()]))["carbon_response_g"] == module.NO_GRID
    grid = Grid(g_per_kwh=380.95, zone="DEU", year=2023, source="codecarbon 3.3.2")
    done = run(traces=[power(site="package-0")], start=make_start(grid=grid))
    found, response = metric(done, "carbon_response_g"), metric(done, "energy_response_j")
    assert response.value is not None
    assert found.value == pytest.approx(response.value / 3.6e6 * 380.95)
    assert found.source == "CPU package at 380.95 g/kWh"
    assert found.note == "package-0; 380.95 g/kWh (DEU, 2023, codecarbon 3.3.2)"
    shown = render_run(bundle_of(done, make_start(grid=grid)), "md")
    (thousand,) = (line for line in shown.splitlines() if "for 1,000 responses" in line)
    assert f"| {1000 * found.value:.2f} " in thousand


def bundle_of(done: Evaluation, start: RunStart) -> RunBundle:
    from store_samples import make_bundle

    return replace(make_bundle(), start=start, metrics=done.metrics)


def test_another_intensity_can_be_given_afterwards() -> None:
    start = make_start()
    measured, told = (run(traces=[power()], start=s) for s in (start, make_start(grid=Grid(g_per_kwh=100))))
    later = with_grid(bundle_of(measured, start), Grid(g_per_kwh=100))
    for one, other in zip(later.metrics, told.metrics, strict=True):
        assert one.uncertainty == pytest.approx(other.uncertainty)
        assert replace(one, uncertainty=None) == replace(other, uncertainty=None)
    assert later.start.spec.grid == Grid(g_per_kwh=100)


def test_a_run_of_before_has_no_such_figures_and_none_is_made_up() -> None:
    start = make_start()
    old = bundle_of(run(traces=[power()], start=start), start)
    old = replace(old, metrics=tuple(m for m in old.metrics if m.name not in NAMES))
    assert with_grid(old, Grid(g_per_kwh=100)).metrics == old.metrics


def test_a_run_of_before_reads_back_and_is_shown_without_them() -> None:
    document = to_dict(make_start())
    del document["spec"]["grid"], document["device"]["battery"], document["device"]["compute"]
    del document["artifact"]["attention_width"]
    assert from_dict(RunStart, document) == make_start()
    old = bundle_of(run(traces=[power()]), make_start())
    old = replace(old, metrics=tuple(m for m in old.metrics if m.name not in FOLLOWING))
    text = render_run(old, "table")
    assert not [name for name in FOLLOWING if METRICS[name].title in text]
    assert "Not told" not in text


def test_every_figure_has_a_name_and_a_unit() -> None:
    assert [name for name in METRICS if name in NAMES] == list(NAMES)
    json.dumps([METRICS[name].unit for name in NAMES])
