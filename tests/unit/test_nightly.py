"""What makes a night regress, in series whose truth is known: levels, thresholds, acknowledgements, reports."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from statistics import median
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from night_samples import Lab, sweep_id
from store_samples import make_bundle

from melt.analysis.ab import Change
from melt.analysis.alike import FIELDS
from melt.analysis.changepoints import segments
from melt.analysis.history import Series, histories
from melt.analysis.levels import Watch
from melt.analysis.nightly import acknowledgeable, each_night, judge_nights, judge_series
from melt.analysis.policy import Baseline, Policy
from melt.cli._judgeargs import allowed_of
from melt.errors import UsageError
from melt.records import Verdict
from melt.records.acknowledgement import Acknowledgement
from melt.report.junit import junit_xml
from melt.report.nightly import render_night

LAB = Lab(seed=3)
POLICY = Policy(baseline=Baseline("14-nights", 14))

JUNIT = {
    "testsuites": ("name time tests failures disabled errors", "testsuite"),
    "testsuite": (
        "name tests failures errors time disabled skipped timestamp hostname id package",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": ("", "property"),
    "property": ("name value", ""),
    "testcase": ("name time classname status", "skipped error failure system-out system-err"),
    **dict.fromkeys(("skipped", "error", "failure"), ("type message", "")),
    **dict.fromkeys(("system-out", "system-err"), ("", "")),
}
"""Attributes and children that Jenkins' schema (junit-10.xsd) allows, of those that reports use."""


def _series(*factors: float, lab: Lab = LAB, **how: object) -> Series:
    (series,) = histories(bundle for i, factor in enumerate(factors) for bundle in lab.night(i, factor, **how))
    return series


def _open(series: Series, policy: Policy = POLICY) -> list[tuple[str, int]]:
    changes = judge_series(series, len(series.nights) - 1, policy).changes
    return [(change.metric, change.night) for change in changes if change.is_open]


@pytest.mark.slow
def test_quiet_nights_raise_nothing_and_a_drop_is_placed_on_its_night() -> None:
    lab = Lab(seed=5)
    quiet = _series(*[1.0] * 50, lab=lab)
    assert judge_series(quiet, 49, POLICY).changes == ()
    fallen = _series(*[1.0] * 40, *[0.95] * 10, lab=lab)
    failing = [i for i, night in enumerate(each_night(fallen, POLICY)) if any(c.is_open for c in night.changes)]
    assert failing == list(range(40, 50))
    assert _open(fallen) == [("decode_tps", 40)]


def test_one_session_a_night_is_enough_for_the_alert() -> None:
    late = []
    for seed in range(9):
        watch = Watch(1, 0.01)
        for night, value in enumerate(30 * np.exp(0.02 * np.random.default_rng(seed).standard_normal(60))):
            watch.step(night, value * (0.95 if night >= 40 else 1.0), regressed=False)
            if watch.open and len(late) == seed:
                late.append(night - 40)
                assert abs(watch.open.night - 40) <= 3
    assert len(late) == 9
    assert median(late) <= 4


def test_one_odd_night_is_told_by_its_sessions_and_over_the_next_night() -> None:
    series = _series(*[1.0] * 20, 0.8, *[1.0] * 5)
    assert judge_series(series, 20, POLICY).findings[1].change is Change.REGRESSED
    assert judge_series(series, 21, POLICY).findings[1].change is not Change.REGRESSED
    (change,) = judge_series(series, 25, POLICY).changes
    assert (change.night, change.ended, change.is_open) == (20, True, False)
    single = _series(*[1.0] * 20, 0.8, *[1.0] * 5, lab=Lab(sessions=1, seed=3))
    assert not any(c.is_open for night in each_night(single, POLICY) for c in night.changes)


def test_what_creeps_in_is_seen_looking_back() -> None:
    creeping = [1 - 0.0015 * i for i in range(50)]
    series = _series(*creeping, lab=Lab(seed=7))
    assert {change.metric for change in judge_series(series, 49, POLICY).changes if change.is_open} == {"decode_tps"}


def test_a_better_level_becomes_the_measure() -> None:
    series = _series(*[1.0] * 20, *[1.08] * 12, *[1.0] * 6)
    changes = judge_series(series, 31, POLICY).changes
    assert [(c.change, c.night) for c in changes] == [(Change.IMPROVED, 20)]
    assert ("decode_tps", 32) in _open(series)


