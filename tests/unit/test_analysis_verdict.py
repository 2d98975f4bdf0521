"""Doubts about a run: the sample run has none, and each change of it has exactly one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis_samples import MS, agent_events, at, channel, make_start, run, runner_said

from melt.records import Conditions, Knob, Settings, Verdict, Workload
from melt.telemetry.journal import Event

# Two CPUs that the runner keeps busy from 0 to 60 s, with the little that a quiet system does beside it.
BUSY = [
    channel(f"cpu{n}_busy_s", "duration", lambda t: t * 1.02, site=f"cpu{n}", unit="s", cumulative=True) for n in (0, 1)
]
OWN = [channel("cpu_user_s", "duration", lambda t: t * 1.99, site="runner", unit="s", cumulative=True)]
QUIET = [
    *BUSY,
    *OWN,
    channel("stolen_s", "duration", lambda t: t * 0.001, site="cpu", unit="s", cumulative=True),
    channel("cpu0_freq_hz", "frequency", lambda t: 3e9 - 1e6 * t, site="cpu0", unit="hz"),
    channel("cpu0_throttled", "count", lambda t: 12.0, site="cpu0", cumulative=True),
    channel("cooling_cpufreq", "state", lambda t: 0.0, site="cpufreq"),
    channel("swap_bytes", "memory", lambda t: 4096.0, site="runner", unit="bytes"),
    channel("faults_major", "count", lambda t: 3.0, site="runner", cumulative=True),
    channel("bat0_charging", "state", lambda t: 0.0, site="BAT0"),
    channel("battery_level_ratio", "level", lambda t: 0.9 - t / 600, site="battery"),
    channel("thermal_status", "state", lambda t: (t < 5) * 2.0, site="device"),
    channel("policy0_limit_hz", "frequency", lambda t: 1.8e9, site="policy0"),
    channel("policy0_governor", "state", lambda t: 3e9 + 1, site="policy0"),
    channel("screen_on", "state", lambda t: t > 5, site="screen"),
    channel("nvpmodel", "state", lambda t: 3e9 + (t > 5), site="device"),
    channel("jetson_clocks", "state", lambda t: t > 5, site="device"),
]


def with_channel(changed):
    (stream,) = changed.streams
    return [t for t in QUIET if t.streams[0].name != stream.name] + [changed]


def codes(evaluation):
    return [reason.code for reason in evaluation.reasons]


def test_a_quiet_run_is_valid():
    seen = run(traces=QUIET)
    assert codes(seen) == []
    assert seen.verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("background_load", channel("cpu1_busy_s", "duration", lambda t: t * 1.4, site="cpu1", cumulative=True)),
        ("cpu_stolen", channel("stolen_s", "duration", lambda t: t * 0.1, site="cpu", cumulative=True)),
        ("throttled", channel("cpu0_freq_hz", "frequency", lambda t: 3e9 - 6e7 * t, site="cpu0")),
        ("throttled", channel("cpu0_throttled", "count", lambda t: (t > 15) * 4.0, site="cpu0", cumulative=True)),
        ("throttled", channel("cooling_cpufreq", "state", lambda t: (t > 15) * 2.0, site="cpufreq")),
        ("swapped", channel("swap_bytes", "memory", lambda t: 5e8, site="runner")),
        ("read_from_disk", channel("faults_major", "count", lambda t: t * 500, site="runner", cumulative=True)),
        ("charging", channel("bat0_charging", "state", lambda t: 1.0, site="BAT0")),
        ("throttled", channel("thermal_status", "state", lambda t: (t > 15) * 1.0, site="device")),
        ("throttled", channel("policy0_limit_hz", "frequency", lambda t: 2e9 - (t > 15) * 5e8, site="policy0")),
        ("battery_low", channel("battery_level_ratio", "level", lambda t: 0.16 - t / 1000, site="battery")),
        ("governor_changed", channel("policy0_governor", "state", lambda t: 3e9 + (t > 15), site="policy0")),
        ("power_mode_changed", channel("nvpmodel", "state", lambda t: 3e9 + (t > 15), site="device")),
        ("power_mode_changed", channel("jetson_clocks", "state", lambda t: t < 15, site="device")),
        ("screen_state", channel("screen_on", "state", lambda t: t > 15, site="screen")),
        (
            "sampling_gap",
            channel("stolen_s", "duration", lambda t: 0.0, site="cpu", cumulative=True, drop=(12.0, 14.0)),
        ),
    ],
)
def test_disturbances(code, changed):
    seen = run(traces=with_channel(changed))
    assert codes(seen) == [code]
    assert seen.verdict is Verdict.SUSPECT
    assert seen.reasons[0].figures
    assert "\n" not in seen.reasons[0].message


@pytest.mark.parametrize("site", ["system", "soc ane+cpu+gpu"])
def test_a_meter_that_said_the_same_for_a_while_was_not_silent(site):
    """Of a Mac's meters there is a row where they were renewed: none while the power did not change."""
    steady = channel("system_power_w", "power", lambda t: 5.0 + t, site=site, drop=(12.0, 14.0))
    assert codes(run(traces=[*QUIET, steady])) == []
    silent = channel("system_power_w", "power", lambda t: 5.0 + t, site="psys", drop=(12.0, 14.0))
    assert codes(run(traces=[*QUIET, silent])) == ["sampling_gap", "energy_gap"]


