"""Columns, groups, refusals: what may stand side by side, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compare_samples import bundles, cells
from store_samples import make_bundle

from melt.analysis.alike import BY, IncomparableError
from melt.analysis.compare import compare
from melt.analysis.judgement import Judgement
from melt.cli.compare import _BY
from melt.errors import UsageError
from melt.records import Apart, Conditions, Knob, Metric, Outcome, Reason, Session, Verdict
from melt.report.comparison import render
from melt.report.scale import scale_for


def test_a_column_is_the_median_of_its_sessions():
    base, other = cells(compare(bundles({"q8_0": [30, 31, 50], "q4_0": [44, 40, 41]})))
    assert (base.summary.median, base.summary.low, base.summary.high, base.summary.n) == (31, 30, 50, 3)
    assert other.summary.median == 41
    assert other.difference == pytest.approx(41 / 31 - 1)
    assert base.difference is None
    assert other.judgement is Judgement.TOO_FEW


def test_six_sessions_are_judged():
    (_, other) = cells(
        compare(bundles({"q8_0": [30, 31, 30.5, 30.2, 30.9, 30.4], "q4_0": [40, 41, 40.5, 40.2, 40.9, 40.4]}))
    )
    assert other.judgement is Judgement.HIGHER
    assert other.detectable == pytest.approx(2.8016 * 1.2533 * 1.4826 * 0.35 * (2 / 6) ** 0.5 / 30.45, rel=1e-3)


def test_columns_stand_in_the_order_they_were_run_whatever_order_they_come_in():
    made = bundles({"q8_0": [30], "f16": [20], "q4_0": [40]})
    assert [c.label for c in compare(made[::-1]).groups[0].columns] == ["q8_0", "f16", "q4_0"]


def test_columns_stand_in_the_order_of_the_plan_and_the_first_is_the_base_when_they_were_run_at_random():
    made = []
    for i, (quant, cell) in enumerate([("q4_0", 2), ("f16", 0), ("q8_0", 1)]):
        bundle = make_bundle(f"r{i}", quant=quant, position=i)
        made.append(replace(bundle, start=replace(bundle.start, spec=replace(bundle.start.spec, cell=cell))))
    (group,) = compare(made).groups
    assert [column.label for column in group.columns] == ["f16", "q8_0", "q4_0"]
    assert group.base == 0


def test_reference_runs_are_no_sessions_unless_nothing_else_is_asked_for():
    made = bundles({"q8_0": [30, 90, 31, 90], "q4_0": [40, 41]})
    for i in (2, 5):
        made[i] = replace(made[i], start=replace(made[i].start, spec=replace(made[i].start.spec, reference=True)))
    references = [bundle for bundle in made if bundle.start.spec.reference]
    assert [b.start.spec.quant for b in references] == ["q8_0", "q8_0"]
    (base, _) = cells(compare(made))
    assert (base.summary.n, base.summary.median) == (2, 30.5)
    (alone,) = cells(compare(references))
    assert alone.summary.n == 2


def in_session(bundle, uid, apart=Apart.BLOCK, number=0):
    spec = bundle.start.spec
    session = Session(
        uid=uid,
        sweep_id=spec.sweep_id,
        device_id=bundle.start.device.device_id,
        block=spec.block,
        number=number,
        apart=apart,
        began_utc_ns=bundle.start.started_utc_ns,
    )
    return replace(bundle, start=replace(bundle.start, session=session))


def test_runs_of_one_session_are_one_value():
    made = [in_session(b, f"u{i // 3}") for i, b in enumerate(bundles({"q8_0": [30, 31, 35, 40, 50, 90]}))]
    made[1] = replace(made[1], stop=replace(made[1].stop, verdict=Verdict.SUSPECT))
    made[5] = replace(made[5], stop=replace(made[5].stop, outcome=Outcome.ABORTED, verdict=Verdict.INVALID))
    comparison = compare(made)
    (cell,) = cells(comparison)
    assert (cell.summary.n, cell.summary.low, cell.summary.high) == (2, 31, 45)
    (column,) = comparison.groups[0].columns
    assert column.outcomes == {Outcome.OK: 2}
    assert column.verdicts == {Verdict.SUSPECT: 1, Verdict.VALID: 1}
    assert len(column.run_ids) == 6


def test_without_a_session_of_its_own_a_run_is_of_its_block_and_boot():
    made = bundles({"q8_0": [30, 31, 35]})
    made[1] = replace(made[1], start=replace(made[1].start, spec=replace(made[1].start.spec, block=0)))
    (cell,) = cells(compare(made))
    assert (cell.summary.n, cell.summary.low, cell.summary.high) == (2, 30.5, 35)
    rebooted = replace(made[1].start.device, boot_id="b2")
    made[1] = replace(made[1], start=replace(made[1].start, device=rebooted))
    assert cells(compare(made))[0].summary.n == 3


@pytest.mark.parametrize(
    ("aparts", "said"),
    [
        (("start", "block", "block"), "All sessions but the first followed the one before without boot"),
        (("start", "cool-down", "block"), "1 of 3 sessions followed the one before without boot, cool-down or pause"),
        (("start", "boot", "pause"), None),
    ],
)
def test_sessions_with_nothing_between_them_are_told(aparts, said):
    made = bundles({"q8_0": [30, 31, 35], "q4_0": [40, 41, 42]})
    kept = [in_session(b, f"u{i // 2}", Apart(aparts[i // 2]), i // 2) for i, b in enumerate(made)]
    notes = [note for note in compare(kept).notes if "page cache" in note]
    assert [note[: len(said or "")] for note in notes] == ([said] if said else [])
    assert not any("page cache" in note for note in compare(made).notes), "of old runs nobody knows"
    assert not any("page cache" in note for note in compare(kept[2:4]).notes), "one session a column has no spread"


def test_facts_of_the_file_are_not_judged():
    comparison = compare(bundles({"q8_0": [30] * 6, "q4_0": [40] * 6}))
    assert [c.judgement for c in cells(comparison, "file_bytes")] == [None, None]
    assert cells(comparison, "bits_per_weight")[1].difference == 0


def test_what_else_was_asked_for_makes_groups():
    made = [*bundles({"q8_0": [30], "q4_0": [40]}), *bundles({"q8_0": [10], "q4_0": [15]}, n_prompt=0)]
    made += [replace(b, start=replace(b.start, spec=replace(b.start.spec, model="other"))) for b in made[:2]]
    comparison = compare(made)
    assert [g.label for g in comparison.groups] == ["pp512+tg128, tiny", "tg128, tiny", "pp512+tg128, other"]
    assert all(len(g.columns) == 2 for g in comparison.groups)


def test_groups_are_told_apart_by_providers_in_words_of_a_plan():
    made = bundles({"q8_0": [30, 35]})
    settings = replace(made[1].start.spec.settings, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    made[1] = replace(made[1], start=replace(made[1].start, spec=replace(made[1].start.spec, settings=settings)))
    assert [g.label.partition(", ")[2] for g in compare(made).groups] == [
        "providers=default",
        "providers=CUDAExecutionProvider+CPUExecutionProvider",
    ]


def test_runs_under_other_conditions_are_never_in_one_group():
    made = bundles({"q8_0": [30, 35, 40]})
    for i, conditions in enumerate((Conditions(screen="on"), Conditions(screen="off", wifi=False))):
        start = made[i].start
        made[i] = replace(made[i], start=replace(start, spec=replace(start.spec, conditions=conditions)))
    assert [g.label for g in compare(made).groups] == [
        "pp512+tg128, screen on, wifi as found",
        "pp512+tg128, screen off, wifi off",
        "pp512+tg128, screen as found, wifi as found",
    ]


def with_conditions(bundle, settings=None, **conditions):
    spec = replace(
        bundle.start.spec, conditions=Conditions(**conditions), settings=settings or bundle.start.spec.settings
    )
    return replace(bundle, start=replace(bundle.start, spec=spec))


def test_conditions_are_set_side_by_side_when_asked_for():
    on, off, found = bundles({"q8_0": [30, 35, 40]})
    made = [with_conditions(on, screen="on"), with_conditions(off, screen="off", airplane=True), found]
    (group,) = compare(made, by="conditions").groups
    assert [c.label for c in group.columns] == ["screen on", "screen off, airplane on", "as found"]


def test_a_cluster_is_the_same_wish_on_phones_that_number_their_cpus_otherwise():
    one, two = bundles({"q8_0": [30, 35]})
    settings = one.start.spec.settings
    made = [
        with_conditions(one, replace(settings, affinity="4-7"), cluster="big"),
        with_conditions(two, replace(settings, affinity="6,7"), cluster="big"),
    ]
    assert len(compare(made).groups) == 1
    made[1] = with_conditions(two, replace(settings, affinity="6,7"))
    assert len(compare(made).groups) == 2


def test_settings_that_differ_name_their_groups():
    made = bundles({"q8_0": [30, 35]})
    spec = made[1].start.spec
    spec = replace(spec, settings=replace(spec.settings, cache_type_k="q8_0"))
    made[1] = replace(made[1], start=replace(made[1].start, spec=spec))
    assert [g.label for g in compare(made).groups] == [
        "pp512+tg128, cache_type_k=f16",
        "pp512+tg128, cache_type_k=q8_0",
    ]


@pytest.mark.parametrize(("by", "labels"), [("workload", ["pp512+tg128", "tg128"]), ("threads", ["2 threads"])])
def test_other_columns(by, labels):
    made = [*bundles({"q8_0": [30]}), *(bundles({"q8_0": [10]}, n_prompt=0) if by == "workload" else [])]
    (group,) = compare(made, by=by).groups
    assert [c.label for c in group.columns] == labels


def test_by_device():
    made = [make_bundle("r0", device="pixel"), make_bundle("r1", device="orin", position=1)]
    made[1] = replace(made[1], start=replace(made[1].start, device=replace(made[1].start.device, os_build="L4T 36")))
    (group,) = compare(made, by="device").groups
    assert [c.label for c in group.columns] == ["pixel", "orin"]


def changed(bundle, what):
    start, stop = bundle.start, bundle.stop
    match what:
        case "OS build":
            start = replace(start, device=replace(start.device, os_build="Debian 13"))
        case "kernel":
            start = replace(start, device=replace(start.device, kernel="6.12"))
        case "engine revision":
            stop = replace(stop, used={**stop.used, "engine_revision": "b1"})
        case "model file":
            start = replace(start, artifact=replace(start.artifact, sha256="f" * 64))
        case "model architecture":
            start = replace(start, artifact=replace(start.artifact, architecture="gemma"))
    return replace(bundle, start=start, stop=stop)


@pytest.mark.parametrize("what", ["OS build", "kernel", "engine revision", "model file", "model architecture"])
def test_unlike_runs_are_refused_and_the_difference_is_named(what):
    made = bundles({"q8_0": [30, 31], "q4_0": [40, 41]})
    made[2] = changed(made[2], what)
    with pytest.raises(IncomparableError, match=rf"the {what} is .* in run r0 and .* in run r") as caught:
        compare(made)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_levels_of_different_originals_are_refused():
    made = bundles({"q8_0": [30], "q4_0": [40]})
    origins = ("a" * 64, "b" * 64)
    made = [
        replace(b, start=replace(b.start, artifact=replace(b.start.artifact, origin_sha256=origin)))
        for b, origin in zip(made, origins, strict=True)
    ]
    with pytest.raises(IncomparableError, match="the levels were made of"):
        compare(made)


def test_unknown_is_no_difference():
    made = bundles({"q8_0": [30], "q4_0": [40]})
    made[1] = replace(made[1], stop=replace(made[1].stop, used={}))
    assert len(compare(made).groups) == 1


def test_failed_sessions_count_but_give_no_figures():
    made = bundles({"q8_0": [30, 31, 32]})
    made += [make_bundle("x", quant="f16", position=9, outcome=Outcome.OOM)]
    made += [make_bundle("y", quant="q8_0", position=10, block=3, outcome=Outcome.TIMEOUT)]
    comparison = compare(made)
    q8_0, f16 = comparison.groups[0].columns
    assert q8_0.outcomes == {Outcome.OK: 3, Outcome.TIMEOUT: 1}
    assert (q8_0.n_ok, f16.n_ok) == (3, 0)
    assert cells(comparison)[0].summary.n == 3
    assert cells(comparison)[1].summary is None
    assert "f16: oom, The kernel killed it." in comparison.notes


def test_doubts_are_told_once_for_each_kind():
    made = bundles({"q8_0": [30, 31], "q4_0": [40, 41]})
    reasons = [Reason(code="unstable", message=f"it varies by {i} %") for i in range(4)]
    made = [
        replace(b, stop=replace(b.stop, verdict=Verdict.SUSPECT, reasons=(r,)))
        for b, r in zip(made, reasons, strict=True)
    ]
    comparison = compare(made)
    assert comparison.notes == ("q8_0, q4_0: suspect in 4 runs, for example it varies by 0 %",)
    assert comparison.groups[0].columns[0].verdicts == {Verdict.SUSPECT: 2}


def test_notes_of_files_are_told_once():
    made = bundles({"q8_0": [30, 31], "q4_0": [40, 41]})
    made = [
        replace(b, start=replace(b.start, artifact=replace(b.start.artifact, notes=("from a lossy origin",))))
        for b in made
    ]
    assert compare(made).notes == ("q8_0, q4_0: from a lossy origin",)


def test_what_no_run_measured_is_told_with_its_reason():
    made = bundles({"q8_0": [30], "q4_0": [40]})
    note = Metric(name="temperature_max_c", value=None, unit="c", note="no temperature sensor")
    made = [replace(b, metrics=(*b.metrics, note)) for b in made]
    comparison = compare(made, metrics=("decode_tps", "temperature_max_c", "power_mean_w"))
    assert comparison.unmeasured == {"temperature_max_c": "no temperature sensor", "power_mean_w": "not recorded"}
    assert [row.metric for row in comparison.groups[0].rows] == ["decode_tps"]


def test_nothing_to_compare():
    assert compare([]).groups == ()
    with pytest.raises(UsageError, match="choose device, model, quant"):
        compare([], by="colour")


def test_the_command_line_offers_what_there_is():
    assert set(_BY) == set(BY)


def on_a_board(bundle, mode, *, locked=False, **conditions):
    """Return the run as of a board that was found in a power mode; None: as an older melt wrote it down."""
    start = bundle.start
    spec = replace(start.spec, conditions=Conditions(**conditions))
    asked = conditions.get("nvpmodel")
    knobs = () if asked is None else (Knob(name="nvpmodel", before=mode, asked="MAXN" if asked == "0" else asked),)
    device = replace(start.device, power_mode=mode, clocks_locked=locked)
    return replace(bundle, start=replace(start, device=device, spec=spec, knobs=knobs))


def test_a_power_mode_that_nobody_asked_for_must_agree():
    base, other = bundles({"q8_0": [30], "q4_0": [40]})
    compare([on_a_board(base, "15W"), on_a_board(other, "15W")])
    compare([on_a_board(base, "15W"), on_a_board(other, None, locked=None)])
    with pytest.raises(IncomparableError, match="the power mode is '15W' in run r0 and 'MAXN' in run r1"):
        compare([on_a_board(base, "15W"), on_a_board(other, "MAXN")])
    with pytest.raises(IncomparableError, match=r"state of the clocks .* is 'fixed' in run r0 and 'left to"):
        compare([on_a_board(base, "15W", locked=True), on_a_board(other, "15W")])


def test_a_power_mode_that_was_asked_for_makes_groups_wherever_the_board_was_before():
    base, other = bundles({"q8_0": [30], "q4_0": [40]})
    made = [on_a_board(base, "MAXN", nvpmodel="15W"), on_a_board(other, "15W", nvpmodel="15W")]
    (group,) = compare(made).groups
    assert len(group.columns) == 2
    made[1] = on_a_board(other, "15W", nvpmodel="0")
    assert [g.label for g in compare(made).groups] == ["pp512+tg128, nvpmodel 15W", "pp512+tg128, nvpmodel MAXN"]
    made[0] = on_a_board(base, "15W", nvpmodel="MAXN")
    assert len(compare(made).groups) == 1


def test_clocks_that_were_asked_to_be_fixed_may_have_been_found_in_any_state():
    base, other = bundles({"q8_0": [30], "q4_0": [40]})
    asked = [on_a_board(one, "15W", locked=one is base, jetson_clocks=True) for one in (base, other)]
    assert len(compare(asked).groups) == 1


def test_power_modes_stand_side_by_side_when_asked_for():
    one, two, three = bundles({"q8_0": [30, 31, 50]})
    made = [on_a_board(one, "15W"), on_a_board(two, "15W", nvpmodel="0"), on_a_board(three, None)]
    (group,) = compare(made, by="power_mode").groups
    assert [c.label for c in group.columns] == ["15W", "MAXN", "no power mode"]


def test_devices_may_differ_in_what_is_found_but_each_must_agree_with_itself():
    made = bundles({"q8_0": [30, 31, 50]})
    for i, (device, mode) in enumerate((("orin", "15W"), ("nano", "5W"), ("orin", "25W"))):
        found = on_a_board(made[i], mode)
        made[i] = replace(found, start=replace(found.start, device=replace(found.start.device, device_id=device)))
    compare(made[:2], by="device")
    with pytest.raises(IncomparableError, match="the power mode is '15W' in run r0 and '25W' in run r2"):
        compare(made, by="device")


def test_threads_that_melt_chose_for_each_device_keep_devices_side_by_side():
    def on(bundle, device, threads, *, chosen):
        start = bundle.start
        facts = replace(start.device, device_id=device, name=device)
        spec = replace(start.spec, settings=replace(start.spec.settings, threads=threads))
        return replace(bundle, start=replace(start, device=facts, spec=spec, chosen=("threads",) if chosen else ()))

    phone, board = bundles({"q8_0": [30, 40]})
    for chosen, groups in ((True, 1), (False, 2)):
        made = [on(phone, "phone", 4, chosen=chosen), on(board, "board", 6, chosen=chosen)]
        assert len(compare(made, by="device").groups) == groups
        assert len(compare(made, by="engine").groups) == 2
    text = render(
        compare([on(phone, "phone", 4, chosen=True), on(board, "board", 6, chosen=True)], by="device"), "table"
    )
    assert "threads: phone 4, board 6" in text


def test_a_spread_below_the_last_digit_is_not_written_as_none():
    scale = scale_for([43.1], "tok/s")
    assert [scale.spread(half) for half in (0.0, 0.04, 0.06, 3.0)] == ["", "±<0.1", "±0.1", "±3.0"]