def test_an_accepted_level_is_what_later_nights_are_held_against() -> None:
    series = _series(*[1.0] * 20, *[0.94] * 10, 0.87)
    report = judge_series(series, 29, POLICY)
    (wanted,) = acknowledgeable(report)
    accepted = Acknowledgement(
        **{
            name: getattr(wanted, name)
            for name in ("change_id", "device_id", "series_id", "metric", "sweep_id", "what")
        },
        because="on purpose",
        made_utc_ns=1,
        melt_version="0.1.0",
    )
    knowing = replace(POLICY, acknowledged=(accepted,))
    (change,) = judge_series(series, 29, knowing).changes
    assert (change.change_id, change.acknowledged, change.is_open) == (wanted.change_id, "on purpose", False)
    assert _open(series, knowing) == [("decode_tps", 30)]


def test_thresholds_are_learnt_or_given_and_say_so() -> None:
    series = _series(*[1.0] * 30)
    learnt = {night: judge_series(series, night, POLICY).findings[1].threshold for night in (0, 1, 5, 29)}
    assert learnt[0] is None
    assert learnt[1] is not None
    assert "sessions differ by" in learnt[1].how
    assert learnt[29] is not None
    assert learnt[29].how.startswith("learnt: 29 nights differ by")
    assert 0.02 < learnt[29].value < 0.07
    told = judge_series(series, 29, replace(POLICY, given={"decode_tps": 0.2})).findings[1].threshold
    assert told is not None
    assert (told.value, told.how) == (0.2, "given")


def test_noise_that_widens_a_threshold_makes_nothing_unchanged() -> None:
    series = _series(*[1.0] * 4, lab=Lab(seed=3, session_cv=0.2))
    for policy, said in ((POLICY, Change.INCONCLUSIVE), (replace(POLICY, given={"decode_tps": 0.9}), Change.UNCHANGED)):
        finding = next(one for one in judge_series(series, 3, policy).findings if one.metric == "decode_tps")
        assert finding.threshold is not None
        assert finding.difference is not None
        assert finding.difference.high is not None
        assert 1.1 < finding.difference.high < 1 + finding.threshold.value
        assert finding.change is said


def test_another_build_is_incomparable_until_it_is_allowed_and_an_engine_is_only_marked() -> None:
    lab, made = Lab(seed=3), []
    for i in range(6):
        for bundle in lab.night(i):
            device = replace(bundle.start.device, os_build="new" if i > 3 else "old")
            stop = replace(bundle.stop, used={**bundle.stop.used, "engine_revision": f"b{i // 2}"})
            made.append(replace(bundle, start=replace(bundle.start, device=device), stop=stop))
    (series,) = histories(made)
    assert [(mark.night, mark.field) for mark in series.marks] == [
        (2, "engine_revision"),
        (4, "os_build"),
        (4, "engine_revision"),
    ]
    assert judge_series(series, 3, POLICY).findings[0].change is not Change.INCOMPARABLE
    for night in (4, 5):
        finding = judge_series(series, night, POLICY).findings[0]
        assert (finding.change, finding.why) == (Change.INCOMPARABLE, "OS build 'old' -> 'new'")
    told = render_night(judge_nights([series], [sweep_id(4)], POLICY), "table")
    assert "New on local: engine revision 'b2', before 'b1'." in told
    allowing = replace(POLICY, allowed=frozenset({"os_build"}))
    assert judge_series(series, 4, allowing).findings[0].change is not Change.INCOMPARABLE


def test_an_accepted_condition_begins_one_level_whatever_is_tagged() -> None:
    built = [("old" if i < 3 else "new", LAB.night(i)) for i in range(8)]
    (series,) = histories(
        replace(b, start=replace(b.start, device=replace(b.start.device, os_build=build)))
        for build, night in built
        for b in night
    )
    tagged = replace(POLICY, baseline=Baseline("what is tagged", sweeps=frozenset({sweep_id(1)})))
    wanted = acknowledgeable(judge_series(series, 3, tagged))[0]
    accepted = Acknowledgement(
        **{name: getattr(wanted, name) for name in wanted.__slots__},
        because="updated",
        made_utc_ns=1,
        melt_version="0.1.0",
    )
    changes = judge_series(series, 7, replace(tagged, acknowledged=(accepted,))).changes
    assert sorted((c.metric, c.night, c.acknowledged) for c in changes) == [
        ("decode_tps", 3, "updated"),
        ("prefill_tps", 3, "updated"),
    ]


def test_a_series_is_missing_only_where_the_same_device_had_it_in_the_same_plan() -> None:
    def fine(*sweeps: tuple[str, str, str]) -> bool:
        made = []
        for i, (plan, device, models) in enumerate(sweeps):
            for bundle in (b for model in models for b in LAB.night(i, model=model, device=device)):
                made.append(replace(bundle, start=replace(bundle.start, spec=replace(bundle.start.spec, plan=plan))))
        return judge_nights(histories(made), [sweep_id(len(sweeps) - 1)], POLICY).is_fine

    assert fine(("nightly", "a", "xy"), ("nightly", "b", "x"), ("nightly", "a", "xy"))
    assert not fine(("nightly", "a", "xy"), ("nightly", "b", "x"), ("nightly", "a", "x"))
    assert not fine(("nightly", "a", "x"), ("nightly", "a", "y"))
    assert fine(("flags", "a", "x"), ("flags", "a", "y"))


