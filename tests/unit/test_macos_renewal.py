"""Energy of a Mac: counters that are published in batches, keys that stand still, and what a run makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from analysis_samples import BOOT_NS, S, at, channel, figures, notes, run
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis import channels
from melt.analysis.memory import FOOTPRINT
from melt.analysis.meter import NO_SENSOR, STOOD_STILL, find_meter, without_meter
from melt.records import Sampling
from melt.targets.probe import load_snapshot
from melt.telemetry.decode import decode
from melt.telemetry.journal import Journal, Line
from melt.telemetry.platforms import macos
from melt.telemetry.renewal import renewed, with_renewals
from melt.telemetry.schedule import make_schedule
from melt.traces import Trace

SNAPSHOTS = Path(__file__).parents[1] / "data" / "snapshots" / "macos"
CPU_W, GPU_W, DRAM_W = 20.0, 8.0, 2.0

Said = Callable[[float], dict[str, object]]


def published(t_s: float, every_s: float) -> float:
    """The time of the last publication."""
    return t_s // every_s * every_s if every_s else t_s


def counters(every_s: float, gpu_w: float = GPU_W) -> Said:
    """What zeus-apple-silicon says: all but the GPU's counter is published every so many seconds."""

    def said(t_s: float) -> dict[str, object]:
        then_s = published(t_s, every_s)
        return {
            "cpu_total_mj": 10**6 + int(CPU_W * then_s * 1e3),
            "dram_mj": 10**5 + int(DRAM_W * then_s * 1e3),
            "ane_mj": 0,
            "gpu_mj": 10**4 + int(gpu_w * t_s * 1e3),
        }

    return said


def traces(program: str, said: Said, *, snapshot: str = "m6-three-levels", every_s: float = 0.1) -> list[Trace]:
    """Decode 60 s of a program's lines, as they would stand in a journal."""
    found = macos.discover(load_snapshot((SNAPSHOTS / f"{snapshot}.json").read_bytes()), Sampling())
    schedule = make_schedule(found)
    (sid,) = (one.sid for one in schedule.streams if one.source.name == program)
    lines = [
        Line(sid, BOOT_NS + round(t_s * S), False, json.dumps(said(float(t_s))).encode())
        for t_s in np.arange(0, 60, every_s)
    ]
    decoded = decode(Journal(records=list(lines), torn=False), schedule)
    return [trace for trace in decoded if len(trace.t_ns)]


def test_counters_that_move_with_every_reading_are_a_meter_at_that_rate() -> None:
    found = traces("ioreport", counters(0))
    meter = find_meter(found)
    assert meter is not None
    assert (meter.scope, meter.series[0].stream.site) == ("SoC model", "soc ane+cpu+dram+gpu")
    assert meter.series[0].stream.rate_hz == pytest.approx(10, rel=0.01)
    assert meter.energy_j((at(12.34), at(14.56))) == pytest.approx((CPU_W + GPU_W + DRAM_W) * 2.22, rel=0.01)


@pytest.mark.parametrize("gpu_w", [0.0, GPU_W])
def test_counters_that_are_published_every_two_seconds_give_long_spans_right_and_short_ones_not_at_all(
    gpu_w: float,
) -> None:
    found = traces("ioreport", counters(2.13, gpu_w))
    meter = find_meter(found)
    assert meter is not None
    assert meter.series[0].stream.rate_hz == pytest.approx(1 / 2.13, rel=0.05)
    assert meter.is_slow
    whole_w = CPU_W + gpu_w + DRAM_W
    assert meter.energy_j((at(10), at(40))) == pytest.approx(whole_w * 30, rel=0.01)
    seen = run(traces=found)
    assert figures(seen, 0)["energy_decode_j"] is None, "1.3 s lie between two publications"
    note = notes(seen)["energy_decode_j"] or ""
    assert note.endswith("too few of a meter with 0.47 new values a second")


def test_the_ends_of_a_run_are_enclosed_by_publications() -> None:
    """The declared rate is what a session lingers by: two of its periods before the runner and after it."""
    found = macos.discover(load_snapshot((SNAPSHOTS / "m6-three-levels.json").read_bytes()), Sampling())
    assert {stream.rate_hz for stream in found.streams if stream.quantity == "energy"} == {0.5}


def test_counters_that_stand_still_are_no_meter_and_it_is_said_why() -> None:
    found = traces("ioreport", lambda t_s: {**counters(0)(0.0), "gpu_mj": int(t_s * 1e3)})
    assert find_meter(found) is None
    assert without_meter(found).message == STOOD_STILL
    assert notes(run(traces=found))["power_mean_w"] == STOOD_STILL


def test_a_counter_that_begins_anew_gives_no_energy_over_that_moment() -> None:
    found = traces("ioreport", lambda t_s: counters(0)(t_s if t_s < 30 else t_s - 30))
    meter = find_meter(found)
    assert meter is not None
    assert meter.energy_j((at(25), at(35))) is None
    assert meter.energy_j((at(35), at(45))) == pytest.approx((CPU_W + GPU_W + DRAM_W) * 10, rel=0.01)


