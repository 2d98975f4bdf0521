"""Order effects: found where a device changes over a sweep, and seldom where it does not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.analysis.order_effect import ORDER_P, main_rate, order_doubts, order_effects, order_notes
from melt.fleet.review import review_sweep
from melt.plan.expand import expand
from melt.plan.model import ModelChoice, Plan, Reference
from melt.records import Outcome, Repeat, Thresholds, Verdict, Workload
from melt.report.comparison import render
from melt.report.comparison_data import nested
from melt.store.reviews import reviewed
from melt.store.store import Store
from melt.traces import RunBundle

QUANTS = {"f16": 20.0, "q8_0": 35.0, "q4_0": 60.0}


def sweep(rate, sessions=6, **parts) -> list[RunBundle]:
    """The runs of three levels on a device; `rate` gives what its speed is multiplied with at a run's position."""
    plan = Plan(
        name="demo",
        models=(ModelChoice(model="tiny", quants=tuple(QUANTS)),),
        workloads=(Workload(n_gen=128),),
        repeat=Repeat(sessions=sessions),
        **{"order_seed": 4, **parts},
    )
    made = []
    for spec in expand(plan, sweep_id="s0", new_run_id=lambda: ""):
        run_id = f"r{spec.position}"
        tps = QUANTS[spec.quant] * rate(spec.position)
        bundle = make_bundle(run_id, quant=spec.quant, position=spec.position, device=spec.device, decode_tps=tps)
        made.append(replace(bundle, start=replace(bundle.start, spec=replace(spec, run_id=run_id))))
    return made


def test_a_device_that_tires_is_found_and_its_loss_is_measured():
    noise = np.random.default_rng(1).normal(1, 0.01, 18)
    (effect,) = order_effects(sweep(lambda i: noise[i] * (1 - 0.10 * i / 17)))
    assert (effect.device, effect.order, effect.n_runs) == ("local", "random", 18)
    assert effect.change == pytest.approx(-0.10, abs=0.03)
    assert effect.p < 0.01


@pytest.mark.parametrize("order", ["random", "interleaved", "sequential"])
def test_cells_that_differ_are_no_effect_of_the_order(order):
    noise = np.random.default_rng(1).normal(1, 0.003, 18)
    assert order_effects(sweep(lambda i: noise[i], order=order, order_seed=None)) == ()


@pytest.mark.parametrize("devices", [("a",), ("a", "b", "c")])
def test_steady_devices_are_seldom_taken_for_some_that_change(devices):
    draws = np.random.default_rng(7)
    bundles = sweep(lambda i: 1.0, 5, devices=devices)
    trials, alarms = 60, 0
    for _ in range(trials):
        noise = draws.normal(1, 0.03, len(bundles)).tolist()
        alarms += bool(order_effects([scaled(b, f) for b, f in zip(bundles, noise, strict=True)]))
    assert alarms / trials <= ORDER_P + 3 * (ORDER_P * (1 - ORDER_P) / trials) ** 0.5


def scaled(bundle: RunBundle, factor: float) -> RunBundle:
    metrics = tuple(m if m.value is None else replace(m, value=m.value * factor) for m in bundle.metrics)
    return replace(bundle, metrics=metrics)


def test_no_rate_falls_by_more_than_all_of_it():
    wild = np.random.default_rng(3).normal(0, 0.5, 18)
    (effect,) = order_effects(sweep(lambda i: np.exp(wild[i] - 4.0 * i / 17)))
    assert -1 < effect.change < -0.9


@pytest.mark.parametrize(
    ("workload", "rate"),
    [
        (Workload(n_prompt=8, n_gen=2), "decode_tps"),
        (Workload(n_prompt=8, n_gen=1), "prefill_tps"),
        (Workload(n_gen=1), "decode_tps"),
        (Workload(n_prompt=8), "prefill_tps"),
        (Workload(kind="prompts", prompts=("why?",), n_gen=1), "prefill_tps"),
    ],
)
def test_a_cell_is_run_for_a_rate_that_it_has(workload, rate):
    assert main_rate(replace(make_bundle().start.spec, workload=workload)) == rate


def test_a_change_too_small_to_matter_is_not_told():
    assert order_effects(sweep(lambda i: 1 - 0.008 * i / 17)) == ()