def test_of_several_nights_each_is_judged() -> None:
    series = _series(*[1.0] * 7, 0.8, 1.0)
    report = judge_nights([series], [sweep_id(7), sweep_id(8)], POLICY)
    assert [one.series.label for one in report.series] == [f"{series.label}, {sweep_id(night)}" for night in (7, 8)]
    assert [any(f.change is Change.REGRESSED for f in one.findings) for one in report.series] == [True, False]
    assert not report.is_fine


def test_who_measured_may_never_differ() -> None:
    with pytest.raises(UsageError, match="no field 'provenance'"):
        allowed_of(["os_build", "provenance"], FIELDS)
    assert allowed_of(["os_build"], FIELDS) == {"os_build", "kernel"}


def test_only_believed_runs_count_and_reference_runs_are_no_nights() -> None:
    lab = Lab(seed=3, sessions=2)
    good, bad = lab.night(0), lab.night(1, verdict=Verdict.INVALID)
    reference = [replace(b, start=replace(b.start, spec=replace(b.start.spec, reference=True))) for b in lab.night(2)]
    (series,) = histories([*good, *bad, *reference])
    assert [night.verdict for night in series.nights] == [Verdict.VALID, None]
    assert series.nights[1].values == {}
    report = judge_nights([series], [sweep_id(1)], POLICY)
    assert not report.is_fine
    assert report.series[0].failed == "no run whose figures may be believed: 2 invalid"


def test_the_same_thing_is_one_series_however_its_device_is_reached() -> None:
    cable, wifi = (make_bundle(f"r{i}", sweep_id=f"s{i}", device="phone") for i in range(2))
    other = replace(wifi, start=replace(wifi.start, spec=replace(wifi.start.spec, device="10.0.0.7:5555")))
    assert len(histories([cable, other])) == 1
    longer = replace(wifi.start.spec.settings, timeout_s=60.0)
    kept = replace(wifi, start=replace(wifi.start, spec=replace(wifi.start.spec, settings=longer)))
    assert len(histories([cable, kept])) == 1
    threads = replace(wifi.start.spec.settings, threads=4)
    apart = replace(wifi, start=replace(wifi.start, spec=replace(wifi.start.spec, settings=threads)))
    found = histories([cable, apart])
    assert len({one.label for one in found}) == 2


@given(st.text(max_size=20))
def test_hostile_names_are_escaped(name: str) -> None:
    lab = Lab(sessions=1, seed=1)
    made = [b for i, factor in enumerate((1.0, 0.5)) for b in lab.night(i, factor)]
    device = replace(made[0].start.device, name=name)
    (series,) = histories(replace(b, start=replace(b.start, device=device)) for b in made)
    report = judge_nights([series], [sweep_id(1)], POLICY)
    root = ElementTree.fromstring(junit_xml(report).encode(errors="surrogatepass"))
    suite = root.find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase")) == 2
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        assert set(element.keys()) <= set(attributes.split())
        assert {child.tag for child in element} <= set(children.split())
    for fmt in ("table", "md"):
        text = render_night(report, fmt)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert len(re.findall(r"^\| decode ", text, re.MULTILINE)) == (fmt == "md")


def test_no_name_is_markup_in_a_summary() -> None:
    lab = Lab(sessions=6, seed=1)
    name = "<img src=x> [a](http://b) `c` *d* _e_ <!--"
    made = [b for i in range(3) for b in lab.night(i)]
    device = replace(made[0].start.device, name=name)
    (series,) = histories(replace(b, start=replace(b.start, device=device)) for b in made)
    text = render_night(judge_nights([series], [sweep_id(2)], POLICY), "md")
    assert "Thresholds, &#60;img src=x&#62;" in text
    assert not re.search(r"<(?!/?(details|summary)>)|\[a\]|`|\*|_e_", text)
    told = [line for line in text.splitlines() if "img" in line]
    assert {html.unescape(line).count(name) for line in told} == {1}


@pytest.mark.parametrize("values", [[], [5.0] * 30, [5.0] * 29 + [4.0], [1.0, 2.0]])
def test_flat_and_short_histories_have_no_segments(values: list[float]) -> None:
    assert segments(values) == []


def test_a_step_between_equal_values_is_found() -> None:
    assert segments([5.0] * 20 + [4.8] * 20) == [20]
    random = np.random.default_rng(1)
    assert segments(list(np.exp(0.02 * random.standard_normal(90)))) == []
