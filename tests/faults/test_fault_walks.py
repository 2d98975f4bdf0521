"""A sweep of 40 cells on eight devices through random faults: every cell ends once, whatever happens on the way.

    MELT_FAULT_SEEDS=200 pytest tests/faults      two hundred seeds
    MELT_FAULT_SEEDS=17-17 pytest tests/faults    one of them again

The host is melt's own, a real process that is really killed (fault_host.py); the devices are simulated, outlive it and
keep to the agent's contract (tests/virtual/simulated); what befalls them comes from the seed (fault_schedule.py); what
must hold at the end is in invariants.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fault_host
import pytest
from fault_schedule import DEVICES, Fault, Schedule, draw
from fault_walk import Walk, build_world, plan_sweep, story

from melt import _layout
from melt.fleet import carry_out
from melt.fleet import sweep as sweeps
from melt.models.inspect import inspect
from melt.plan.ids import new_id
from melt.records import Artifact, Outcome, RunSpec
from melt.store.store import Store
from melt.targets.agent import AgentClient, Status
from melt.traces import RunBundle

pytestmark = pytest.mark.slow

_DISK = "32m"
_MODEL = Path(_layout.__file__).parent / "models" / "data" / "tiny-pydoc-f16.gguf"

Begin = Callable[[Schedule], Walk]


def _seeds() -> range:
    """How many seeds, or from which one to which one."""
    first, dash, last = os.environ.get("MELT_FAULT_SEEDS", "25").partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(first))


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk that can be filled up, in memory; an ordinary folder where nothing may be mounted."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    fault_host.prepare_this_process()
    return inspect(_MODEL)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tables are made once."""
    folder = tmp_path_factory.mktemp("empty") / "store"
    Store.open(folder).close()
    return folder


@pytest.fixture
def begin(disk: Path, artifact: Artifact, empty_store: Path, tmp_path: Path) -> Iterator[Begin]:
    folder = disk / "walk"

    def make(schedule: Schedule) -> Walk:
        folder.mkdir()
        sweep = plan_sweep(schedule)
        small = os.path.ismount(disk)
        return Walk(schedule, build_world(folder, empty_store, sweep, artifact, tmp_path / "log", small_disk=small))

    yield make
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("seed", _seeds())
def test_every_cell_ends_exactly_once(begin: Begin, seed: int) -> None:
    walk = begin(draw(seed))
    violations = walk.to_its_end()
    assert not violations, story(walk, violations)


class _AwayForAMoment(Walk):
    """Where the first host left a run that goes on, the device is out of reach when first sought, and back at once.

    Only there: a device of which nothing is to be collected is not waited for when it does not answer. Which ones have
    a run at that moment is up to the threads of the host; the one at whose journal it was killed always has.
    """

    def night(self) -> None:
        super().night()
        for board in self.boards.values() if self.hosts == 0 else ():
            if board.unended:
                board.unplug(0.003)


def test_a_run_that_could_not_be_reached_at_first_is_collected_and_not_stopped(begin: Begin) -> None:
    walk = begin(Schedule(0, (Fault(0, 9, "host killed", 0.0, following=True, answered=False),), (), {}, (0.0,) * 3))
    walk = _AwayForAMoment(walk.schedule, walk.world)
    violations = walk.to_its_end()
    assert not violations, story(walk, violations)
    assert "a run is left on ssh:board-0, which cannot be reached" in walk.world.log.read_text()
    assert set(walk.acknowledged.values()) == {Outcome.OK}
    assert "host 1 ended with 0" in walk.said, story(walk, violations)


# A suite that cannot fail is worth nothing: hosts that are wrong on purpose.


def _in_each_first_run(kind: str, for_s: float = 0.0) -> tuple[Fault, ...]:
    """One fault on each device, while its first run goes on."""
    return tuple(Fault(n, 9, kind, for_s, following=True, answered=False) for n in range(DEVICES))


def _broken(begin: Begin, faults: tuple[Fault, ...], breaks_host: Callable[[], None]) -> str:
    """Walk with a host that is broken, and return what was found."""
    walk = begin(Schedule(0, faults, ((),), {}, (600.0,)))
    walk.breaks_host = breaks_host
    return "\n".join(walk.to_its_end())


def test_without_faults_all_is_well(begin: Begin) -> None:
    walk = begin(Schedule(0, (), (), {}, ()))
    assert walk.to_its_end() == []
    assert walk.hosts == 1
    assert list(walk.acknowledged.values()) == [Outcome.OK] * 40


def test_a_run_that_was_said_to_be_published_and_is_not_is_found(begin: Begin) -> None:
    def broken() -> None:
        publish = Store.publish

        def forgetful(store: Store, bundle: RunBundle) -> None:
            if bundle.start.spec.cell != 7:
                publish(store, bundle)

        Store.publish = forgetful  # type: ignore[method-assign]

    assert "was published twice" in _broken(begin, (), broken)


def test_a_run_that_is_counted_twice_is_found(begin: Begin) -> None:
    def broken() -> None:
        publish = Store.publish

        def twice(store: Store, bundle: RunBundle) -> None:
            publish(store, bundle)
            spec = replace(bundle.start.spec, run_id=f"{bundle.start.spec.run_id}x")
            start, stop = replace(bundle.start, spec=spec), replace(bundle.stop, run_id=spec.run_id)
            publish(store, replace(bundle, start=start, stop=stop))

        Store.publish = twice  # type: ignore[method-assign]

    assert "one journal makes the runs" in _broken(begin, (), broken)


def test_knobs_that_stay_as_a_dead_run_had_them_are_found(begin: Begin) -> None:
    def broken() -> None:
        def recover(self: AgentClient, jobdir: str, *, timeout_s: float = 90.0) -> Status:
            return Status("ended", None, 0, 0, {"reason": "recovered"})

        AgentClient.recover = recover  # type: ignore[method-assign]

    found = _broken(begin, _in_each_first_run("agent killed"), broken)
    assert "was never ended" in found
    assert "before, and is" in found


def test_runs_on_devices_that_nobody_asks_for_any_more_are_found(begin: Begin) -> None:
    def broken() -> None:
        asked = sweeps.missing

        def renamed(sweep: sweeps.Sweep, store: Store) -> tuple[sweeps.Sweep, tuple[RunSpec, ...]]:
            """Ask for everything anew, under other names, as if nothing of it lay anywhere."""
            for folder in store.layout.spool.iterdir():
                shutil.rmtree(folder)
            todo = {spec.run_id: replace(spec, run_id=new_id()) for spec in asked(sweep, store)[1]}
            specs = tuple(todo.get(spec.run_id, spec) for spec in sweep.specs)
            return replace(sweep, specs=specs), tuple(todo.values())

        carry_out.missing = renamed
        Store.leftovers = lambda store: []  # type: ignore[method-assign]

    found = _broken(begin, _in_each_first_run("host killed"), broken)
    assert "was measured to its end, and is in no store" in found