def test_cpus_that_a_power_mode_switched_off_hide_no_background_load():
    off = channel("cpu2_busy_s", "duration", lambda t: t * 0.0, site="cpu2", cumulative=True, drop=(5.0, 60.0))
    loaded = channel("cpu1_busy_s", "duration", lambda t: t * 1.4, site="cpu1", cumulative=True)
    assert codes(run(traces=[*QUIET, off])) == []
    (reason,) = run(traces=[*with_channel(loaded), off]).reasons
    assert reason.code == "background_load"
    assert reason.figures["of"] == 2


def test_cpus_that_wait_for_a_gpu_may_take_their_clock_back():
    slower = channel("cpu0_freq_hz", "frequency", lambda t: 3e9 - 6e7 * t, site="cpu0")
    start = make_start(settings=Settings(threads=2, n_gpu_layers=-1))
    assert codes(run(runner_said(used={"n_gpu_layers": 31}), start=start, traces=with_channel(slower))) == []


def test_what_the_hardware_counted_is_named_and_never_no_times():
    alarm = "over-current alarm oc3"
    counted = channel("oc3_throttled", "count", lambda t: (t > 15) * 7.0, site=alarm, cumulative=True)
    (reason,) = run(traces=[*QUIET, counted]).reasons
    assert reason.message == f"the hardware throttled 7 times while it was measured ({alarm})"
    # Of the one time that lies between a sample before the span and one inside, only a part is the span's.
    counted = channel("oc3_throttled", "count", lambda t: (t > 10) * 1.0, site=alarm, cumulative=True, rate_hz=0.37)
    (reason,) = run(traces=[*QUIET, counted]).reasons
    assert reason.figures["throttle_events"] < 0.5
    assert "throttled 1 times" in reason.message


@pytest.mark.parametrize(
    "changed",
    [
        channel("cpu0_freq_hz", "frequency", lambda t: 3e9 + (t < 9) * 2e9, site="cpu0"),
        channel("cpu0_throttled", "count", lambda t: (t > 5) * 4.0, site="cpu0", cumulative=True),
        channel("swap_bytes", "memory", lambda t: (t > 21) * 1e9, site="runner"),
        channel("stolen_s", "duration", lambda t: (t > 5) * 9.0, site="cpu", cumulative=True, drop=(2.0, 4.0)),
    ],
)
def test_what_happens_outside_the_measured_span_does_not_count(changed):
    assert codes(run(traces=with_channel(changed))) == []


@pytest.mark.parametrize(
    ("code", "settings", "used"),
    [
        ("wrong_threads", {"threads": 2}, {"threads": 1}),
        ("wrong_backend", {"n_gpu_layers": 99}, {"n_gpu_layers": 0}),
        ("wrong_backend", {"n_gpu_layers": -1}, {"n_gpu_layers": 0}),
        ("wrong_backend", {}, {"n_gpu_layers": 31, "backend": "CUDA"}),
        ("wrong_backend", {}, {"providers_asked": ["CUDA", "CPU"], "nodes_by_provider": {"CPU": 3}}),
        ("wrong_settings", {"cache_type_k": "q8_0"}, {}),
        ("wrong_settings", {"flash_attn": "off"}, {}),
    ],
)
def test_another_run_than_was_asked_for_is_invalid(code, settings, used):
    start = make_start(settings=Settings(**{"threads": 2, **settings}))
    seen = run(runner_said(used=used), start=start, traces=QUIET)
    assert codes(seen) == [code]
    assert seen.verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("settings", "used"), [({"n_gpu_layers": -1}, {"n_gpu_layers": 31}), ({"flash_attn": "auto"}, {})]
)
def test_what_the_engine_chose_itself_is_fine(settings, used):
    start = make_start(settings=Settings(threads=2, **settings))
    assert codes(run(runner_said(used=used), start=start)) == []


