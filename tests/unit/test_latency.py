"""Figures of a single-shot model whose answers are known by arithmetic, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_samples import COMPLETED, agent_events, at, channel, figures, make_start, notes, run

from melt.analysis.evaluate import evaluate
from melt.analysis.latency import INFERENCES, NAMES, OF_TOKENS
from melt.analysis.names import METRICS
from melt.analysis.order_effect import main_rate
from melt.analysis.rates import UNTIMED
from melt.engines.base import RunnerReport
from melt.plan.workloads import parse_workload
from melt.records import Outcome, RunStart, Settings, Verdict

USED = {
    "threads": 2,
    "inter_op_threads": 1,
    "providers_asked": [],
    "providers": ["CPUExecutionProvider"],
    "nodes_by_provider": {"CPUExecutionProvider": 37},
    "graph_optimization": "all",
    "arena": True,
    "io_binding": False,
    "inputs": {"x": {"type": "float", "shape": [2, 3]}},
    "backend": "CPU",
}


def start(word: str = "infer100 batch=2", **settings: Any) -> RunStart:
    return make_start(workload=parse_workload(word), settings=Settings(threads=2, **settings))


def requests(begin_s: float, repetition: int, latencies_ms: Sequence[float], *, warmup: bool = False) -> dict[str, Any]:
    """Requests of a batch of two that follow each other after a millisecond."""
    ends = begin_s * 1000 + np.cumsum(latencies_ms) + np.arange(len(latencies_ms))
    return {
        "event": "inferences",
        "repetition": repetition,
        "warmup": warmup,
        "batch": 2,
        "t0_ns": [at((end - own) / 1000) for end, own in zip(ends, latencies_ms, strict=True)],
        "t1_ns": [at(end / 1000) for end in ends],
    }


def said(*latencies_ms: Sequence[float], used: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Load for 0.4 s; a warm-up of one request of 180 ms; a repetition every 4 s from 10 s on."""
    load = {"event": "load", "t0_ns": at(1), "t1_ns": at(1.4), "used": {**USED, **(used or {})}, "memory": {}}
    measured = [requests(10 + 4 * i, i, own) for i, own in enumerate(latencies_ms)]
    return [load, requests(4, 0, [180], warmup=True), *measured, {"event": "finish", "t_ns": at(60)}]


STEADY = [9.0] * 99 + [19.0]


def test_the_first_request_stands_apart_from_the_steady_ones() -> None:
    evaluation = run(said(STEADY, STEADY, STEADY), start=start())
    seen = figures(evaluation)
    assert evaluation.outcome is Outcome.OK
    assert evaluation.verdict is Verdict.VALID, evaluation.reasons
    assert seen["first_inference_s"] == pytest.approx(0.180)
    assert seen["first_inference_ratio"] == pytest.approx(20)
    assert seen["inference_p50_s"] == seen["inference_p90_s"] == pytest.approx(0.009)
    assert 0.009 < (seen["inference_p99_s"] or 0) <= 0.019
    # 100 requests from the first's begin to the last's end: 99 x 9 + 19 ms and 99 pauses of a millisecond.
    assert seen["inferences_per_s"] == pytest.approx(100 / 1.009)
    assert seen["items_per_s"] == pytest.approx(200 / 1.009)
    assert seen["load_s"] == pytest.approx(0.4)
    assert set(seen).isdisjoint(OF_TOKENS)
    assert notes(evaluation)["inference_p99_s"] is None


def test_repetitions_have_figures_of_their_own_and_few_requests_say_so() -> None:
    evaluation = run(said([10] * 5, [20] * 5, [10] * 5), start=start("infer5"))
    assert [figures(evaluation, i)["inference_p50_s"] for i in range(3)] == pytest.approx([0.01, 0.02, 0.01])
    assert figures(evaluation)["inferences_per_s"] == pytest.approx(5 / 0.054)
    assert notes(evaluation)["inference_p99_s"] == "of 15 requests"
    assert [reason.code for reason in evaluation.reasons] == ["unstable"]
    assert "inference rates vary" in evaluation.reasons[0].message


