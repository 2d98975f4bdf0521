"""A device that fails again and again, a link that breaks in mid-run, a Ctrl-C at the gate: what a sweep comes to."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from melt_rig import LONG, SMALL, Melt

from melt.errors import Gone
from melt.events import DeviceSeen, Reading, RunBegan
from melt.fleet import station
from melt.fleet.conductor import conduct
from melt.fleet.pools import Roster
from melt.fleet.sweep import Sweep, load, save
from melt.models.library import Library
from melt.plan.expand import expand
from melt.plan.ids import new_id
from melt.plan.model import ModelChoice, Plan
from melt.records import Outcome, Repeat, Settings, Workload
from melt.session import connect
from melt.session.prepare import prepare
from melt.store.store import Store

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]


def _worker(melt: Melt, but: set[int]) -> int | None:
    """The process number of the agent that works on the job under way, once its runner has begun."""
    for job in melt.job_dirs():
        begun = (job / "journal").is_file() and b"runner_started" in (job / "journal").read_bytes()
        words = (job / "pid").read_text().split() if begun else []
        if "worker" in words and (pid := int(words[words.index("worker") + 1])) not in but:
            return pid
    return None


def test_a_device_that_fails_thrice_is_set_aside_and_its_runs_are_left(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0,q4_0,q5_0,f16", "--order", "sequential")
    killed: set[int] = set()
    for number in range(3):
        pid = wait_for(f"run {number} to be under way", lambda: _worker(melt, killed), timeout_s=60)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "note: local is set aside, it failed 3 times in a row: the agent was killed" in stderr
    assert "melt: local is set aside" in stderr
    assert "3 of 4 runs are kept; go on with: melt resume" in stderr
    assert [run["outcome"] for run in melt.runs()] == ["failed"] * 3


@pytest.fixture
def busy() -> Iterator[None]:
    """One processor of this machine is never idle."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as loop:
        yield
        loop.kill()


def test_an_interrupt_at_the_gate_starts_nothing(melt: Melt, busy: None) -> None:
    process = melt.start("run", *SMALL, "--gate", "cpu_idle_min_ratio=100%")
    assert process.stderr is not None
    assert any("for the gate" in line for line in process.stderr), "it ended before it came to the gate"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    (run,) = melt.runs()
    assert run["outcome"] == "aborted", stderr
    assert melt.job_dirs() == []


PLAN = Plan(
    name="two cells",
    models=(ModelChoice(model="tiny-pydoc"),),
    workloads=(Workload(n_prompt=16), Workload(n_gen=16)),
    settings=(Settings(threads=1),),
    repeat=Repeat(warmup=0, repetitions=1),
    order="sequential",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> Path:
    """This process as a melt of its own; where its jobs lie."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MELT_MODELS", str(models_dir))
    return tmp_path / "state" / "melt" / "device" / "jobs"


def test_an_equal_device_does_what_a_failed_one_was_to_do(tmp_path: Path, here: Path) -> None:
    nowhere = "ssh:nobody@127.0.0.1:1"
    specs = expand(replace(PLAN, devices=(nowhere,)), sweep_id=new_id(), new_run_id=new_id)
    notes: list[Any] = []
    with Store.open(tmp_path / "store") as store:
        roster = Roster(
            Sweep(specs[0].sweep_id, specs, ((nowhere, "local"),)),
            keep=lambda sweep: save(store.root, sweep),
            was_begun=lambda _: False,
        )
        done = conduct(specs, store, Library().resolve, observe=notes.append, stop=Event(), elsewhere=roster.move)
        assert [bundle.start.spec.device for bundle in done.bundles] == ["local", "local"]
        assert {bundle.stop.outcome for bundle in done.bundles} == {Outcome.OK}
        kept = load(store.root, None)
    assert (done.troubles, len(done.made_good)) == ([], 1)
    told = [type(note) for note in notes if getattr(note, "device", "local") == "local"]
    assert told.index(DeviceSeen) < told.index(Reading) < told.index(RunBegan), "while it is being prepared"
    assert [move.to for move in kept.moves] == ["local"]
    assert str(done.made_good[0]) == kept.moves[0].why
    assert [(spec.run_id, spec.device) for spec in kept.specs] == [(spec.run_id, "local") for spec in specs]


def test_a_run_whose_link_breaks_is_collected_and_the_sweep_goes_on(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, begun = station.execute, []

    def breaking(spec: Any, artifact: Any, engine: Any, site: Any, folder: Any, **rest: Any) -> Any:
        begun.append(spec.run_id)
        if len(begun) == 1:
            raise Gone("the cable was pulled before anything was there")
        if len(begun) == 2:
            ready = prepare(spec, artifact, engine, site, folder)
            site.target.agent.start(ready.job_dir)
            raise Gone("the cable was pulled")
        return whole(spec, artifact, engine, site, folder, **rest)

    monkeypatch.setattr(station, "execute", breaking)
    specs = expand(PLAN, sweep_id=new_id(), new_run_id=new_id)
    notes: list[Any] = []
    with Store.open(tmp_path / "store") as store:
        done = conduct(specs, store, Library().resolve, observe=notes.append, stop=Event())
        assert [bundle.start.spec.run_id for bundle in done.bundles] == [spec.run_id for spec in specs]
        assert {bundle.stop.outcome for bundle in done.bundles} == {Outcome.OK}
        assert store.leftovers() == []
    assert done.troubles == []
    assert begun == [specs[0].run_id, specs[0].run_id, specs[1].run_id]
    assert list(here.iterdir()) == []


def test_a_link_that_breaks_while_a_device_is_prepared_is_waited_for(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = connect.refuse_if_occupied, []

    def breaking(site: Any) -> None:
        if not broken:
            broken.append(site)
            raise Gone("the cable was moved")
        whole(site)

    # After the device was claimed: it must not stand in its own way.
    monkeypatch.setattr(connect, "refuse_if_occupied", breaking)
    specs = expand(PLAN, sweep_id=new_id(), new_run_id=new_id)
    with Store.open(tmp_path / "store") as store:
        done = conduct(specs, store, Library().resolve, observe=lambda _: None, stop=Event())
    assert (len(broken), done.troubles) == (1, [])
    assert {bundle.stop.outcome for bundle in done.bundles} == {Outcome.OK}
