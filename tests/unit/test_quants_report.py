"""The table of levels, its forms, and which runs of before answer for it."""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import replace

import pytest
from quality_samples import choices_quality, text_quality
from store_samples import make_bundle

from melt.analysis.candidates import AskedLevel, Evidence, Workloads, make_candidates
from melt.analysis.choice import DECODE, ENERGY, LOSS, dominated
from melt.analysis.earlier import earlier, lacking
from melt.analysis.recommend import Limit, recommend
from melt.cli._limits import add_limit_arguments, limits_from_args
from melt.cli._quants_quality import alike_of
from melt.cli._quants_work import sweep_of
from melt.errors import UsageError
from melt.fleet.sweep import Sweep, save
from melt.records import Outcome, RunSpec, Workload
from melt.report.quants import render_levels
from melt.report.quants_data import LevelTable
from melt.store.store import Store

REQUEST, LOAD = Workload(n_prompt=512, n_gen=128), Workload(kind="sustained", n_gen=32, duration_s=60.0)
RATES = {"q8_0": 10.0, "q4_k_m": 20.0, "q3_k_m": 15.0, "q2_k": 30.0}
KL = {"q8_0": 0.001, "q4_k_m": 0.02, "q3_k_m": 0.1, "q2_k": 0.3}


def runs(sessions: int = 6):
    made = []
    for block in range(sessions):
        for quant, rate in RATES.items():
            one = make_bundle(f"{quant}-{block}", quant=quant, block=block, decode_tps=rate * (1 + 0.002 * block))
            made.append(replace(one, start=replace(one.start, spec=replace(one.start.spec, workload=REQUEST))))
    return made