def test_every_request_is_kept_with_its_time() -> None:
    evaluation = run(said([10, 30], [20, 20], [10, 30]), start=start("infer2"))
    (trace,) = evaluation.request_traces
    assert trace.collector == INFERENCES
    assert trace.columns["latency_s"] == pytest.approx([0.18, 0.01, 0.03, 0.02, 0.02, 0.01, 0.03])
    assert trace.columns["warmup"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert trace.columns["index"].tolist() == [0, 0, 1, 0, 1, 0, 1]
    assert trace.t_ns[0] == at(4.18)


def test_energy_of_a_request_is_that_of_the_window_divided_by_the_requests() -> None:
    power = channel("power_w", "power", lambda s: np.where(s < 10, 1.0, 6.0), site="package-0", unit="w", rate_hz=100)
    seen = figures(run(said(STEADY, STEADY, STEADY), start=start(), traces=[power]))
    assert seen["energy_inference_j"] == pytest.approx(6 * 1.009, rel=0.02)
    assert seen["energy_per_inference_j"] == pytest.approx(6 * 1.009 / 100, rel=0.02)
    assert "energy_per_token_j" not in seen


def test_a_time_instead_of_a_count_is_one_repetition_of_many_requests() -> None:
    evaluation = run(said([10] * 200), start=start("infer for 2s"))
    assert evaluation.verdict is Verdict.VALID, evaluation.reasons
    assert [r.code for r in run(said([10] * 200), start=start("infer200")).reasons] == ["too_few_repetitions"]


def test_heat_shows_in_a_long_stretch_of_requests_as_it_does_in_tokens() -> None:
    slowed = [10.0] * 1000 + [20.0] * 1000
    seen = figures(run(said(slowed), start=start("infer for 30s")))
    assert seen["steady_ratio"] == pytest.approx(0.5, rel=0.02)
    assert seen["time_to_throttle_s"] == pytest.approx(11, abs=0.3)
    assert "steady_tps" not in seen
    assert "steady_ratio" not in figures(run(said(STEADY, STEADY, STEADY), start=start()))


def test_a_provider_that_runs_no_node_and_a_setting_that_was_not_taken_are_doubts() -> None:
    cuda = start(providers=("CUDAExecutionProvider", "CPUExecutionProvider"), io_binding=True)
    asked = {"providers_asked": list(cuda.spec.settings.providers)}
    reasons = run(said(STEADY, STEADY, STEADY, used=asked), start=cuda).reasons
    assert [reason.code for reason in reasons] == ["wrong_backend", "wrong_settings"]
    assert reasons[1].message == "asked for io_binding True, used False"
    partly = {
        **asked,
        "nodes_by_provider": {"CUDAExecutionProvider": 30, "CPUExecutionProvider": 7},
        "io_binding": True,
    }
    assert run(said(STEADY, STEADY, STEADY, used=partly), start=cuda).reasons == ()


def test_a_run_that_ended_before_its_first_request_has_no_figure_and_no_token_either() -> None:
    lost = json.loads(json.dumps(said()[:1]))
    evaluation = run(lost, start=start(), end={**COMPLETED, "exit_code": 1})
    seen = figures(evaluation)
    assert evaluation.outcome is Outcome.FAILED
    assert [seen[name] for name in NAMES[:6]] == [None] * 6
    assert "items_per_s" not in seen
    assert set(seen).isdisjoint(OF_TOKENS)


def test_a_run_of_tokens_has_none_of_these_figures_and_every_name_is_a_metric() -> None:
    assert set(figures(run())).isdisjoint(NAMES)
    assert {*NAMES, *OF_TOKENS} <= set(METRICS)
    assert main_rate(start().spec) == "inferences_per_s"
    assert main_rate(replace(start().spec, workload=parse_workload("tg8"))) == "decode_tps"


def test_a_runner_that_tells_no_times_has_its_rate_alone() -> None:
    told = RunnerReport(used={"runner": "wrapped"}, samples={"inferences_per_s": (10.0, 20.0, 12.0)}, complete=True)
    evaluation = evaluate(start(), told, [], agent_events(), torn=False, end=COMPLETED)
    seen = figures(evaluation)
    assert (seen["inferences_per_s"], figures(evaluation, 1)["inferences_per_s"]) == (12, 20)
    assert (seen["inference_p50_s"], notes(evaluation)["inference_p50_s"]) == (None, UNTIMED)
    assert set(seen).isdisjoint(OF_TOKENS)


def test_the_documentation_reckons_with_these_numbers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    seen = figures(run(said(STEADY, STEADY, STEADY), start=start()))
    quantiles = ", ".join(f"{1000 * (seen[f'inference_p{p}_s'] or 0):.1f} ms" for p in (50, 90, 99))
    assert f"| p50, p90, p99 | {quantiles} |" in page
    rates = f"{seen['inferences_per_s']:.1f} inferences/s, {seen['items_per_s']:.1f} items/s"
    assert f"| throughput | {rates} |" in page
