"""What decides a verdict: each code stands in the table and in the documents, each threshold is what decides."""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from analysis_samples import MS, agent_events, at, channel, make_start, run, runner_said
from store_samples import make_bundle

from melt.codec import from_dict, to_dict
from melt.plan import values
from melt.plan.expand import cell_key, expand
from melt.plan.flags import PlanFlags, plan_from_flags
from melt.records import Reason, RunStart, Sampling, Thresholds, Verdict
from melt.store.reviews import reviewed
from melt.telemetry.journal import Event
from melt.verdicts import DOUBTS, changed, decide, is_told

ROOT = Path(__file__).parents[2]
NO_DOUBTS = {"no_phase", "no_baseline"}
"""Reasons that are only ever notes of figures."""


def strings_in_the_source():
    """Every string that stands in the modules that look for reasons, and those that are written as a reason's code."""
    looked_in = [*(ROOT / "melt/analysis").glob("*.py"), ROOT / "melt/fleet/finish.py"]
    every, as_code = set(), set()
    for path in looked_in:
        if path.name == "outcome.py":  # Why a run ended is no doubt about its figures.
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                every.add(node.value)
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                as_code.add(node.value.value)
    return every, as_code - {"interrupted"}


def test_every_code_that_a_check_can_give_is_decided_on_and_every_decision_has_a_check():
    every, as_code = strings_in_the_source()
    assert len(as_code) > 30
    assert as_code - NO_DOUBTS - set(DOUBTS) == set()
    assert set(DOUBTS) - every == set()


