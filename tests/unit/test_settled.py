"""Which runs are spared: those of cells that are known, on the device on which they are, and the same after a kill."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.analysis.compare import compare
from melt.cli._sessions_text import what_sessions_told
from melt.events import RunSpared
from melt.fleet.conductor import conduct
from melt.fleet.setbacks import SetAside
from melt.fleet.settled import Settled
from melt.fleet.station import Station
from melt.fleet.sweep import Sweep
from melt.plan.expand import expand
from melt.plan.model import ModelChoice, Plan, Reference
from melt.records import Metric, Outcome, Repeat, RunSpec, Settings, Verdict, Workload
from melt.store.store import Store
from melt.traces import RunBundle

_BUNDLE = make_bundle()
_PLAN = Plan(
    name="p",
    models=(ModelChoice(model="m", quants=("q4_0", "q8_0")),),
    workloads=(Workload(n_gen=8),),
    repeat=Repeat(sessions=6, min_sessions=3, until_ci=0.02),
    order_seed=1,
)


def _specs(plan: Plan = _PLAN) -> tuple[RunSpec, ...]:
    numbers = iter(range(1000))
    return expand(plan, sweep_id="s", new_run_id=lambda: f"r{next(numbers)}")


def _ended(spec: RunSpec, rate: float | None, outcome: Outcome = Outcome.OK) -> RunBundle:
    """A run as it is kept: with the threads that were chosen for its device."""
    begun = replace(spec, settings=replace(spec.settings, threads=2))
    metrics = () if rate is None else (Metric(name="decode_tps", value=rate, unit="tok/s"),)
    stop = replace(_BUNDLE.stop, run_id=spec.run_id, outcome=outcome, verdict=Verdict.SUSPECT)
    return replace(_BUNDLE, start=replace(_BUNDLE.start, spec=begun), stop=stop, metrics=metrics, traces=())


def _sweep_off(specs: Sequence[RunSpec], rates: dict[str, Iterable[float | None]], settled: Settled) -> list[RunBundle]:
    """Make the runs in their order, asking before each; rates are by quantization, in the order of its sessions."""
    values, made = {quant: iter(each) for quant, each in rates.items()}, []
    for spec in specs:
        if settled.why_spared(spec) is None:
            bundle = _ended(spec, next(values[str(spec.quant)]))
            settled.add(spec, bundle)
            made.append(bundle)
    return made


def test_a_steady_cell_has_the_least_number_of_sessions_and_an_unsteady_one_the_most() -> None:
    settled, specs = Settled(), _specs()
    steady, unsteady = (100.0, 100.1, 99.9), (100.0, 150.0, 80.0, 120.0, 70.0, 140.0)
    made = _sweep_off(specs, {"q4_0": steady, "q8_0": unsteady}, settled)
    assert [sum(b.start.spec.quant == quant for b in made) for quant in ("q4_0", "q8_0")] == [3, 6]
    told = what_sessions_told(specs, settled)
    assert told == "±2 % was reached in 3 sessions for m q4_0 tg8; not reached for m q8_0 tg8 (±38 % after 6 sessions)"


def test_a_cell_that_gives_no_rate_is_given_up_after_the_least_number_of_sessions() -> None:
    settled, specs = Settled(), _specs()
    made = _sweep_off(specs, {"q4_0": (None,) * 6, "q8_0": (None, 100.0, None, 100.0, 100.0)}, settled)
    assert [sum(b.start.spec.quant == quant for b in made) for quant in ("q4_0", "q8_0")] == [3, 5]
    told = what_sessions_told(specs, settled)
    assert (
        told == "±2 % was reached in 5 sessions for m q8_0 tg8; not reached for m q4_0 tg8 (no rate after 3 sessions)"
    )


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.DEVICE_LOST])
def test_what_came_to_nothing_through_others_is_no_session(outcome: Outcome) -> None:
    settled, specs = Settled(), _specs()
    for spec in specs[:4]:
        settled.add(spec, _ended(spec, None, outcome))
    assert not settled.spared(specs)
    assert settled.known(specs[0]).ended == 0


def test_a_fixed_number_of_sessions_is_made_whatever_they_tell() -> None:
    settled, specs = Settled(), _specs(replace(_PLAN, repeat=Repeat(sessions=5)))
    assert len(_sweep_off(specs, {"q4_0": [100.0] * 5, "q8_0": [None] * 5}, settled)) == 10
    assert what_sessions_told(specs, settled) == ""


def test_reference_runs_are_no_sessions_and_never_spared() -> None:
    settled, specs = Settled(), _specs(replace(_PLAN, reference=Reference()))
    first = specs[0]
    assert first.reference
    for _ in range(3):
        settled.add(first, _ended(first, 100.0))
    assert not settled.spared(specs)
    made = _sweep_off(specs, {"q4_0": [100.0] * 9, "q8_0": [100.0] * 9}, settled)
    assert sum(bundle.start.spec.reference for bundle in made) == 3
    assert len(made) == 9


def test_sessions_count_on_the_device_on_which_the_cell_is_now() -> None:
    specs = _specs()
    settled = Settled()
    _sweep_off(specs, {"q4_0": [100.0] * 3, "q8_0": [100.0] * 3}, settled)
    moved = [replace(spec, device="other", run_id=f"{spec.run_id}b") for spec in specs]
    assert len(settled.spared(specs)) == 12
    assert not settled.spared(moved)
    bundles = [_ended(spec, 100.0) for spec in specs]
    assert not Settled.of(Sweep("s", tuple(moved)), bundles).spared(moved), "they were made anew elsewhere"


@given(
    st.lists(st.sampled_from([99.0, 100.0, 101.0, None]), min_size=12, max_size=12), st.integers(0, 12), st.randoms()
)
def test_who_goes_on_decides_as_the_first_would_have(
    rates: list[float | None], n_before: int, chance: random.Random
) -> None:
    specs = _specs()
    of_run = dict(zip((spec.run_id for spec in specs), rates, strict=True))

    def conduct(settled: Settled, todo: Sequence[RunSpec], n_runs: int) -> list[RunBundle]:
        made = []
        for spec in todo:
            if len(made) < n_runs and settled.why_spared(spec) is None:
                made.append(_ended(spec, of_run[spec.run_id]))
                settled.add(spec, made[-1])
        return made

    whole = conduct(Settled(), specs, 12)
    before = conduct(Settled(), specs, n_before)
    kept = {bundle.start.spec.run_id for bundle in before}
    chance.shuffle(before)
    after = conduct(Settled.of(Sweep("s", specs), before), [spec for spec in specs if spec.run_id not in kept], 12)
    assert {b.start.spec.run_id for b in whole} == kept | {b.start.spec.run_id for b in after}


def test_a_station_takes_the_rest_of_a_cell_out_of_its_work_as_soon_as_it_is_known(tmp_path: Path) -> None:
    seen: list[Any] = []
    todo = deque(_specs(replace(_PLAN, models=(ModelChoice(model="m", quants=("q4_0",)),))))
    with Store.open(tmp_path) as store:
        station = Station(store, {}, seen.append, Event())
        for left in (5, 4, 0):
            spec = todo.popleft()
            station._count(spec, _ended(spec, 100.0), todo)
            assert len(todo) == left
    assert [type(event) for event in seen] == [RunSpared] * 3
    assert seen[0].why == "±0 % after 3 sessions"


def test_many_cells_are_counted_and_told_apart_by_what_differs() -> None:
    settings = (Settings(), Settings(flash_attn="on"))
    specs = _specs(replace(_PLAN, settings=settings, devices=("a", "b")))
    settled = Settled()
    for spec in specs:
        if spec.device == "a" and spec.block < 3:
            settled.add(spec, _ended(spec, 100.0))
    told = what_sessions_told(specs, settled)
    reached = "m q4_0 tg8 on a and m q8_0 tg8 on a and m q4_0 tg8 on a flash_attn=on and m q8_0 tg8 on a flash_attn=on"
    assert told.startswith(f"±2 % was reached in 3 sessions for {reached}; not reached for m q4_0 tg8 on b (not run), ")
    many = _specs(replace(_PLAN, models=(ModelChoice(model="m", quants=tuple(f"q{n}_0" for n in range(9))),)))
    settled = Settled()
    for spec in many:
        if spec.block < 3:
            settled.add(spec, _ended(spec, 100.0))
    assert what_sessions_told(many, settled) == "±2 % was reached in 3 sessions for 9 cells"


def test_runs_that_differ_in_how_often_they_were_made_stand_side_by_side() -> None:
    fixed = [_ended(spec, 100.0) for spec in _specs(replace(_PLAN, repeat=Repeat(sessions=3)))]
    as_needed = [_ended(spec, 100.0) for spec in _specs()]
    later = [
        replace(b, start=replace(b.start, spec=replace(b.start.spec, sweep_id="t", run_id=f"{b.start.spec.run_id}t")))
        for b in as_needed
    ]
    (group,) = compare([*fixed, *later]).groups
    assert [column.n_ok for column in group.columns] == [9, 9]


def test_what_a_failed_device_lost_of_a_cell_that_is_known_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = _specs()

    def lose(station: Station, device: str, todo: deque[RunSpec], done: list[RunBundle]) -> None:
        """Measure the first level thrice, and lose one of its runs and one of the other level's."""
        for spec in specs:
            known_soon = spec.quant == "q4_0" and spec.block < 3
            lost = spec.block == (3 if spec.quant == "q4_0" else 0)
            if known_soon or lost:
                bundle = _ended(spec, 100.0, Outcome.DEVICE_LOST if lost else Outcome.OK)
                station.settled.add(spec, bundle)
                done.append(bundle)
        todo.clear()
        raise SetAside(device, "its cable")

    asked: list[RunSpec] = []
    monkeypatch.setattr(Station, "work_off", lose)
    with Store.open(tmp_path) as store:
        conduct(
            specs,
            store,
            lambda *_: _BUNDLE.start.artifact,
            observe=lambda _: None,
            stop=Event(),
            elsewhere=lambda _device, _left, _why, lost: asked.extend(lost),
        )
    assert [spec.quant for spec in asked] == ["q8_0"]
