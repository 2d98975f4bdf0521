"""The runs of a plan: each cell once a block, in an order that favours none, named so that they sort."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.plan import ids
from melt.plan.expand import cell_key, expand
from melt.plan.model import MAX_ORDER_SEED, ORDERS, ModelChoice, Plan, Reference
from melt.records import Conditions, Gate, Inputs, Repeat, RunSpec, Settings, Workload


def plan(n_cells: int, sessions: int, **parts: object) -> Plan:
    quants = tuple(f"q{n}" for n in range(n_cells))
    whole = Plan(
        name="p",
        models=(ModelChoice(model="m", quants=quants),),
        workloads=(Workload(n_prompt=8),),
        repeat=Repeat(sessions=sessions),
    )
    return replace(whole, **parts)  # type: ignore[arg-type]


def runs(plan: Plan, seed: int | None = None, **more: object) -> tuple[RunSpec, ...]:
    counter = itertools.count()
    plan = replace(plan, order_seed=seed)
    return expand(plan, sweep_id="s", new_run_id=lambda: f"r{next(counter)}", **more)  # type: ignore[arg-type]


@given(
    n_cells=st.integers(1, 9),
    sessions=st.integers(1, 7),
    seed=st.integers(0, MAX_ORDER_SEED),
    devices=st.integers(1, 3),
    order=st.sampled_from(["random", "interleaved"]),
)
def test_each_block_has_every_cell_once_and_positions_count_up(
    n_cells: int, sessions: int, seed: int, devices: int, order: str
) -> None:
    specs = runs(plan(n_cells, sessions, devices=("x", "y", "z")[:devices], order=order), seed)
    assert [spec.position for spec in specs] == list(range(len(specs)))
    assert [spec.block for spec in specs] == sorted(spec.block for spec in specs)
    assert Counter((spec.block, cell_key(spec)) for spec in specs) == {
        (block, key): 1 for block in range(sessions) for key in {cell_key(spec) for spec in specs}
    }
    assert len({spec.run_id for spec in specs}) == len(specs) == n_cells * sessions * devices


@given(seed=st.integers(0, MAX_ORDER_SEED), fewer=st.integers(1, 5), more=st.integers(0, 5))
def test_a_seed_gives_the_same_order_each_time_and_more_sessions_only_add_to_it(
    seed: int, fewer: int, more: int
) -> None:
    devices = ("x", "y")
    for device in devices:
        first, longer = (
            [spec.quant for spec in runs(plan(5, sessions, devices=devices), seed) if spec.device == device]
            for sessions in (fewer, fewer + more)
        )
        assert longer[: len(first)] == first


def test_a_random_order_is_never_another_one_for_a_seed_that_was_written_down() -> None:
    assert [spec.quant for spec in runs(plan(6, 1), 4711)] == ["q1", "q0", "q3", "q5", "q2", "q4"]


def test_each_block_and_each_device_has_a_random_order_of_its_own() -> None:
    specs = runs(plan(8, 4, devices=("x", "y")), 7)
    orders = {
        tuple(spec.quant for spec in specs if (spec.block, spec.device) == (block, device))
        for block in range(4)
        for device in ("x", "y")
    }
    assert len(orders) == 8


def test_in_random_order_every_cell_comes_at_every_place_equally_often() -> None:
    places = Counter((spec.quant, spec.position % 4) for spec in runs(plan(4, 4000), 1))
    assert len(places) == 16
    # 1000 each are expected; their standard deviation is 27.
    assert all(abs(n - 1000) < 140 for n in places.values())


def test_a_seed_is_drawn_where_none_is_given_and_recorded() -> None:
    drawn = runs(plan(9, 2), new_seed=lambda: 31)
    assert [spec.quant for spec in drawn] == [spec.quant for spec in runs(plan(9, 2), 31)]
    assert {(spec.order, spec.order_seed) for spec in drawn} == {("random", 31)}
    assert {spec.order_seed for spec in runs(plan(9, 2, order="interleaved"))} == {None}


@given(
    n_cells=st.integers(1, 6),
    sessions=st.integers(1, 5),
    devices=st.integers(1, 3),
    order=st.sampled_from(ORDERS),
)
def test_the_reference_cell_runs_first_in_the_middle_and_last_on_each_device_and_changes_nothing_else(
    n_cells: int, sessions: int, devices: int, order: str
) -> None:
    asked = plan(n_cells, sessions, devices=("x", "y", "z")[:devices], order=order)
    seed = 3 if order == "random" else None
    specs = runs(replace(asked, reference=Reference()), seed)
    for device in asked.devices:
        own = [spec for spec in specs if spec.device == device]
        places = [i for i, spec in enumerate(own) if spec.reference]
        n = n_cells * sessions
        assert places == ([0, n // 2 + 1, n + 2] if n > 1 else [0, 2])
        assert {(spec.quant, spec.device) for spec in own if spec.reference} == {("q0", device)}
        if order != "sequential":
            assert [spec.block for spec in own] == sorted(spec.block for spec in own)
    assert [spec.position for spec in specs] == list(range(len(specs)))
    ordinary = [(spec.device, spec.quant, spec.block, spec.cell) for spec in specs if not spec.reference]
    assert ordinary == [(spec.device, spec.quant, spec.block, spec.cell) for spec in runs(asked, seed)]


def test_another_cell_may_be_the_reference() -> None:
    two = (Workload(n_prompt=8), Workload(n_gen=8))
    specs = runs(plan(3, 2, workloads=two, reference=Reference(quant="q1", workload="tg8")), 1)
    assert {(spec.quant, spec.workload.name) for spec in specs if spec.reference} == {("q1", "tg8")}


def test_runs_know_the_place_of_their_cell_in_the_plan() -> None:
    specs = runs(plan(3, 2, devices=("x", "y")))
    assert {(spec.device, spec.quant): spec.cell for spec in specs} == {
        (device, f"q{n}"): 3 * i + n for i, device in enumerate(("x", "y")) for n in range(3)
    }


@given(n_cells=st.integers(1, 9), pairs=st.integers(1, 4))
def test_over_pairs_of_interleaved_blocks_a_steady_drift_favours_no_cell(n_cells: int, pairs: int) -> None:
    places: dict[str, list[int]] = {}
    for spec in runs(plan(n_cells, 2 * pairs, order="interleaved")):
        places.setdefault(cell_key(spec), []).append(spec.position)
    assert len({sum(positions) for positions in places.values()}) == 1


def test_pairs_of_interleaved_blocks_begin_at_different_cells() -> None:
    firsts = {spec.quant for spec in runs(plan(4, 8, order="interleaved")) if spec.position % 4 == 0}
    assert firsts == {"q0", "q1", "q2", "q3"}


def test_sequential_keeps_the_sessions_of_a_cell_together() -> None:
    assert [(spec.quant, spec.block) for spec in runs(plan(2, 2, order="sequential"))] == [
        *(("q0", 0), ("q0", 1), ("q1", 0), ("q1", 1)),
    ]


def test_cells_asked_for_twice_run_once_and_it_is_said() -> None:
    said: list[str] = []
    specs = runs(plan(2, 1, settings=(Settings(), Settings(threads=2), Settings())), 0, note=said.append)
    assert len(specs) == 4
    assert said == ["2 of 6 cells on local are asked for twice and run once"]


def test_each_of_the_conditions_makes_cells_of_its_own_and_the_gate_is_before_every_run() -> None:
    states = (Conditions(screen="on"), Conditions(screen="off"))
    gate = Gate(battery_min_ratio=0.3)
    specs = runs(plan(2, 1, conditions=states, gate=gate))
    assert Counter((spec.quant, spec.conditions) for spec in specs) == {
        (quant, state): 1 for quant in ("q0", "q1") for state in states
    }
    assert {spec.gate for spec in specs} == {gate}


def test_a_device_may_have_conditions_of_its_own_in_the_place_of_the_plans() -> None:
    modes = (Conditions(nvpmodel="15W"), Conditions(nvpmodel="MAXN"))
    asked = plan(
        1, 2, devices=("adb:A", "ssh:orin"), conditions=(Conditions(screen="off"),), conditions_on={"ssh:orin": modes}
    )
    specs = runs(asked, 1)
    assert len(specs) == asked.n_runs == 6
    assert Counter((spec.device, spec.conditions) for spec in specs) == {
        ("adb:A", Conditions(screen="off")): 2,
        ("ssh:orin", modes[0]): 2,
        ("ssh:orin", modes[1]): 2,
    }


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"run_id": "other", "sweep_id": "other", "plan": "other", "block": 5, "position": 5}, True),
        ({"repeat": Repeat(repetitions=99)}, True),
        ({"device": "other"}, False),
        ({"model": "other"}, False),
        ({"quant": None}, False),
        ({"engine": "other"}, False),
        ({"workload": Workload(n_prompt=8, n_depth=1)}, False),
        ({"settings": Settings(threads=3)}, False),
        ({"conditions": Conditions(screen="off")}, False),
        ({"gate": Gate(battery_min_ratio=0.5)}, True),
    ],
)
def test_the_cell_is_what_repetitions_share(change: dict[str, object], same: bool) -> None:
    (spec,) = runs(plan(1, 1))
    assert (cell_key(replace(spec, **change)) == cell_key(spec)) is same  # type: ignore[arg-type]


def test_a_cell_that_asks_for_nothing_new_keeps_the_key_that_stores_know_it_by() -> None:
    (spec,) = runs(plan(1, 1))
    workload, settings = Workload(n_prompt=512), Settings(threads=4)
    spec = replace(
        spec, device="local", model="m", quant="q8_0", engine="llama.cpp", workload=workload, settings=settings
    )
    assert cell_key(spec) == "bd16a9764f0c"
    one = Workload(kind="inference", n_infer=50, dims={"batch": 1})
    file = Inputs(name="x.npz", sha256="a" * 64, size_bytes=3, path="/here/x.npz")
    asked: list[dict[str, object]] = [
        {"conditions": Conditions(screen="off")},
        {"settings": replace(settings, providers=("CPUExecutionProvider",))},
        {"settings": replace(settings, arena=False)},
        {"workload": one},
        {"workload": replace(one, dims={"batch": 2})},
        {"workload": replace(one, inputs=file)},
        {"workload": replace(one, inputs=replace(file, sha256="b" * 64))},
    ]
    keys = [cell_key(replace(spec, **change)) for change in asked]  # type: ignore[arg-type]
    assert len({"bd16a9764f0c", *keys}) == len(asked) + 1
    moved = replace(one, inputs=replace(file, path="/there/y.npz"))
    assert cell_key(replace(spec, workload=moved)) == keys[-2]


def test_ids_sort_in_the_order_they_were_made_even_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.8e9, 1.8e9, 1.8e9 + 1, 1.8e9 - 500, *[1.8e9 + 2] * 996])
    monkeypatch.setattr(ids, "_last", (0, 0))
    monkeypatch.setattr(ids.time, "time", lambda: next(ticks))
    made = [ids.new_id() for _ in range(1000)]
    assert made == sorted(set(made))
    assert made[0].startswith("20270115-080000-")
    assert {len(name) for name in made} == {24}