def macmon(t_s: float, every_s: float = 1.0) -> dict[str, object]:
    then_s = published(t_s, every_s)
    return {"sys_power": 30 + (then_s % 2) / 100, "all_power": 12.0, "temp": {"cpu_temp_avg": 60.0, "gpu_temp_avg": 0}}


def test_power_of_the_whole_mac_comes_before_the_chips_model_and_at_the_rate_of_its_renewals() -> None:
    found = traces("macmon", macmon, snapshot="macbook-air-m2")
    meter = find_meter([*traces("ioreport", counters(0)), *found])
    assert meter is not None
    assert (meter.scope, meter.series[0].stream.site) == ("whole device", "system")
    assert meter.series[0].stream.rate_hz == pytest.approx(1.0, rel=0.05)
    assert meter.energy_j((at(10.5), at(20.5))) == pytest.approx(300, rel=0.01)


def test_a_key_of_the_smc_that_stands_still_is_no_meter() -> None:
    found = traces("macmon", lambda _: {**macmon(0.0), "cpu_power": 5.0}, snapshot="macbook-air-m2")
    assert find_meter(found) is None
    assert without_meter(found).message == NO_SENSOR, "what macmon says of the chip is power, which nothing counts"


def test_powers_of_powermetrics_are_means_over_the_time_before_their_line() -> None:
    def said(t_s: float) -> dict[str, object]:
        before_s = max(t_s - 0.108, 0.0)
        ramp_w = (t_s + before_s) / 2
        parts = {"cpu_power": ramp_w * 1e3, "gpu_power": 1000.0, "ane_power": 0.0}
        return {"elapsed_ns": 108_000_000, "processor": parts}

    found = traces("powermetrics", said, snapshot="macbook-pro-m4-max", every_s=0.108)
    meter = find_meter(found)
    assert meter is not None
    assert (meter.scope, meter.series[0].stream.site) == ("SoC model without memory", "soc ane+cpu+gpu")
    assert meter.energy_j((at(10), at(20))) == pytest.approx((20**2 - 10**2) / 2 + 10, rel=0.002)


def test_a_part_of_which_powermetrics_says_nothing_does_not_spoil_the_others() -> None:
    def said(_: float) -> dict[str, object]:
        return {"elapsed_ns": 108_000_000, "processor": {"cpu_power": 20_000.0, "gpu_power": 1000.0, "ane_power": None}}

    meter = find_meter(traces("powermetrics", said, snapshot="macbook-pro-m4-max", every_s=0.108))
    assert meter is not None
    assert meter.series[0].stream.site == "soc cpu+gpu"
    assert meter.energy_j((at(10), at(20))) == pytest.approx(210, rel=0.002)


def test_the_model_with_the_memory_comes_before_the_one_without() -> None:
    parts = {"cpu_power": 20_000.0, "gpu_power": 1000.0, "ane_power": 0.0}
    powers = traces(
        "powermetrics",
        lambda _: {"elapsed_ns": 108_000_000, "processor": parts},
        snapshot="macbook-pro-m4-max",
        every_s=0.108,
    )
    meter = find_meter([*powers, *traces("ioreport", counters(0))])
    assert meter is not None
    assert meter.name == "SoC model: soc ane+cpu+dram+gpu"


@given(st.lists(st.sampled_from([1.0, 2.0, float("nan")]), max_size=20))
def test_a_renewal_is_another_value_than_the_last_one_known(values: list[float]) -> None:
    moved = renewed(np.array(values, np.float64))
    last = None
    for value, now in zip(values, moved, strict=True):
        assert now == (last is not None and value == value and value != last)
        last = value if value == value else last


def test_traces_of_other_devices_stay_as_they_are() -> None:
    trace = channel("rapl_package_0_j", "energy", lambda t: t, site="package-0", cumulative=True)
    assert with_renewals(trace) is trace
    assert not channels.stood_still([trace])


@pytest.mark.parametrize(("level", "word"), [(1.0, "moderate"), (2.0, "heavy"), (9.0, "sleeping")])
def test_thermal_pressure_is_throttling(level: float, word: str) -> None:
    hot = channel("thermal_pressure", "state", lambda t: (t > 15) * level, site="device", rate_hz=1)
    (reason,) = (r for r in run(traces=[hot]).reasons if r.code == "throttled")
    assert reason.message == f"the Mac reported thermal pressure {level:.0f} ({word}) while it was measured"
    early = channel("thermal_pressure", "state", lambda t: (t < 5) * level, site="device", rate_hz=1)
    assert "throttled" not in [r.code for r in run(traces=[early]).reasons]


def test_peak_memory_is_the_greater_of_resident_and_footprint() -> None:
    def memory(footprint: float) -> list[Trace]:
        return [
            channel(name, "memory", lambda t: footprint, site="runner", unit="bytes")
            for name in ("footprint_bytes", "footprint_peak_bytes")
        ]

    on_gpu = run(traces=memory(900e6))
    assert (figures(on_gpu)["peak_rss_bytes"], notes(on_gpu)["peak_rss_bytes"]) == (900e6, FOOTPRINT)
    mapped = run(traces=memory(200e6))
    assert figures(mapped)["peak_rss_bytes"] == 300e6
    assert "physical footprint 191 MiB" in (notes(mapped)["peak_rss_bytes"] or "")
