"""What the conductor makes of a device that fails: who does its runs, and which of those that ended are made anew."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from store_samples import make_bundle

from melt.errors import MeltError
from melt.events import RunsMoved
from melt.fleet.conductor import Conducted, conduct
from melt.fleet.pools import Roster
from melt.fleet.setbacks import SetAside
from melt.fleet.station import Station
from melt.fleet.sweep import Sweep
from melt.records import Outcome, RunSpec
from melt.store.store import Store
from melt.traces import RunBundle

_BUNDLE = make_bundle()
_END: dict[str, tuple[Outcome | None, ...]] = {
    "adb:A": (Outcome.OK, Outcome.OOM, Outcome.DEVICE_LOST, Outcome.DEVICE_LOST, Outcome.DEVICE_LOST),
    "adb:B": (Outcome.OK,) * 9,
}
"""How the runs of a device end, one after the other; after its last one it is set aside."""


def _spec(number: int) -> RunSpec:
    return replace(_BUNDLE.start.spec, run_id=f"r{number}", device="adb:A", quant=f"q{number}_0", position=number)


def _played(_station: Station, device: str, todo: deque[RunSpec], done: list[RunBundle]) -> None:
    """Let the runs of a device end as it is said above."""
    for outcome in _END[device]:
        if not todo:
            break
        spec = todo.popleft()
        start, stop = replace(_BUNDLE.start, spec=spec), replace(_BUNDLE.stop, run_id=spec.run_id, outcome=outcome)
        done.append(replace(_BUNDLE, start=start, stop=stop))
    if device == "adb:A":
        raise SetAside(device, "its cable")


def _conduct(n_runs: int, pool: tuple[str, ...], tmp_path: Path, see: list[Any]) -> tuple[Conducted, Sweep]:
    specs = tuple(_spec(number) for number in range(n_runs))
    with Store.open(tmp_path) as store:
        roster = Roster(Sweep("s", specs, (pool,)), keep=lambda _: None, was_begun=lambda _: False)
        done = conduct(
            specs, store, lambda *_: _BUNDLE.start.artifact, observe=see.append, stop=Event(), elsewhere=roster.move
        )
    return done, roster.sweep


@pytest.mark.parametrize(
    ("n_runs", "moved"), [(7, {"q2_0", "q3_0", "q4_0", "q5_0", "q6_0"}), (5, {"q2_0", "q3_0", "q4_0"})]
)
def test_an_equal_device_makes_what_the_failed_one_lost_and_what_it_left(
    n_runs: int, moved: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Station, "work_off", _played)
    seen: list[Any] = []
    done, sweep = _conduct(n_runs, ("adb:A", "adb:B"), tmp_path, seen)
    assert (done.troubles, [type(error) for error in done.made_good]) == ([], [SetAside])
    on_b = [bundle.start.spec for bundle in done.bundles if bundle.start.spec.device == "adb:B"]
    assert {spec.quant for spec in on_b} == moved
    assert {spec.run_id for spec in sweep.specs} == {
        bundle.start.spec.run_id for bundle in done.bundles if bundle.stop.outcome is not Outcome.DEVICE_LOST
    }
    (event,) = (event for event in seen if isinstance(event, RunsMoved))
    assert [spec.run_id for spec in event.specs] == [spec.run_id for spec in on_b]


def test_without_an_equal_device_it_is_the_sweeps_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Station, "work_off", _played)
    done, sweep = _conduct(7, ("adb:A",), tmp_path, [])
    assert [str(error) for error in done.troubles] == ["adb:A is set aside, it failed 3 times in a row: its cable"]
    assert isinstance(done.troubles[0], MeltError)
    assert [spec.run_id for spec in sweep.specs] == [f"r{number}" for number in range(7)]