def test_affinity():
    def events(asked, got):
        return [Event("runner_started", at(0.5), {"affinity_asked": asked, "affinity": got}), *agent_events()[1:]]

    assert codes(run(events=events("0-1", "0,1"))) == []
    assert codes(run(events=events(None, "0-1"))) == []
    for got in ("0-1", None):
        seen = run(events=events("0", got))
        assert codes(seen) == ["affinity_not_applied"]
        assert seen.verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("gaps_ms", "expected"),
    [
        ((10, 10.1, 10.2, 10.3, 10.4), ["drift"]),
        ((10.4, 10.3, 10.2, 10.1, 10), ["drift"]),
        ((10, 10.02, 10.04, 10.06, 10.08), []),  # steady, and too little to matter
        ((10, 10.4, 10.2, 10.3, 10.1), []),  # as far apart, in no order
        ((10, 10.2, 10.4), []),  # three are in order by chance in a third of all cases
    ],
)
def test_repetitions_that_become_slower_or_faster_one_by_one(gaps_ms, expected):
    seen = run(runner_said(gaps_ms=gaps_ms))
    assert codes(seen) == expected


def test_a_drift_says_how_much_and_how_sure():
    (reason,) = run(runner_said(gaps_ms=(10, 10.1, 10.2, 10.3, 10.4))).reasons
    assert reason.message.startswith("the decode rate fell by 3.8 % from the first to the last repetition (p = 0.0")
    assert reason.figures == {"change": pytest.approx(10 / 10.4 - 1, abs=1e-3), "p": pytest.approx(0.0305, abs=0.0015)}


def alike(draws, n, share):
    """Values around 0 with a spread of 1, each of which shares so much with the one before."""
    values = draws.normal(size=n)
    for i in range(1, n):
        values[i] = share * values[i - 1] + (1 - share**2) ** 0.5 * values[i]
    return values


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_steady_repetitions_are_seldom_taken_for_a_drift(share):
    draws = np.random.default_rng(11)
    trials = 60
    found = [codes(run(runner_said(gaps_ms=10 * (1 + 0.015 * alike(draws, 10, share))))) for _ in range(trials)]
    assert sum("drift" in reasons for reasons in found) <= 0.05 * trials


@pytest.mark.parametrize(("uncertainty_ns", "expected"), [(None, []), (10 * MS, []), (25 * MS, ["clock_uncertain"])])
def test_the_clock_is_known(uncertainty_ns, expected):
    seen = run(start=replace(make_start(), clock_uncertainty_ns=uncertainty_ns))
    assert codes(seen) == expected
    assert [reason.figures for reason in seen.reasons] == [{"uncertainty_s": 0.025}] * len(expected)


@pytest.mark.parametrize(
    ("asked", "on", "expected"),
    [("on", 1.0, []), ("off", 0.0, []), (None, 0.0, []), ("on", 0.0, ["screen_state"]), ("off", 1.0, ["screen_state"])],
)
def test_the_screen_is_as_asked(asked, on, expected):
    start = make_start(conditions=Conditions(screen=asked))
    seen = run(start=start, traces=with_channel(channel("screen_on", "state", lambda t: on, site="screen")))
    assert codes(seen) == expected


def prepared(name, stdout, stderr="", exit_code=0):
    return Event(
        "prepared",
        at(0.2),
        {"name": name, "exit_code": exit_code, "signal": None, "stdout": stdout, "stderr": stderr},
    )


def knobs_run(*events):
    knobs = (
        Knob(name="brightness", before="128", asked="10"),
        Knob(name="charging", before="allowed", asked="suspended"),
    )
    return run(start=replace(make_start(), knobs=knobs), events=[*events, *agent_events()])


def test_knobs_that_read_back_as_asked_are_fine():
    assert codes(knobs_run(prepared("check brightness", "10\n"), prepared("check charging", "suspended\n"))) == []


def test_a_knob_that_reads_back_otherwise_is_not_the_run_that_was_asked_for():
    refused = prepared("set charging", "", "java.lang.SecurityException: not allowed\n", 255)
    seen = knobs_run(prepared("check brightness", "10\n"), refused, prepared("check charging", "allowed\n"))
    (reason,) = seen.reasons
    assert (reason.code, seen.verdict) == ("knob_not_applied", Verdict.INVALID)
    assert reason.message == (
        "charging was asked to be suspended, it reads allowed (java.lang.SecurityException: not allowed)"
    )


