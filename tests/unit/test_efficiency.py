"""MFU, roofline, memory, and what answers are worth: of runs whose every figure is known by arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from analysis_samples import channel, figures, notes, run, runner_said
from efficiency_samples import GIB, dimensioned, used
from quality_samples import choices_quality, text_quality
from store_samples import make_bundle

from melt.analysis.candidates import AskedLevel, Evidence, Workloads, make_candidates
from melt.analysis.efficiency_answers import ANSWERS, answer_figures, level_answers
from melt.analysis.quality import wilson
from melt.analysis.recommend import recommend
from melt.records import Grid, Metric, RunStart, Settings, Workload
from melt.report.quants import render_levels
from melt.report.quants_data import LevelTable


def test_mfu_counts_what_a_phase_must_compute():
    # All weights but the output matrix for each token, that once; each token attends to all up to itself.
    prefill_ops = 2 * (100e6 * 512 + 10e6) + 2 * 8192 * 512 * 513 / 2
    decode_ops = 2 * 110e6 * 127 + 2 * 8192 * 127 * (512 + 64)
    seen = figures(run(used(), start=dimensioned()))
    assert seen["mfu_prefill_ratio"] == pytest.approx(prefill_ops / 1.0 / 2e12)
    assert seen["mfu_decode_ratio"] == pytest.approx(decode_ops / 1.27 / 2e12)
    assert notes(run(used(), start=dimensioned()))["mfu_decode_ratio"] == "of int8 by i8mm"


def test_an_embedding_of_its_own_is_looked_up_and_not_computed():
    start = dimensioned()
    own = replace(start, artifact=replace(start.artifact, n_params=120_000_000, embedding_bytes=10_000_000))
    tied, untied = (figures(run(used(), start=s))["mfu_decode_ratio"] for s in (start, own))
    assert tied == pytest.approx(untied)


def test_a_model_of_floats_is_held_against_floating_point():
    start = dimensioned()
    floats = replace(start, artifact=replace(start.artifact, tensor_types={"F16": 90, "F32": 5, "Q8_0": 5}))
    quantized, said = run(used(), start=start), run(used(), start=floats)
    assert figures(said)["mfu_prefill_ratio"] == pytest.approx(4 * figures(quantized)["mfu_prefill_ratio"])
    assert notes(said)["mfu_prefill_ratio"] == "of f32 by asimd"


def test_the_roof_is_that_which_is_lower():
    seen = run(used(), start=dimensioned())
    # Decoding reads the weights, and 20 kB for each token of context, 100 times a second, of 20 GB/s.
    assert figures(seen)["roofline_decode_ratio"] == pytest.approx((100e6 + 20_000 * 576) * 100 / 20e9)
    assert figures(seen)["roofline_decode_ratio"] == pytest.approx(figures(seen)["mbu_ratio"])
    assert notes(seen)["roofline_decode_ratio"].startswith("under the roof of memory, 2.06 operations a byte")
    # Prefill reads them once for 512 tokens: its roof is the arithmetic.
    assert figures(seen)["roofline_prefill_ratio"] == pytest.approx(figures(seen)["mfu_prefill_ratio"])
    assert notes(seen)["roofline_prefill_ratio"].startswith("under the roof of compute")


def test_small_batches_read_the_weights_more_often():
    # 64 batches of 8 tokens each read all weights, and the cache up to their end.
    n_bytes = 64 * 100e6 + 20_000 * sum(range(8, 513, 8))
    seen = run(used(n_ubatch=8), start=dimensioned())
    assert figures(seen)["roofline_prefill_ratio"] == pytest.approx(n_bytes / 1.0 / 20e9)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: replace(s, device=replace(s.device, compute=None)), "arithmetic was not measured"),
        (lambda s: replace(s, artifact=replace(s.artifact, n_params=None)), "dimensions or the phase's tokens"),
        (lambda s: replace(s, artifact=replace(s.artifact, architecture="qwen2moe")), "mixture of experts"),
        (lambda s: replace(s, spec=replace(s.spec, settings=Settings(n_gpu_layers=9))), "layers ran elsewhere"),
    ],
)
def test_utilisation_is_not_guessed(change, why):
    said = used(n_gpu_layers=9) if "elsewhere" in why else used()
    seen = run(said, start=change(dimensioned()))
    for name in ("mfu_prefill_ratio", "mfu_decode_ratio", "roofline_prefill_ratio", "roofline_decode_ratio"):
        assert figures(seen)[name] is None
        assert why in notes(seen)[name]


def test_what_is_unknown_of_one_figure_leaves_the_others():
    unread = run(runner_said(), start=dimensioned())
    assert notes(unread)["roofline_prefill_ratio"] == "what is read from memory is unknown"
    assert figures(unread)["mfu_prefill_ratio"] > 0
    start = dimensioned()
    old = run(used(), start=replace(start, artifact=replace(start.artifact, attention_width=None)))
    assert figures(old)["mfu_decode_ratio"] == pytest.approx(2 * 110e6 * 100 / 2e12)
    assert "weights only" in notes(old)["mfu_decode_ratio"]
    decode_only = run(used(), start=dimensioned(workload=Workload(n_gen=128)))
    assert figures(decode_only)["mfu_decode_ratio"] > 0


def test_memory_by_its_mean_and_by_its_peak():
    # From 0 to 60 MB in 60 s: the three repetitions lie around 11, 15 and 19 s; the kernel's own peak is 300 MB.
    rss = channel("rss_bytes", "memory", lambda s: 1e6 * s, site="runner", unit="bytes")
    seen = run(used(), start=dimensioned(), traces=[rss])
    assert figures(seen)["memory_used_ratio"] == pytest.approx(15.1e6 / (4 * GIB), rel=0.02)
    assert figures(seen)["memory_pressure_ratio"] == pytest.approx(300e6 / (2 * GIB))
    assert "2.00 GiB that were available" in notes(seen)["memory_pressure_ratio"]
    assert notes(run(used(), start=dimensioned()))["memory_used_ratio"] == "the runner's memory was not sampled"


def metered() -> tuple[RunStart, tuple[Metric, ...]]:
    start = dimensioned(grid=Grid(g_per_kwh=400.0))
    meter = channel("w", "power", lambda t: 5.0, site="system", unit="w", rate_hz=10.0)
    return start, run(used(), start=start, traces=[meter]).metrics


def told(metrics: tuple[Metric, ...], name: str) -> Metric:
    return next(m for m in metrics if m.name == name and m.repetition is None)


def test_accuracy_by_power_and_by_energy():
    start, metrics = metered()
    quality = choices_quality("q8_0", [True] * 80 + [False] * 20)
    seen = answer_figures(start, metrics, quality, replace(start.artifact, weight_bytes=400_000_000))
    assert list(seen) == list(ANSWERS)
    power, response = told(metrics, "power_mean_w"), told(metrics, "energy_response_j")
    assert seen["intelligence_per_w"].value == pytest.approx(0.8 / 5)
    assert seen["accuracy_per_j"].value == pytest.approx(0.8 / response.value)
    low, high = wilson(80, 100)
    of_accuracy, of_power = max(high - 0.8, 0.8 - low) / 5, 0.16 * power.uncertainty / (5 - power.uncertainty)
    assert seen["intelligence_per_w"].uncertainty == pytest.approx((of_accuracy**2 + of_power**2) ** 0.5)
    assert seen["intelligence_per_w"].source == "whole device"
    assert seen["compression_ratio"].value == pytest.approx(4.0)
    carbon = told(metrics, "carbon_response_g")
    assert seen["carbon_1000_answers_g"].value == pytest.approx(1000 * carbon.value)
    assert seen["carbon_1000_answers_g"].uncertainty == pytest.approx(1000 * carbon.uncertainty)


def test_of_several_runs_the_median_counts():
    start, metrics = metered()
    bundles = [
        replace(
            make_bundle(),
            start=start,
            metrics=tuple(replace(m, value=w) if m.name == "power_mean_w" else m for m in metrics),
        )
        for w in (4.0, 5.0, 8.0)
    ]
    seen = level_answers(bundles, choices_quality("q8_0", [True]))
    assert seen["intelligence_per_w"].value == pytest.approx(1 / 5)
    assert level_answers([], None)["accuracy_per_j"].note == "not run"


def test_a_level_is_shown_with_what_its_answers_are_worth():
    start, metrics = metered()
    done = replace(make_bundle(), start=start, metrics=metrics)
    unmetered = replace(done, metrics=run(used(), start=start).metrics)
    # Power is told under load as well, the energy of a response by the requests alone.
    load = Workload(n_gen=32, duration_s=60.0)
    loaded = replace(done, start=replace(start, spec=replace(start.spec, workload=load)))
    loaded = replace(loaded, metrics=tuple(m for m in metrics if m.name != "energy_response_j"))
    for bundle, shown in ((done, "Intelligence per Watt"), (unmetered, None)):
        evidence = Evidence(
            Workloads(start.spec.workload, load),
            [bundle] if shown is None else [bundle, loaded],
            [choices_quality("q8_0", [True] * 4 + [False])],
            original=replace(start.artifact, weight_bytes=400_000_000),
        )
        candidates = make_candidates([AskedLevel("q8_0", start.artifact)], evidence)
        table = LevelTable(
            model="tiny",
            device=None,
            engine_revision=None,
            workloads=evidence.workloads,
            candidates=tuple(candidates),
            dominated={},
            recommendation=recommend(candidates, (), None),
        )
        text, (level,) = render_levels(table, "md"), json.loads(render_levels(table, "json"))["levels"]
        assert ("Intelligence per Watt | 1/W | 0.160 ±0.085 " in text) == (shown is not None)
        assert level["answers"]["compression_ratio"]["value"] == 4.0
        assert (level["answers"]["accuracy_per_j"]["value"] is None) == (shown is None)
        assert (level["answers"]["accuracy_per_j"]["note"] == "no power sensor") == (shown is None)


def test_answers_are_not_guessed():
    start, metrics = metered()
    right = choices_quality("q8_0", [True])
    for quality, why in (
        (None, "accuracy is not known"),
        (text_quality("q8_0", 0.1), "accuracy is not known"),
        (choices_quality("q4_0", [True]), "of another model file"),
    ):
        assert why in answer_figures(start, metrics, quality)["intelligence_per_w"].note
    dark = answer_figures(start, run(used(), start=start).metrics, right)
    assert [name for name, figure in dark.items() if figure.value is not None] == []
    assert all(figure.note for figure in dark.values())
    unsure = [replace(m, uncertainty=6.0) if m.name == "power_mean_w" else m for m in metrics]
    assert "may be none" in answer_figures(start, unsure, right)["intelligence_per_w"].note
    wrong = answer_figures(start, metrics, choices_quality("q8_0", [False] * 10))["intelligence_per_w"]
    assert wrong.value == 0
    assert wrong.uncertainty > 0
