"""Devices by their model: who is found, who does which cell, and who stands in for whom."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt.errors import UsageError
from melt.fleet.inventory import Entry, Inventory
from melt.fleet.pools import Pool, Roster, deal, find_pools
from melt.fleet.sweep import Sweep, load, save
from melt.plan.devices import ByModel, by_model
from melt.plan.expand import cell_of, expand
from melt.plan.flags import PlanFlags, plan_from_flags
from melt.plan.model import ModelChoice, Plan
from melt.plan.reader import read_plan
from melt.records import Repeat, RunSpec, Workload
from melt.targets.profiles import load_profiles, matching_profile

FACTS = make_bundle().start.device


def _phone(selector: str, name: str = "Google Pixel 8", device_id: str = "", build: str = "UQ1A") -> Entry:
    facts = replace(FACTS, name=name, device_id=device_id or f"id of {selector}", os="android", os_build=build)
    return Entry(selector, "ready", facts, matching_profile(facts, load_profiles()))


SHELF = Inventory(
    (
        replace(_phone("local"), selector="local"),
        _phone("adb:A"),
        _phone("adb:10.0.0.1:5555", device_id="id of adb:A"),
        Entry("adb:B", "unauthorized", reason="accept the dialog"),
        _phone("adb:C", "Google Pixel 8 Pro"),
        _phone("adb:D"),
        _phone("adb:E"),
    )
)


def _plan(devices: str) -> Plan:
    return read_plan(f"devices: {devices}\nmodels: tiny-pydoc\nworkloads: pp512\n", "p.yaml")


def test_a_plan_and_the_flags_ask_for_devices_by_their_model() -> None:
    plan = _plan("[local, {model: pixel-8, count: 2}, {model: Orin Nano}]")
    assert plan.devices == ("local", "model:pixel-8:2", "model:Orin Nano")
    assert by_model(plan.devices[1]) == ByModel("pixel-8", 2)
    assert by_model("adb:10.0.0.1:5555") is None
    flags = PlanFlags(models=("tiny-pydoc",), devices=("local,model:pixel-8:1",))
    assert plan_from_flags(flags).devices == ("local", "model:pixel-8")


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        ("[{count: 2}]", "p.yaml:1: a device is named by one of the keys 'device' (its address) and 'model'"),
        ("[{device: a, model: b}]", "p.yaml:1: a device is named by one of the keys 'device'"),
        ("[{device: a, count: 2}]", "p.yaml:1: the key 'count' belongs to a device by its model"),
        ("[{device: a, conditions: {screen: dim}}]", "p.yaml:1: screen: expected on or off, found 'dim'"),
        ("[{model: pixel-8, count: 0}]", "p.yaml:1: count: expected a whole number from 1 to 1000, found '0'"),
        ("[{model: pixel-8, serial: x}]", "p.yaml:1: unknown key 'serial'"),
        ("['model:']", "p.yaml:1: devices: expected a model such as model:pixel-8"),
        ("[{model: pixel-8}, {model: pixel-8}]", "p.yaml:1: devices: 'model:pixel-8' is listed twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(devices: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        _plan(devices)
    assert problem in str(raised.value)


@pytest.mark.parametrize("model", ["pixel-8", "Pixel 8", "google-pixel-8", "Google Pixel 8"])
def test_a_model_is_found_by_its_profile_or_its_own_name_each_device_once(model: str) -> None:
    said: list[str] = []
    assert find_pools((f"model:{model}:2",), SHELF, said.append) == [
        Pool(f"model:{model}:2", ("adb:A", "adb:D", "adb:E"), 2)
    ]
    assert said == []


def test_what_a_plan_names_itself_is_in_no_pool() -> None:
    (pool,) = find_pools(("adb:10.0.0.1:5555", "model:pixel-8"), SHELF, lambda _: None)
    assert pool.devices == ("adb:D", "adb:E")


def test_fewer_than_asked_for_will_do_and_that_is_said() -> None:
    said: list[str] = []
    (pool,) = find_pools(("model:pixel-8-pro:3",), SHELF, said.append)
    assert (pool.devices, pool.count) == (("adb:C",), 1)
    assert said == ["3 devices of the model pixel-8-pro are asked for, 1 is free: adb:C (Google Pixel 8 Pro)"]


def test_equal_names_with_other_builds_are_said() -> None:
    said: list[str] = []
    find_pools(("model:pixel-8",), Inventory((_phone("adb:A"), _phone("adb:B", build="AP2A"))), said.append)
    assert said == ["devices that the plan takes for equal differ in os_build: adb:A UQ1A, adb:B AP2A"]


def test_none_there_names_those_that_are() -> None:
    with pytest.raises(UsageError) as raised:
        find_pools(("model:pixel-9",), SHELF, lambda _: None)
    assert str(raised.value).startswith(
        "no device of the model 'pixel-9' is free: connected are adb:A (Google Pixel 8)"
    )
    assert str(raised.value).endswith("not usable: adb:B (unauthorized)")
    with pytest.raises(UsageError, match="'pixel-9' is free: none is connected"):
        find_pools(("model:pixel-9",), Inventory(()), lambda _: None)


def _specs(sessions: int = 2, quants: int = 3) -> tuple[RunSpec, ...]:
    ids = (f"r{number:03}" for number in itertools.count())
    plan = Plan(
        name="p",
        models=(ModelChoice(model="tiny", quants=tuple(f"q{n}_0" for n in range(quants))),),
        workloads=(Workload(n_prompt=16), Workload(n_gen=16)),
        devices=("local", "model:pixel-8:2"),
        repeat=Repeat(sessions=sessions),
        order_seed=1,
    )
    return expand(plan, sweep_id="s", new_run_id=lambda: next(ids))


POOL = Pool("model:pixel-8:2", ("adb:A", "adb:D", "adb:E"), 2)


@given(st.integers(1, 4), st.integers(1, 5))
def test_every_run_is_dealt_once_and_a_cell_to_one_device(sessions: int, quants: int) -> None:
    specs = _specs(sessions, quants)
    dealt = deal(specs, [POOL])
    assert [spec.run_id for spec in dealt] == [spec.run_id for spec in specs]
    devices = defaultdict(set)
    for asked, given_ in zip(specs, dealt, strict=True):
        devices[cell_of(asked)].add(given_.device)
    assert all(len(found) == 1 for found in devices.values())
    each = [sum(found == {device} for found in devices.values()) for device in POOL.devices]
    assert each[2] == 0, "it only stands in"
    assert abs(each[0] - each[1]) <= 1


def test_each_device_of_a_pool_runs_the_reference_cell() -> None:
    own = [spec for spec in _specs() if spec.device != "local"]
    specs = [replace(spec, reference=i in (1, 5)) for i, spec in enumerate(own)]
    dealt = deal(specs, [POOL], new_run_id=(f"new{n}" for n in itertools.count()).__next__)
    assert len(dealt) == len(specs) + 2
    assert len({spec.run_id for spec in dealt}) == len(dealt)
    assert [spec.position for spec in dealt] == list(range(len(dealt)))
    for device in ("adb:A", "adb:D"):
        assert sum(spec.reference for spec in dealt if spec.device == device) == 2


def test_a_failed_devices_cells_move_whole_to_one_that_stands_in_and_that_is_kept(tmp_path: Path) -> None:
    dealt = deal(_specs(), [POOL])
    sweep = Sweep("20260101-a", tuple(dealt), (POOL.devices,))
    roster = Roster(sweep, keep=lambda now: save(tmp_path, now), was_begun=lambda run_id: run_id == begun)
    own = [spec for spec in dealt if spec.device == "adb:A"]
    left, begun = own[-2:], own[-2].run_id
    cells = {cell_of(spec) for spec in left}

    moved = roster.move("adb:A", left, "it failed")
    assert moved is not None
    todo = moved.specs
    assert moved.to == "adb:E"
    assert moved.instead_of == tuple(spec.run_id for spec in own if cell_of(spec) in cells)
    assert len(todo) == sum(cell_of(spec) in cells for spec in own), "the sessions that were done, too"
    assert {spec.device for spec in todo} == {"adb:E"}
    known = {spec.run_id for spec in dealt}
    assert [spec.run_id for spec in todo if spec.run_id in known] == [own[-1].run_id], "what was begun is another run"
    assert load(tmp_path, None) == roster.sweep
    (move,) = roster.sweep.moves
    assert (move.device, move.to, move.why, len(move.run_ids)) == ("adb:A", "adb:E", "it failed", len(todo))

    busiest = roster.move("adb:E", todo, "it failed, too")
    assert busiest is not None
    assert busiest.to == "adb:D"
    assert roster.move("adb:D", busiest.specs, "the last one") is None
    assert roster.move("local", dealt[:1], "it has no equal") is None
    assert roster.move("local", dealt[:1], "again") is None
    unmoved = [(move.device, move.why) for move in roster.sweep.moves if move.to is None]
    assert unmoved == [("adb:D", "the last one"), ("local", "again")]
    assert len(roster.sweep.specs) == len(dealt)


def test_what_a_device_lost_before_it_was_given_up_is_made_anew_elsewhere() -> None:
    dealt = deal(_specs(), [POOL])
    roster = Roster(Sweep("s", tuple(dealt), (POOL.devices,)), keep=lambda _: None, was_begun=lambda _: False)
    own = [spec for spec in dealt if spec.device == "adb:A"]
    lost = next(spec for spec in own if cell_of(spec) != cell_of(own[0]))
    moved = roster.move("adb:A", (), "three were lost", [own[0], lost])
    assert moved is not None
    assert {cell_of(replace(spec, device="adb:A")) for spec in moved.specs} == {cell_of(own[0]), cell_of(lost)}
    assert not {spec.run_id for spec in moved.specs} & {spec.run_id for spec in dealt}, "they are other runs"