def rows_of(page, heading):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(heading, 1)[1].split("\n#", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {name: cells[1:] for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


def test_the_documentation_gives_each_code_the_verdict_that_it_leads_to():
    told = rows_of("metrics.md", "## Verdict\n")
    known = {code: [str(doubt.plain or "no reason"), str(doubt.metered)] for code, doubt in DOUBTS.items()}
    assert {code: cells[:2] for code, cells in told.items()} == known


def test_every_threshold_can_be_asked_for():
    names = [field.name for field in fields(Thresholds)]
    assert [*values.THRESHOLDS, "invalid"] == names


def judged(said=None, *, energy=None, **how):
    """The sample run by thresholds of its own: those of `how` that are fields of them."""
    asked = {field.name: how.pop(field.name) for field in fields(Thresholds) if field.name in how}
    start = make_start(thresholds=Thresholds(**asked), sampling=Sampling(energy=energy))
    if "clock_ns" in how:
        start = replace(start, clock_uncertainty_ns=how.pop("clock_ns"))
    seen = run(said, start=start, **how)
    return seen.verdict, [reason.code for reason in seen.reasons]


def counts(name, per_s, site):
    return channel(name, "count" if "faults" in name else "duration", lambda t: per_s * t, site=site, cumulative=True)


def watts(**how):
    return channel("psys_w", "power", lambda t: 5.0 + t * 0, site="psys", unit="w", **{"rate_hz": 200.0, **how})


BUSY = [counts("cpu0_busy_s", 1.0, "cpu0"), counts("cpu_user_s", 0.95, "runner")]
LATE = Event("self", at(59), {"cpu_ns": 6, "rss_bytes": 1, "missed": {"0": 3}, "ticks": {"0": 497}})


@pytest.mark.parametrize(
    ("code", "strict", "seen"),
    [
        ("too_few_repetitions", {"repetitions_min": 4}, {}),
        ("unstable", {"unstable_cv": 0.01}, {"said": runner_said(gaps_ms=(10, 10.2, 10.4))}),
        ("drift", {"drift_ratio": 0.005}, {"said": runner_said(gaps_ms=(10, 10.02, 10.04, 10.06, 10.08))}),
        ("missed_ticks", {"missed_ticks_ratio": 0.005}, {"events": [*agent_events(), LATE]}),
        ("sampling_gap", {"gap_periods": 2}, {"traces": [channel("x", "level", lambda t: 0.5, drop=(12.0, 12.3))]}),
        ("clock_uncertain", {"clock_uncertainty_s": 0.002}, {"clock_ns": 5 * MS}),
        (
            "throttled",
            {"frequency_drop_ratio": 0.01},
            {"traces": [channel("f", "frequency", lambda t: 3e9 - 2e7 * t, unit="hz")]},
        ),
        ("background_load", {"background_load_ratio": 0.01}, {"traces": BUSY}),
        ("cpu_stolen", {"cpu_stolen_ratio": 0.005}, {"traces": [BUSY[0], counts("stolen_s", 0.01, "cpu")]}),
        (
            "swapped",
            {"swap_bytes": 1000},
            {"traces": [channel("swap_bytes", "memory", lambda t: 4096.0, site="runner")]},
        ),
        ("read_from_disk", {"major_faults_hz": 5}, {"traces": [counts("faults_major", 10.0, "runner")]}),
        (
            "battery_low",
            {"battery_low_ratio": 0.3},
            {"traces": [channel("battery_level_ratio", "level", lambda t: 0.25, site="battery")]},
        ),
        (
            "energy_gap",
            {"energy_gap_ratio": 0.01},
            {"traces": [watts(drop=(14.5, 14.54))], "energy": "required"},
        ),
    ],
)
def test_a_threshold_is_what_decides(code, strict, seen):
    """What is fine by melt's own thresholds is not by a stricter one, and the other way round."""
    said = dict(seen)
    spoken = said.pop("said", None)
    assert code not in judged(spoken, **said)[1]
    verdict, codes = judged(spoken, **said, **strict)
    assert code in codes
    assert verdict is not Verdict.VALID


def test_a_threshold_may_also_be_less_strict():
    wild = runner_said(gaps_ms=(10, 10, 14))
    assert judged(wild) == (Verdict.SUSPECT, ["unstable"])
    assert judged(wild, unstable_cv=0.3) == (Verdict.VALID, [])


def test_no_threshold_finds_the_battery_of_a_device_without_one_empty():
    assert judged(battery_low_ratio=1.0) == (Verdict.VALID, [])


def test_who_makes_a_reason_invalid_is_told_it_though_energy_is_not_required():
    assert judged() == (Verdict.VALID, [])
    assert judged(invalid=("no_power_sensor",)) == (Verdict.INVALID, ["no_power_sensor"])


def test_a_reason_can_be_made_invalid_and_none_is_ever_made_milder():
    wild = runner_said(gaps_ms=(10, 10, 14))
    assert judged(wild, invalid=("unstable", "charging")) == (Verdict.INVALID, ["unstable"])
    assert judged(wild, invalid=("charging",)) == (Verdict.SUSPECT, ["unstable"])
    for code, doubt in DOUBTS.items():
        reason = [Reason(code=code, message="")]
        for required in (False, True):
            own = doubt.metered if required else doubt.plain
            if is_told(code, Thresholds(), energy_required=required):
                assert decide(reason, Thresholds(), energy_required=required) is own
            assert decide(reason, Thresholds(invalid=(code,)), energy_required=required) is Verdict.INVALID


def test_a_meter_whose_recording_nobody_can_read_was_there_all_the_same():
    lost = Reason(code="meter_unreadable", message="the recording is damaged")
    # Who connects a meter comes for energy, and there is none.
    assert judged(recording=lost) == (Verdict.INVALID, ["meter_unreadable", "no_power_sensor"])
    assert judged(recording=lost, energy="optional") == (Verdict.SUSPECT, ["meter_unreadable"])
    assert judged(recording=lost, energy="optional", invalid=("meter_unreadable",))[0] is Verdict.INVALID


def test_the_worst_reason_counts():
    codes = ("unstable", "wrong_threads", "drift")
    assert decide([Reason(code=c, message="") for c in codes], Thresholds(), energy_required=False) is Verdict.INVALID
    assert decide([], Thresholds(), energy_required=True) is Verdict.VALID


def test_a_review_is_judged_like_any_reason():
    stop = replace(make_bundle().stop, verdict=Verdict.VALID)
    doubt = Reason(code="order_effect", message="rates fell")
    assert reviewed(stop, [doubt], Thresholds()).verdict is Verdict.SUSPECT
    assert reviewed(stop, [doubt], Thresholds(invalid=("order_effect",))).verdict is Verdict.INVALID
    newer = Reason(code="of_a_newer_melt", message="says something")
    assert reviewed(stop, [newer], Thresholds()).verdict is Verdict.SUSPECT


def test_a_document_from_before_reads_as_the_defaults():
    document = to_dict(make_start())
    del document["spec"]["thresholds"]
    assert from_dict(RunStart, document).spec.thresholds == Thresholds()
    asked = make_start(thresholds=Thresholds(unstable_cv=0.08, invalid=("throttled",)))
    assert from_dict(RunStart, to_dict(asked)) == asked


def test_what_is_not_melts_own_is_written_as_it_is_asked_for():
    assert changed(Thresholds()) == ""
    assert changed(Thresholds(swap_bytes=0, unstable_cv=0.08, invalid=("throttled", "charging"))) == (
        "unstable_cv=0.08 swap_bytes=0 invalid=throttled,charging"
    )


def planned(base=None, **flags):
    return plan_from_flags(PlanFlags(models=("tiny",), **flags), base)


def test_flags_replace_the_thresholds_of_a_plan_key_by_key():
    plan = planned(thresholds=("unstable_cv=3%", "clock_uncertainty_s=5ms"), invalid=("throttled,charging",))
    asked = Thresholds(unstable_cv=0.03, clock_uncertainty_s=0.005, invalid=("throttled", "charging"))
    assert plan.thresholds == asked
    assert planned(plan).thresholds == asked
    assert planned(plan, thresholds=("unstable_cv=0.1",)).thresholds == replace(asked, unstable_cv=0.1)
    assert planned(plan, invalid=("drift",)).thresholds == replace(asked, invalid=("drift",))


def test_by_what_a_run_is_judged_makes_no_other_cell_of_it():
    lax, strict = (planned(thresholds=(f"unstable_cv={share}",)) for share in ("1%", "20%"))
    numbers = itertools.count()
    keys = [
        {cell_key(spec) for spec in expand(plan, sweep_id="s", new_run_id=lambda: str(next(numbers)))}
        for plan in (lax, strict, planned())
    ]
    assert keys[0] == keys[1] == keys[2]