def test_a_knob_that_nobody_read_back_is_not_believed():
    seen = knobs_run(prepared("check brightness", "10\n"))
    assert seen.reasons[0].message == "charging was asked to be suspended, it was not read back"
    assert seen.reasons[0].figures == {"knobs": 1.0}


@pytest.mark.parametrize(
    ("resident", "expected"), [(0.0, []), (0.04, []), (0.6, ["cache_not_cold"]), (None, ["cache_not_cold"])]
)
def test_cold_loads(resident, expected):
    said = runner_said()
    said[0] = {**said[0], "page_cache": {"asked": "cold", "resident_before": resident}}
    start = make_start(settings=Settings(threads=2, page_cache="cold"))
    assert codes(run(said, start=start)) == expected


def test_repetitions_that_differ():
    assert codes(run(runner_said(gaps_ms=(10, 10.2, 10.4)))) == []
    seen = run(runner_said(gaps_ms=(10, 10, 14)))
    assert codes(seen) == ["unstable"]
    assert seen.reasons[0].figures["cv"] == pytest.approx(0.18232, abs=1e-5)


def test_too_few_repetitions():
    assert codes(run(runner_said(gaps_ms=(10, 10)))) == ["too_few_repetitions"]
    said = [{**event, "repetition": 0} if event["event"] == "generation" else event for event in runner_said()]
    assert codes(run(said)) == ["too_few_repetitions"]
    sustained = Workload(kind="sustained", n_prompt=512, n_gen=128, duration_s=12.0)
    assert codes(run(said, start=make_start(workload=sustained))) == []


def test_missed_ticks():
    late = {"cpu_ns": 600 * MS, "rss_bytes": 1, "missed": {"0": 30, "1": 0}, "ticks": {"0": 480, "1": 40}}
    seen = run(events=[*agent_events(), Event("self", at(59), late)])
    assert codes(seen) == ["missed_ticks"]
    assert seen.reasons[0].figures == {"missed": 30, "ratio": pytest.approx(30 / 550)}


def test_a_full_disk_leaves_the_end_unwatched():
    seen = run(events=[*agent_events(), Event("journal_full", at(12), {"errno": 28})])
    assert codes(seen) == ["journal_full"]
    assert seen.verdict is Verdict.SUSPECT
    assert seen.reasons[0].figures["unsampled_s"] > 1


def test_a_torn_journal_of_a_run_that_ended_well():
    assert codes(run(torn=True)) == ["journal_torn"]


def test_reasons_of_different_kinds_are_all_told():
    start = make_start()
    start = replace(start, spec=replace(start.spec, settings=Settings(threads=4)))
    seen = run(runner_said(gaps_ms=(10, 14)), start=start, torn=True)
    assert codes(seen) == ["wrong_threads", "too_few_repetitions", "unstable", "journal_torn"]
    assert seen.verdict is Verdict.INVALID


def test_what_a_knob_changed_before_the_run_is_no_disturbance():
    """Sampling begins before the conditions are set: a power mode lowers the limit, as it was asked to."""
    knob = Knob(name="nvpmodel", before="MAXN", asked="15W")
    limit = channel("policy0_limit_hz", "frequency", lambda t: 2e9 - (t > 0.1) * 5e8, site="policy0")
    governor = channel("policy0_governor", "state", lambda t: 3e9 + (t > 0.1), site="policy0")
    jtop = channel("nvpmodel", "state", lambda t: 3e9 + (t > 1.5), site="device")
    told = [prepared("set nvpmodel", ""), prepared("check nvpmodel", "15W\n")]
    start = replace(make_start(), knobs=(knob,))
    assert codes(run(start=start, traces=[limit, governor, jtop], events=[*told, *agent_events()])) == []
    assert codes(run(start=start, traces=[limit], events=agent_events())) == ["throttled", "knob_not_applied"][::-1]


@pytest.mark.parametrize(("followed_s", "expected"), [(2.0, []), (6.0, ["power_mode_changed"])])
def test_jtop_may_tell_of_a_mode_a_moment_after_it_was_set(followed_s, expected):
    told = [replace(event, t_ns=at(9.5)) for event in (prepared("set nvpmodel", ""), prepared("check nvpmodel", "15W"))]
    start = replace(make_start(), knobs=(Knob(name="nvpmodel", before="MAXN", asked="15W"),))
    jtop = channel("nvpmodel", "state", lambda t: 3e9 + (t > 9.5 + followed_s), site="device")
    assert codes(run(start=start, traces=[jtop], events=[*told, *agent_events()])) == expected
