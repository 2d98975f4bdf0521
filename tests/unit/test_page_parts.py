"""What a page is made of: its summary, its trade-offs, which runs have a timeline, and what may stand in the file."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import pytest
from page_samples import HOSTILE, nights
from quality_samples import text_quality
from store_samples import make_bundle

from melt.records import Metric, Workload
from melt.report.page.assemble import Head, page_html
from melt.report.page.fronts import fronts
from melt.report.page.parts import pack
from melt.report.page.runs import run_list
from melt.report.page.summary import summarize_runs
from melt.report.page.timelines import Timelines, timelines


def test_packed_data_come_back_and_hold_no_character_of_html():
    packed = pack({"name": HOSTILE})
    assert not set(packed) & set("<>&\"'")
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == {"name": list(HOSTILE)}


def test_runs_that_do_not_compare_are_summed_up_sweep_by_sweep_and_the_page_says_why():
    bundles = nights(2, devices=("pixel",), traces=0)
    changed = [
        replace(b, start=replace(b.start, device=replace(b.start.device, os_build="Android 17")))
        if b.start.spec.sweep_id == "s001"
        else b
        for b in bundles
    ]
    summary = summarize_runs(changed)
    assert len(summary.lines) == 2 * len(summarize_runs(bundles).lines)
    assert "sweep by sweep" in summary.notes[0]
    assert "Android 17" in summary.notes[0]


def test_a_level_that_another_beats_in_both_is_called_dominated():
    sized = {"slow": (30.0, 200), "best": (60.0, 100), "small": (40.0, 80)}
    bundles = []
    for i, (quant, (rate, size)) in enumerate(sized.items()):
        bundle = make_bundle(f"r{i}", quant=quant, decode_tps=rate)
        artifact = replace(bundle.start.artifact, size_bytes=size)
        bundles.append(replace(bundle, start=replace(bundle.start, artifact=artifact)))
    (picture,) = fronts(bundles, {})
    states = {row["label"]: row["state"] for row in picture.spec["data"]["values"]}
    assert states == {"slow": "dominated", "best": "not dominated", "small": "not dominated"}


def test_what_a_level_keeps_is_its_divergence_where_several_have_one_and_the_size_where_not():
    bundles = [make_bundle(f"r{i}", quant=quant, decode_tps=30.0 + i) for i, quant in enumerate(("q8_0", "q4_0"))]
    files = [bundle.start.artifact.sha256 for bundle in bundles]
    known = {files[0]: [text_quality("q8_0", 0.01, kl=0.02)], files[1]: [text_quality("q4_0", 0.05, kl=0.3)]}
    (by_quality,), (by_size,) = fronts(bundles, known), fronts(bundles, {files[0]: known[files[0]]})
    assert by_quality.name.startswith("KL divergence against decode")
    assert by_size.name.startswith("File size against decode")


def test_the_newest_run_of_each_cell_gets_a_timeline_before_the_next_of_any():
    bundles = nights(2, devices=("pixel",), sessions=1, traces=9)
    found = timelines(bundles[:-1], lambda bundle: bundle, wanted=5)
    cells = [bundles[index].start.spec.quant for index in found.packed]
    assert sorted(cells[:4]) == sorted(set(cells))
    assert "5 of 7 runs" in found.rule


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markup(name):
    bundle = make_bundle(device=name, model=name)
    page = page_html(
        Head(name, "now", "0", name), [bundle], summarize_runs([bundle]), [], Timelines({}, name), {}, lambda: ""
    )
    assert page.count("<script") == page.count("</script>") == 6
    assert "<img" not in page
    assert "\nwindow.hostile" not in page


def inference(run_id: str, quant: str, rate_hz: float, model: str = "resnet"):
    bundle = make_bundle(run_id, model=model, quant=quant)
    workload = Workload(kind="inference", n_infer=50, dims={"batch": 1})
    metrics = (
        Metric(name="inference_p50_s", value=1 / rate_hz, unit="s", source="runner"),
        Metric(name="inferences_per_s", value=rate_hz, unit="inferences/s", source="runner"),
    )
    start = replace(bundle.start, spec=replace(bundle.start.spec, workload=workload))
    return replace(bundle, start=start, metrics=metrics)


def test_single_shot_inference_has_its_own_rates_beside_those_of_tokens():
    single = [inference("i0", "fp32", 20.0), inference("i1", "int8-static", 45.0)]
    summary = summarize_runs(single)
    assert [title for title, _ in summary.headlines] == ["throughput", "latency p50"]
    assert summary.judged == "throughput"
    assert [line.difference.text for line in summary.lines][1:] == ["+125 %"]
    # Another model does other work: it is neither better nor worse.
    sized = [replace_size(one, size) for one, size in zip(single, (100, 30), strict=True)]
    (picture,) = fronts([*sized, replace_size(inference("i2", "fp32", 90.0, "vad"), 10)], {})
    assert picture.name.startswith("File size against throughput, infer50 batch=1 of resnet on ")
    assert "vad" not in json.dumps(picture.spec)

    both = [*single, make_bundle("t0", decode_tps=30.0)]
    listed = run_list(both, summarize_runs(both).scales)
    assert [title for title, _ in listed.columns] == ["prefill", "decode", "latency p50", "throughput"]
    assert [figure.text for figure in listed.lines[0].figures] == ["-", "-", "50.0", "20.0"]
    assert [figure.text for figure in listed.lines[2].figures][2:] == ["-", "-"]


def replace_size(bundle, size_bytes: int):
    artifact = replace(bundle.start.artifact, size_bytes=size_bytes)
    return replace(bundle, start=replace(bundle.start, artifact=artifact))