def test_runs_without_a_rate_and_runs_of_something_else_do_not_count():
    bundles = sweep(lambda i: 1 - 0.10 * i / 17)
    for i, changed in enumerate(({"outcome": Outcome.OOM}, {"verdict": Verdict.INVALID})):
        bundles[i] = replace(bundles[i], stop=replace(bundles[i].stop, **changed))
    (effect,) = order_effects(bundles)
    assert effect.n_runs == 16
    assert order_effects(bundles[:2]) == order_effects([]) == ()


def test_the_sentence_says_what_it_means_for_the_order_that_was_run():
    def tired(i):
        return 1 - 0.10 * i / 17

    def note(order):
        bundles = sweep(tired, order=order, order_seed=None)
        (sentence,) = order_notes(bundles, order_effects(bundles))
        return sentence

    assert note("sequential").startswith("Order effect on local: rates fell by ")
    assert note("sequential").endswith("; the order was sequential, so part of the differences between cells is this.")
    assert note("interleaved").endswith(
        "; every block had all cells, so none is favoured, but their sessions differ by it."
    )


def test_a_comparison_tells_the_effect_in_words_and_figures():
    bundles = sweep(lambda i: 1 - 0.10 * i / 17)
    comparison = compare(bundles)
    assert any(note.startswith("Order effect on local: rates fell by 10") for note in comparison.notes)
    assert "Order effect on local: rates fell by" in " ".join(render(comparison, "table").split())
    (effect,) = json.loads(nested(comparison))["order_effects"]
    assert effect["change"] == pytest.approx(-0.10, abs=0.01)
    assert (effect["sweep_id"], effect["n_runs"]) == ("s0", 18)


def test_reference_runs_are_told_stand_in_no_column_and_count_for_the_effect():
    bundles = sweep(lambda i: 1 - 0.10 * i / 20, reference=Reference(quant="q8_0"))
    comparison = compare(bundles)
    assert [column.n_ok for column in comparison.groups[0].columns] == [6, 6, 6]
    assert comparison.order_effects[0].n_runs == 21
    (note,) = (note for note in comparison.notes if note.startswith("Reference"))
    assert note == (
        "Reference runs on local (tiny q8_0 tg128): decode 35, 33.25, 31.5 tok/s, -10.0 % from the first to the last."
    )


def test_several_sweeps_are_told_apart():
    first = sweep(lambda i: 1 - 0.10 * i / 17)
    second = [replace(b, start=replace(b.start, spec=replace(b.start.spec, sweep_id="s1"))) for b in first]
    effects = order_effects([*first, *second])
    assert [effect.sweep_id for effect in effects] == ["s0", "s1"]
    assert "on local in sweep s1:" in order_notes([*first, *second], effects)[1]


def steady_loss(share):
    return lambda i: 1 - share * i / 17


@pytest.mark.parametrize("order", ["random", "interleaved"])
def test_in_blocks_an_effect_is_a_doubt_from_where_it_spreads_sessions_as_much_as_luck_does(order):
    seed = 4 if order == "random" else None
    small, large = (sweep(steady_loss(share), order=order, order_seed=seed) for share in (0.05, 0.10))
    assert order_effects(small) != ()
    assert order_doubts(small) == {}
    doubts = order_doubts(large)
    assert set(doubts) == {bundle.start.spec.run_id for bundle in large}
    reason = doubts["r0"]
    assert reason.code == "order_effect"
    assert reason.figures["change"] == pytest.approx(-0.10, abs=0.01)
    assert reason.figures["runs"] == 18
    assert reason.message.startswith("rates fell by 10")
    assert reason.message.endswith(
        "no cell is favoured, but a rate tells more of when its session was made than chance does"
    )
    # A line over n places has the spread of its ends' distance over the root of 12.
    assert abs(Thresholds().order_effect_ratio / 12**0.5 - 0.02) < 0.0003


def test_where_cells_had_unlike_numbers_of_sessions_any_effect_is_a_doubt():
    bundles = sweep(lambda i: 1 - 0.04 * i / 17)
    assert not order_doubts(bundles)
    adaptive = Repeat(sessions=6, min_sessions=3, until_ci=0.02)
    bundles = [
        replace(b, start=replace(b.start, spec=replace(b.start.spec, repeat=adaptive)))
        for b in bundles
        if b.start.spec.quant != "f16" or b.start.spec.block < 3
    ]
    assert {doubt.code for doubt in order_doubts(bundles).values()} == {"order_effect"}
    assert "some cells had more sessions than others" in " ".join(order_notes(bundles, order_effects(bundles)))


