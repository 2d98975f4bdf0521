"""Metrics of runs whose answers are known by arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis_samples import (
    BOOT_NS,
    MS,
    agent_events,
    at,
    channel,
    figures,
    generation,
    make_start,
    notes,
    run,
    runner_said,
)

from melt.analysis.bandwidth import kv_bytes_per_token
from melt.analysis.heat import ONLY_WHERE_TOLD
from melt.analysis.latency import NAMES as OF_SINGLE_SHOT
from melt.analysis.names import METRICS
from melt.records import Outcome, Settings, Verdict, Workload
from melt.verdicts import DOUBTS


def test_latency_and_throughput_of_known_times():
    seen = figures(run())
    assert seen["load_s"] == pytest.approx(0.4)
    assert seen["ttft_s"] == pytest.approx(1.02)
    assert seen["tpot_s"] == pytest.approx(0.010)
    assert seen["e2e_s"] == pytest.approx(1.02 + 127 * 0.010)
    assert seen["prefill_tps"] == pytest.approx(512)
    assert seen["decode_tps"] == pytest.approx(100)
    assert seen["itl_p50_s"] == seen["itl_p95_s"] == seen["itl_p99_s"] == pytest.approx(0.010)


def test_summary_is_the_median_of_measured_repetitions():
    evaluation = run(runner_said(gaps_ms=(10, 20, 12.5)))
    assert figures(evaluation)["decode_tps"] == pytest.approx(80)
    assert [figures(evaluation, i)["decode_tps"] for i in range(3)] == pytest.approx([100, 50, 80])
    assert figures(evaluation)["ttft_s"] == pytest.approx(1.02)


def test_gaps_are_pooled_over_repetitions_for_percentiles():
    # 127 gaps each of 10, 20 and 30 ms: the pooled median is 20 ms, the 99th percentile lies among the slowest.
    evaluation = run(runner_said(gaps_ms=(10, 20, 30)))
    assert figures(evaluation)["itl_p50_s"] == pytest.approx(0.020)
    assert figures(evaluation)["itl_p99_s"] == pytest.approx(0.030)
    assert figures(evaluation, 0)["itl_p99_s"] == pytest.approx(0.010)


def test_a_stall_shows_in_the_tail_only():
    said = runner_said(gaps_ms=(10,) * 3)
    for request in said[2:5]:
        request["token_ns"] = request["token_ns"][:100] + [t + 90 * MS for t in request["token_ns"][100:]]
    seen = figures(run(said))
    assert seen["itl_p50_s"] == seen["itl_p95_s"] == pytest.approx(0.010)
    assert seen["itl_p99_s"] == pytest.approx(0.010)
    assert seen["tpot_s"] == pytest.approx((127 * 0.010 + 0.090) / 127)


def test_decode_only_has_no_first_token_of_a_prompt():
    def decode_only(begin_s, repetition, warmup=False):
        request = generation(begin_s, repetition, warmup=warmup)
        return {
            **request,
            "prefill": None,
            "n_prompt": 0,
            "depth": 512,
            "token_ns": [at(begin_s + 0.01 * (i + 1)) for i in range(128)],
        }

    said = [runner_said()[0], *(decode_only(10 + 4 * i, i) for i in range(3)), {"event": "finish", "t_ns": at(60)}]
    evaluation = run(said, start=make_start(workload=Workload(n_gen=128, n_depth=512)))
    seen = figures(evaluation)
    assert seen["decode_tps"] == pytest.approx(100)
    assert seen["tpot_s"] == pytest.approx(0.010)
    assert seen["ttft_s"] is None
    assert seen["prefill_tps"] is None
    assert notes(evaluation)["ttft_s"] == notes(evaluation)["prefill_tps"] == "the workload has no prompt"


def test_prefill_only_decodes_nothing():
    said = [
        {**event, "token_ns": [], "token_ids": []} if event["event"] == "generation" else event
        for event in runner_said()
    ]
    evaluation = run(said, start=make_start(workload=Workload(n_prompt=512)))
    assert figures(evaluation)["prefill_tps"] == pytest.approx(512)
    for name in ("decode_tps", "ttft_s", "tpot_s", "itl_p99_s", "e2e_s", "mbu_ratio"):
        assert figures(evaluation)[name] is None
        assert notes(evaluation)[name] == "the workload decodes nothing"
    assert evaluation.outcome is Outcome.OK


def test_several_requests_in_a_repetition_are_combined():
    # 512 tokens in 1 s twice; decoding 127 tokens in 1.27 s and in 2.54 s.
    said = [
        *runner_said(gaps_ms=())[:1],
        generation(10, 0),
        generation(14, 0, gap_ms=20),
        {"event": "finish", "t_ns": at(60)},
    ]
    seen = figures(run(said), 0)
    assert seen["prefill_tps"] == pytest.approx(512)
    assert seen["decode_tps"] == pytest.approx(254 / (127 * 0.010 + 127 * 0.020))
    assert seen["tpot_s"] == pytest.approx(0.015)


def test_memory_bandwidth_utilisation():
    # 100 MB of weights and 20 kB for each of 512 + 64 tokens on average, 100 times a second, of 20 GB/s.
    expected = (100_000_000 + 20_000 * (512 + 64)) * 100 / 20e9
    assert figures(run())["mbu_ratio"] == pytest.approx(expected)
    halved = runner_said(used={"cache_type_k": "q8_0", "cache_type_v": "q8_0"})
    start = make_start(settings=Settings(threads=2, cache_type_k="q8_0", cache_type_v="q8_0"))
    expected = (100_000_000 + 20_000 * 34 / 64 * (512 + 64)) * 100 / 20e9
    assert figures(run(halved, start=start))["mbu_ratio"] == pytest.approx(expected)
    # ONNX Runtime's decoders say what their whole cache holds, by numpy's name.
    assert kv_bytes_per_token(start.artifact, {"cache_type": "float32"}) == 2 * 20_000
    assert kv_bytes_per_token(start.artifact, {"cache_type": "bfloat9"}) is None


def test_what_another_provider_computed_is_not_held_against_the_cpus():
    ran = {"CUDAExecutionProvider": 90, "CPUExecutionProvider": 7}
    assert figures(run(runner_said(used={"nodes_by_provider": ran})))["mbu_ratio"] is None
    assert figures(run(runner_said(used={"nodes_by_provider": {"CPUExecutionProvider": 97}})))["mbu_ratio"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: replace(s, device=replace(s.device, memory_bandwidth_bytes_per_s=None)), "was not measured"),
        (lambda s: replace(s, artifact=replace(s.artifact, weight_bytes=None)), "weights are unknown"),
        (lambda s: replace(s, artifact=replace(s.artifact, architecture="qwen2moe")), "mixture of experts"),
    ],
)
def test_memory_bandwidth_utilisation_is_not_guessed(change, why):
    evaluation = run(start=change(make_start()))
    assert figures(evaluation)["mbu_ratio"] is None
    assert why in notes(evaluation)["mbu_ratio"]


def test_memory_of_the_runner():
    rss = channel("rss_bytes", "memory", lambda s: 1e6 * s, site="runner", unit="bytes")
    evaluation = run(traces=[rss])
    assert figures(evaluation)["peak_rss_bytes"] == 300_000_000
    assert figures(evaluation, 0)["peak_rss_bytes"] == pytest.approx(12.2e6), "the last sample before its last token"
    assert figures(evaluation)["model_bytes"] == 105_000_000
    assert figures(evaluation)["kv_cache_bytes"] == 13_000_000
    assert figures(run(events=[]))["peak_rss_bytes"] is None
    # The agent's figure counts a first look at the model, too, which the runner waited for.
    said = [*runner_said()[:-1], {"event": "finish", "t_ns": at(60), "peak_rss_bytes": 60_000_000}]
    assert figures(run(said))["peak_rss_bytes"] == 60_000_000


def test_temperature_is_that_of_the_hottest_believable_sensor():
    core = channel("core_c", "temperature", lambda s: 40 + 0.5 * s, site="coretemp Core 0", unit="c")
    board = channel("board_c", "temperature", lambda s: 30 + 0.1 * s, site="acpitz", unit="c")
    stuck = channel("stuck_c", "temperature", lambda s: 100, site="PMIC", unit="c")
    offline = channel("off_c", "temperature", lambda s: -256, site="off", unit="c")
    drive = channel("nvme_c", "temperature", lambda s: 60 + s, site="nvme Composite", unit="c")
    evaluation = run(traces=[stuck, offline, board, core, drive])
    # From the load at 1.0 s to the last token at 20.29 s.
    assert figures(evaluation)["temperature_max_c"] == pytest.approx(40 + 0.5 * 20.2)
    assert figures(evaluation)["temperature_mean_c"] == pytest.approx(40 + 0.5 * (1.0 + 20.2) / 2)
    assert notes(evaluation)["temperature_max_c"] == "coretemp Core 0, the hottest of 2"


def test_what_no_sensor_measures_is_none_and_says_so():
    evaluation = run()
    for name in ("temperature_mean_c", "temperature_max_c"):
        assert figures(evaluation)[name] is None
        assert notes(evaluation)[name] == "no temperature sensor"
    for name in ("power_mean_w", "energy_prefill_j", "energy_decode_j", "energy_per_token_j"):
        assert figures(evaluation)[name] is None
        assert notes(evaluation)[name] == "no power sensor"


def test_overhead_of_the_agent():
    seen = figures(run())
    assert seen["agent_cpu_ratio"] == pytest.approx(0.010)
    assert seen["agent_rss_bytes"] == 800_000
    assert seen["missed_ticks"] == 2
    assert figures(run(events=agent_events()[:1]))["agent_cpu_ratio"] is None


def test_every_run_has_every_metric_with_its_unit():
    for evaluation in (run(), run([], events=[], end=None)):
        summary = {m.name: m.unit for m in evaluation.metrics if m.repetition is None}
        none = {*ONLY_WHERE_TOLD, *OF_SINGLE_SHOT}
        assert summary == {name: info.unit for name, info in METRICS.items() if name not in none}
        assert all(m.note for m in evaluation.metrics if m.value is None)
        assert {m.repetition for m in evaluation.metrics if m.repetition is not None} <= {0, 1, 2}


def test_warmups_are_windows_but_no_metrics():
    evaluation = run()
    warm = [w for w in evaluation.windows if w.warmup]
    assert [w.phase for w in warm] == ["prefill", "decode"]
    assert figures(evaluation)["decode_tps"] == pytest.approx(100)
    assert evaluation.token_trace.columns["warmup"].sum() == 128


def test_token_trace_has_a_row_per_token():
    trace = run().token_trace
    assert trace.t_ns.dtype == np.int64
    assert len(trace.t_ns) == 4 * 128
    assert (np.diff(trace.t_ns) >= 0).all()
    assert trace.t_ns[128] == at(11.02) > BOOT_NS
    assert np.isnan(trace.columns["itl_s"]).sum() == 4
    assert tuple(s.name for s in trace.streams) == tuple(trace.columns)
    assert trace.columns["depth"][128] == 512


def test_a_run_that_broke_off_keeps_what_it_measured():
    evaluation = run(runner_said()[:3], end={"reason": "completed", "exit_code": None, "signal": 11}, events=[])
    assert evaluation.outcome is Outcome.FAILED
    assert evaluation.verdict is Verdict.INVALID
    assert figures(evaluation, 0)["decode_tps"] == pytest.approx(100)


def test_nothing_at_all_is_a_lost_device():
    evaluation = run([], events=[], end=None)
    assert evaluation.outcome is Outcome.DEVICE_LOST
    assert evaluation.windows == ()
    assert len(evaluation.token_trace.t_ns) == 0


def test_the_documentation_defines_every_metric_and_every_doubt():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in (*METRICS, *DOUBTS, *Outcome) if f"`{name}`" not in page] == []
