"""The dry run: what is known is added up, what is guessed says so, what is unknown stays unknown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from melt.plan.dryrun import DryRun, changed_label, clock
from melt.plan.estimate import estimate
from melt.plan.expand import cell_key, expand
from melt.plan.model import ModelChoice, Plan, Reference
from melt.records import Conditions, Gate, Repeat, RunSpec, Settings, Workload

MB = 1_000_000
PLAN = Plan(
    name="p",
    models=(ModelChoice(model="m", quants=("q8_0", None)),),
    workloads=(Workload(n_gen=100),),
    settings=(Settings(threads=2),),
    repeat=Repeat(warmup=1, repetitions=4, sessions=2),
    order_seed=5,
)


def runs(plan: Plan) -> tuple[RunSpec, ...]:
    return expand(plan, sweep_id="s", new_run_id=lambda: "r")


def test_earlier_runs_count_before_guesses() -> None:
    specs = runs(PLAN)
    known, guessed = (cell_key(next(spec for spec in specs if spec.quant == quant)) for quant in ("q8_0", None))
    dry = estimate(specs, {("m", "q8_0"): 100 * MB, ("m", None): 100 * MB}, {known: 3.0, guessed: None})
    assert (dry.runs, [cell.runs for cell in dry.cells]) == (4, [2, 2])
    assert [cell.basis for cell in dry.cells] == ["earlier", "guess"]
    assert dry.cells[0].expected_s == 3.0 * 5 * 2
    # 100 tokens of 100 MB at 5 GB/s are 2 s, five times, and 0.6 s to start and load; two runs.
    assert dry.cells[1].expected_s == pytest.approx(2 * (5 * 2 + 0.6))
    assert dry.expected_s == pytest.approx(30 + 21.2)
    order = "order: random, again with --order-seed 5"
    assert dry.lines[:3] == ("2 cells, 4 runs", order, "expected time: about 51 s")
    assert dry.lines[3] == "  2 runs from earlier runs of the same cell"
    assert dry.lines[4].startswith("  2 runs by a rough guess: ")


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (("inference",), "an inference reads the file once at 5 GB/s"),
        (("synthetic",), "decode reads the file once a token at 5 GB/s, prefill computes at 50 GFLOP/s"),
        (
            ("synthetic", "inference"),
            "decode reads the file once a token at 5 GB/s, prefill computes at 50 GFLOP/s, "
            "an inference reads the file once at 5 GB/s",
        ),
    ],
)
def test_a_guess_says_what_it_takes_for_granted_of_these_workloads(kinds: tuple[str, ...], says: str) -> None:
    all_of = {"synthetic": Workload(n_gen=100), "inference": Workload(kind="inference", n_infer=50)}
    specs = runs(replace(PLAN, workloads=tuple(all_of[kind] for kind in kinds)))
    dry = estimate(specs, {("m", "q8_0"): 100 * MB, ("m", None): 100 * MB}, {})
    (line,) = [line for line in dry.lines if "rough guess" in line]
    assert line.split(": ", 1)[1] == says


def test_an_unknown_size_makes_the_total_unknown_and_not_zero() -> None:
    dry = estimate(runs(replace(PLAN, devices=("phone",))), {("m", "q8_0"): 100 * MB, ("m", None): None}, {})
    assert (dry.expected_s, dry.bytes_to_push) == (None, None)
    assert dry.lines[2] == "expected time: more than 21 s"
    assert "  2 runs not counted: the size of the model is not known yet" in dry.lines
    assert dry.lines[-1] == "to push: not known, the size of a model is missing"


def test_what_lasts_as_long_as_it_was_asked_to_counts_whatever_the_size() -> None:
    load = Workload(kind="sustained", n_gen=100, duration_s=1200.0)
    plan = replace(PLAN, workloads=(load,), repeat=Repeat(repetitions=1, sessions=3), gate=Gate(pause_s=60.0))
    dry = estimate(runs(plan), {("m", "q8_0"): None, ("m", None): None}, {})
    assert dry.expected_s is None
    assert "expected time: more than 2 h 06 min" in dry.lines
    assert any("6 runs not counted, but for their rests and the time" in line for line in dry.lines)


def test_each_file_is_pushed_once_to_each_device_and_never_to_this_machine() -> None:
    sizes = {("m", "q8_0"): 100 * MB, ("m", None): 50 * MB}
    assert estimate(runs(PLAN), sizes, {}).bytes_to_push == 0
    several = replace(PLAN, devices=("local", "phone", "board"))
    assert estimate(runs(several), sizes, {}).bytes_to_push == 2 * 150 * MB


def test_sessions_until_a_precision_are_a_range_from_the_least_to_the_most() -> None:
    repeat = Repeat(warmup=1, repetitions=4, sessions=20, min_sessions=3, until_ci=0.02)
    specs = runs(replace(PLAN, repeat=repeat, reference=Reference()))
    sizes = {("m", "q8_0"): 100 * MB, ("m", None): 100 * MB}
    dry = estimate(specs, sizes, {cell_key(specs[0]): 4.0})
    assert (dry.runs_min, dry.runs) == (9, 43)
    first, second = dry.cells
    assert (first.expected_min_s, first.expected_s) == (20.0 * 6, 20.0 * 23)
    assert (second.expected_min_s, second.expected_s) == (pytest.approx(3 * 10.6), pytest.approx(20 * 10.6))
    assert dry.lines[:2] == (
        "2 cells, 9 to 43 runs, 3 of them of the reference cell",
        "sessions: 3 to 20 of each cell, until its rate is known to ±2 % (95 % confidence)",
    )
    assert dry.lines[3] == "expected time: about 2 min 32 s to 11 min 12 s"
    assert "6-23" in dry.render("table")
    assert "~32 s to 3 min 32 s" in dry.render("table")
    assert (first.row()["runs_min"], json.loads(dry.render("json"))["runs_min"]) == (6, 9)
    unknown = estimate(specs, {("m", "q8_0"): 100 * MB, ("m", None): None}, {})
    assert (unknown.expected_min_s, unknown.lines[3]) == (None, "expected time: more than 1 min 04 s")


def test_the_rest_before_each_run_is_counted() -> None:
    plan = replace(PLAN, gate=Gate(pause_s=30))
    sizes = {("m", "q8_0"): 100 * MB, ("m", None): 100 * MB}
    dry, without = estimate(runs(plan), sizes, {}), estimate(runs(PLAN), sizes, {})
    assert dry.expected_s == pytest.approx((without.expected_s or 0) + 4 * 30)
    assert "  counted: 30 s of rest before each run" in dry.lines
    assert not any("waiting" in line for line in dry.lines)


def test_waiting_for_a_gate_is_said_and_not_counted() -> None:
    plan = replace(PLAN, gate=Gate(temperature_max_c=35, wait_s=300))
    line = "  not counted: up to 5 min 00 s of waiting for the gate before each run"
    assert line in estimate(runs(plan), {}, {}).lines
    assert not any("gate" in text for text in estimate(runs(PLAN), {}, {}).lines)


def test_conditions_are_a_column_of_their_own() -> None:
    plan = replace(PLAN, conditions=(Conditions(screen="off", charging="suspended"), Conditions()))
    cells = estimate(runs(plan), {}, {}).cells
    assert [cell.row()["conditions"] for cell in cells] == ["screen=off charging=suspended"] * 2 + [""] * 2


def test_warming_up_is_one_request_and_the_depth_is_filled_once() -> None:
    workload = Workload(kind="sustained", n_gen=50, n_depth=250, duration_s=60)
    plan = replace(PLAN, workloads=(workload,), repeat=Repeat(warmup=2, repetitions=3))
    dry = estimate(runs(plan), {("m", "q8_0"): 100 * MB}, {})
    assert dry.cells[0].expected_s == pytest.approx(0.6 + 1 + 2 * 1 + 3 * 60)


@pytest.mark.parametrize(
    ("workload", "seconds"),
    [
        (Workload(n_prompt=250), 250 * 2 * 100 * MB / 50e9),
        (Workload(n_gen=50, n_depth=250), 1 + 1),
        (Workload(kind="sustained", n_gen=1, duration_s=60), 60),
        (Workload(kind="prompts", n_gen=25, prompts=("x" * 1000, "y" * 1000)), 2 * (1 + 0.5)),
    ],
)
def test_the_guess_knows_every_kind_of_workload(workload: Workload, seconds: float) -> None:
    once = replace(PLAN, workloads=(workload,), repeat=Repeat(warmup=0, repetitions=1))
    dry = estimate(runs(once), {("m", "q8_0"): 100 * MB}, {})
    assert dry.cells[0].expected_s == pytest.approx(0.6 + seconds)


@pytest.fixture
def dry() -> DryRun:
    plan = replace(PLAN, models=(ModelChoice(model="a|b", quants=("q8_0",)), ModelChoice(model="new")))
    return estimate(runs(plan), {("a|b", "q8_0"): 100 * MB}, {})


def test_programs_get_every_cell_with_null_for_unknown(dry: DryRun) -> None:
    document = json.loads(dry.render("json"))
    rows = [json.loads(line) for line in dry.render("jsonl").splitlines()]
    assert document["cells"] == rows
    assert (document["runs"], document["expected_s"], document["bytes_to_push"]) == (4, None, 0)
    assert (document["order"], document["order_seed"]) == ("random", 5)
    assert [(row["settings"], row["expected_s"], row["basis"]) for row in rows] == [
        *(("threads=2", 21.2, "guess"), ("threads=2", None, "unknown")),
    ]
    table = list(csv.DictReader(io.StringIO(dry.render("csv"))))
    assert [(row["model"], row["quant"], row["expected_s"]) for row in table] == [
        ("a|b", "q8_0", "21.2"),
        ("new", "", ""),
    ]


def test_runs_of_the_reference_cell_are_counted_and_named() -> None:
    dry = estimate(runs(replace(PLAN, reference=Reference())), {}, {})
    assert (dry.runs, [cell.runs for cell in dry.cells]) == (7, [5, 2])
    assert dry.lines[0] == "2 cells, 7 runs, 3 of them of the reference cell"


def test_an_order_in_which_nothing_is_drawn_has_no_seed() -> None:
    dry = estimate(runs(replace(PLAN, order="interleaved", order_seed=None)), {}, {})
    assert (dry.order, dry.order_seed, dry.lines[1]) == ("interleaved", None, "order: interleaved")


def test_cells_stand_in_the_order_of_the_plan_however_they_are_run() -> None:
    many = replace(PLAN, models=(ModelChoice(model="m", quants=("a", "b", "c", "d", "e")),))
    assert [item.cell.quant for item in estimate(runs(many), {}, {}).cells] == ["a", "b", "c", "d", "e"]


def test_people_get_columns_and_sentences(dry: DryRun) -> None:
    head, first, second, blank, *lines = dry.render("table").splitlines()
    assert head.split() == ["device", "model", "quant", "engine", "workload", "settings", "runs", "expected"]
    assert first.split() == ["local", "a|b", "q8_0", "llama.cpp", "tg100", "threads=2", "2", "~21", "s"]
    assert second.split() == ["local", "new", "-", "llama.cpp", "tg100", "threads=2", "2", "-"]
    assert (blank, *lines) == ("", *dry.lines)
    assert "| a\\|b  |" in dry.render("md")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (320, "5 min 20 s"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_was_changed_is_written_as_a_plan_writes_it() -> None:
    changed = Settings(threads=2, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert changed_label(changed, Settings()) == "threads=2 providers=CUDAExecutionProvider+CPUExecutionProvider"
    assert changed_label(Settings(), Settings()) == ""