@pytest.mark.parametrize("order", ["sequential", None])
def test_in_another_order_any_effect_is_a_doubt(order):
    made = sweep(steady_loss(0.05), order="sequential", order_seed=None)
    made = [replace(b, start=replace(b.start, spec=replace(b.start.spec, order=order))) for b in made]
    doubts = order_doubts(made)
    assert len(doubts) == 18
    assert doubts["r3"].message.endswith("part of the differences between cells is this")


def test_steady_devices_and_runs_without_a_rate_are_not_doubted():
    noise = np.random.default_rng(1).normal(1, 0.01, 18)
    assert order_doubts(sweep(lambda i: noise[i])) == {}
    tired = sweep(steady_loss(0.10))
    tired[3] = replace(tired[3], stop=replace(tired[3].stop, outcome=Outcome.OOM))
    assert len(order_doubts(tired)) == 17
    assert "r3" not in order_doubts(tired)


def test_a_doubt_that_has_a_sentence_of_its_own_is_not_told_twice():
    made = sweep(steady_loss(0.10))
    doubts = order_doubts(made)
    made = [replace(b, stop=reviewed(b.stop, [doubts[b.start.spec.run_id]], Thresholds())) for b in made]
    comparison = compare(made)
    assert sum("rates fell by" in note for note in comparison.notes) == 1
    assert comparison.groups[0].columns[0].verdicts == {Verdict.SUSPECT: 6}
    # Of one cell alone the test may not say it again: then the doubt is told as any other.
    alone = compare([b for b in made if b.start.spec.quant == "f16"][:4])
    assert sum("rates fell by" in note for note in alone.notes) == 1


def test_a_clock_that_jumped_makes_no_figure_beyond_all_bounds():
    made = sweep(lambda i: 1 + i)
    made = [replace(b, start=replace(b.start, started_utc_ns=b.start.started_utc_ns // 10**15)) for b in made]
    made[-1] = replace(made[-1], start=replace(made[-1].start, started_utc_ns=2**62))
    (effect,) = order_effects(made)
    assert effect.change < 1000


class Watcher(list):
    def __call__(self, event):
        self.append(event)


def test_a_review_keeps_the_doubt_and_takes_it_back_when_it_holds_no_more(tmp_path):
    # It tires for six blocks, and recovers in as many.
    made, seen = sweep(lambda i: 1 - 0.10 * min(i, 35 - i) / 17, sessions=12), Watcher()
    with Store.open(tmp_path) as store:
        for n, verdict in ((12, Verdict.VALID), (18, Verdict.SUSPECT), (18, Verdict.SUSPECT), (36, Verdict.VALID)):
            for bundle in made[:n]:
                store.publish(bundle)
            review_sweep(store, "s0", seen)
            assert [b.stop.verdict for b in store.bundles()] == [verdict] * n
            assert {line.reasons for line in store.listing()} == {("order_effect",) * (verdict is Verdict.SUSPECT)}
    assert seen == []


def test_what_a_review_made_invalid_stays_so_when_it_is_made_again(tmp_path):
    strict = Thresholds(invalid=("order_effect",))
    tired = [
        replace(b, start=replace(b.start, spec=replace(b.start.spec, thresholds=strict)))
        for b in sweep(steady_loss(0.10))
    ]
    with Store.open(tmp_path) as store:
        for bundle in tired:
            store.publish(bundle)
        for _ in range(2):
            review_sweep(store, "s0", Watcher())
            assert [b.stop.verdict for b in store.bundles()] == [Verdict.INVALID] * 18


def test_a_review_that_cannot_be_kept_is_told_and_ends_nothing(tmp_path):
    tired, seen = sweep(steady_loss(0.10)), Watcher()
    with Store.open(tmp_path) as store:
        for bundle in tired:
            store.publish(bundle)
        with store.database.write() as connection:
            connection.exec_driver_sql("DROP TABLE reviews")
        review_sweep(store, "s0", seen)
    (note,) = seen
    assert note.text.startswith("whether the order of the runs mattered is not kept: ")
    assert note.text.endswith("; `melt resume s0` tries again")