def table(*limits: Limit, sessions: int = 6, bundles=None) -> LevelTable:
    bundles = runs(sessions) if bundles is None else bundles
    artifacts = {b.start.spec.quant: b.start.artifact for b in runs(1)}
    asked = [AskedLevel(str(quant), artifact) for quant, artifact in artifacts.items()]
    asked.append(AskedLevel("iq9", None, "rows of 576 weights are no multiple of 256"))
    texts = [replace(text_quality(q, kl, kl=kl), artifact=artifacts[q]) for q, kl in KL.items()]
    choices = [replace(choices_quality(q, [True, False] * 10), artifact=artifacts[q]) for q in KL]
    candidates = make_candidates(asked, Evidence(Workloads(REQUEST, LOAD), bundles, [*texts, *choices]))
    return LevelTable(
        model="tiny",
        device=bundles[0].start.device,
        engine_revision="llama.cpp 0.5.0-dev",
        workloads=Workloads(REQUEST, LOAD),
        candidates=tuple(candidates),
        dominated=dominated(candidates),
        recommendation=recommend(candidates, limits),
    )


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_a_table_fits_its_screen_and_marks_who_is_what(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = render_levels(table(Limit("--min-tps", DECODE, 18, "18")), "table")
    assert max(map(len, text.splitlines())) <= columns
    flowing = " ".join(text.split())
    assert "q4_k_m: the best quality of the 2 that meet your limit (decode 20.1 ±0.1 tok/s >= 18, quality" in flowing
    assert "q8_0 misses --min-tps" in flowing
    assert "recommended" in text
    assert "dominated" in text, "q3_k_m is slower, larger or even, and worse than q4_k_m"
    assert "iq9: cannot be made: rows of 576 weights" in flowing
    assert "Accuracy, by McNemar's test: no two of the levels can be told apart." in flowing
    assert "sustained" in text.partition("Not measured:")[2]


def test_programs_get_intervals_states_and_what_is_missing():
    found = table(Limit("--max-energy", ENERGY, 0.4, "0.4"), Limit("--max-quality-loss", LOSS, 0.05, "5%"))
    document = json.loads(render_levels(found, "json"))
    levels = {level["level"]: level for level in document["levels"]}
    assert levels["q4_k_m"]["limits"] == {"--max-energy": "not measured", "--max-quality-loss": "met"}
    assert levels["q3_k_m"]["dominated_by"] == ["q4_k_m"]
    figures = levels["q4_k_m"]["figures"]
    assert figures["decode_tps"]["low"] < figures["decode_tps"]["value"] < figures["decode_tps"]["high"]
    assert figures["decode_tps"]["sessions"] == 6
    assert figures["file_bytes"]["sessions"] is figures["accuracy"]["sessions"] is None, "they are of no session"
    assert figures["energy_per_token_j"] == {**figures["energy_per_token_j"], "value": None}
    assert figures["energy_per_token_j"]["missing"]
    assert levels["iq9"]["outcome"] == "cannot be made"
    assert document["recommendation"]["level"] is None
    rows = list(csv.DictReader(io.StringIO(render_levels(found, "csv"))))
    assert [row["level"] for row in rows] == [*RATES, "iq9"]
    assert rows[0]["energy_per_token_j"] == ""
    assert "| file size |" in render_levels(found, "md").replace("  ", " ")
    with pytest.raises(UsageError, match="choose table"):
        render_levels(found, "yaml")


def test_a_level_out_of_memory_is_a_column_with_its_end():
    bundles = [
        replace(b, stop=replace(b.stop, outcome=Outcome.OOM), metrics=()) if b.start.spec.quant == "q8_0" else b
        for b in runs(1)
    ]
    found = table(Limit("--max-quality-loss", LOSS, 0.5, "50%"), bundles=bundles)
    assert found.candidates[0].outcome == "oom"
    assert found.candidates[0].fits == "no"
    assert found.recommendation.level == "q2_k"


def test_a_level_that_ran_out_of_memory_once_does_not_simply_fit():
    first, *others = runs(3)
    bundles = [replace(first, stop=replace(first.stop, outcome=Outcome.OOM), metrics=()), *others]
    found = table(Limit("--min-tps", DECODE, 5, "5"), bundles=bundles)
    assert [c.fits for c in found.candidates if c.runs] == ["not always", "yes", "yes", "yes"]
    assert "q8_0: 1 run of it ended because memory ran out." in " ".join(render_levels(found, "table").split())


def test_each_level_says_its_own_reason_for_what_was_not_measured():
    found = table(sessions=1)
    said = {c.level: replace(c, missing={ENERGY: "no power sensor"}) for c in found.candidates if c.runs}
    said["q2_k"] = replace(said["q2_k"], missing={ENERGY: "the gauge is too slow"})
    text = " ".join(render_levels(replace(found, candidates=tuple(said.values())), "table").split())
    assert "energy per token of q8_0, q4_k_m, q3_k_m (no power sensor)" in text
    assert "energy per token of q2_k (the gauge is too slow)" in text


def test_a_level_that_nobody_has_made_yet_is_not_one_that_cannot_be_made():
    (candidate,) = make_candidates([AskedLevel("q5_0", None)], Evidence(Workloads(REQUEST, LOAD), ()))
    assert candidate.outcome == "not made yet"


def test_one_level_evaluated_elsewhere_since_leaves_the_others_theirs():
    here = [replace(text_quality(name, 0.1, kl=0.1), evaluated_utc_ns=1) for name in ("q8_0", "q4_k_m")]
    phone = replace(here[0], device=replace(here[0].device, device_id="phone"), evaluated_utc_ns=2)
    assert alike_of([*here, phone]) == tuple(here)
    assert alike_of([here[0], phone]) == (phone,), "of as many files the newer ones"
    assert alike_of(()) == ()


def test_runs_of_before_answer_as_far_as_they_are_of_the_same():
    bundles = runs(2)
    specs = tuple(bundle.start.spec for bundle in runs(3))
    files = {spec.quant: bundle.start.artifact for spec, bundle in zip(specs, runs(3), strict=True)}
    device = bundles[0].start.device
    found = earlier(bundles, specs, files, device)
    assert len(found) == 8
    left = lacking(specs, found, files)
    assert [(spec.quant, spec.block) for spec in left] == [(quant, 2) for quant in RATES]

    assert not earlier(bundles, specs, files, replace(device, os_build="Debian 13"))
    assert not earlier(bundles, specs, files, replace(device, device_id="another"))
    others = tuple(_with_threads(spec, 4) for spec in specs)
    assert not earlier(bundles, others, files, device)
    rebuilt = {quant: replace(artifact, sha256="f" * 64) for quant, artifact in files.items()}
    assert not earlier(bundles, specs, rebuilt, device)

    newer = [replace(b, stop=replace(b.stop, used={"engine_revision": "b9"})) for b in runs(3)[-4:]]
    newer = [replace(b, start=replace(b.start, started_utc_ns=b.start.started_utc_ns + 10**12)) for b in newer]
    old = [replace(b, stop=replace(b.stop, used={"engine_revision": "b8"})) for b in bundles]
    assert earlier([*old, *newer], specs, files, device) == newer, "the engine's newest revision is what counts"

    failed = [replace(b, stop=replace(b.stop, outcome=Outcome.FAILED)) for b in bundles]
    assert len(lacking(specs, failed, files)) == len(specs), "what failed is tried again"


def test_the_same_command_goes_on_with_the_sweep_that_it_left(tmp_path):
    ran = [replace(b.start.spec, sweep_id="20260101-000000-stopped", plan="quants") for b in runs(2)]
    with Store.open(tmp_path) as store:
        save(tmp_path, Sweep("20260101-000000-stopped", tuple(ran)))
        for one in runs(2)[:5]:
            spec = replace(one.start.spec, sweep_id="20260101-000000-stopped", plan="quants")
            store.publish(replace(one, start=replace(one.start, spec=spec)))
        asked = [replace(spec, run_id=f"anew-{i}", sweep_id="x", position=i) for i, spec in enumerate(ran[5:])]
        found = sweep_of(store, asked)
        assert found.sweep_id == "20260101-000000-stopped"
        assert [spec.run_id for spec in found.specs] == [spec.run_id for spec in (*ran[:5], *asked)]
        assert {spec.sweep_id for spec in found.specs} == {found.sweep_id}
        # What lacks something that is not asked for now is somebody else's.
        assert sweep_of(store, asked[1:]).sweep_id != found.sweep_id
        assert sweep_of(store, [replace(spec, plan="nightly") for spec in asked]).sweep_id != found.sweep_id


def test_a_bound_says_its_unit_and_a_loss_may_be_more_than_all():
    parser = argparse.ArgumentParser()
    add_limit_arguments(parser)
    given = "--max-ttft 100 --max-memory 3000000000 --max-energy .4 --min-tps 10 --max-quality-loss 150%"
    limits = limits_from_args(parser.parse_args(given.split()))
    assert [limit.said for limit in limits] == ["10", "100 s", "3000000000 B", ".4 J", "150%"]
    assert limits[-1].bound == pytest.approx(1.5)
    with pytest.raises(SystemExit):
        parser.parse_args(["--max-quality-loss", "2"])


@pytest.mark.parametrize("word", ["400MJ", "1kJ", "400 watts"])
def test_joules_of_a_token_are_no_megajoules(word, capsys):
    parser = argparse.ArgumentParser()
    add_limit_arguments(parser)
    assert limits_from_args(parser.parse_args(["--max-energy", "400mJ"]))[0].bound == pytest.approx(0.4)
    with pytest.raises(SystemExit):
        parser.parse_args(["--max-energy", word])
    assert f"such as 0.4 (joules per token) or 400mJ, found '{word}'" in capsys.readouterr().err


def test_threads_that_melt_chose_then_are_those_that_nobody_asks_for_now():
    bundles = runs(1)
    specs = tuple(_with_threads(bundle.start.spec, None) for bundle in bundles)
    files = {bundle.start.spec.quant: bundle.start.artifact for bundle in bundles}
    assert not earlier(bundles, specs, files, None)
    chosen = [replace(b, start=replace(b.start, chosen=("threads",))) for b in bundles]
    assert len(earlier(chosen, specs, files, None)) == len(bundles)


def _with_threads(spec: RunSpec, threads: int | None) -> RunSpec:
    return replace(spec, settings=replace(spec.settings, threads=threads))
