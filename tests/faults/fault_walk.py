"""Walk a sweep through faults: host after host on eight boards that outlive them all, until nothing is missing."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

import invariants
from fault_host import World, live
from fault_schedule import DEVICES, Fault, Instant, Schedule
from virtual.simulated.board import Board
from virtual.simulated.recording import Script

from melt.errors import DeviceError, TransportError, UsageError
from melt.fleet.settled import Settled
from melt.fleet.sweep import Sweep, load, missing
from melt.plan.expand import expand
from melt.plan.ids import new_id
from melt.plan.model import ModelChoice, Plan
from melt.records import Artifact, Conditions, Outcome, Repeat, Settings, Workload
from melt.store.selection import Selection
from melt.store.store import Store

_LINES = DEVICES + 3
"""A thread for each device, one for the rest, and some more."""
_PATIENCE = 7
"""How many hosts a sweep may take: after the last fault one has to be enough, and one that tidies up."""
_HUNG_S = 120.0
"""A host that asks no device anything for so long hangs."""
SCRIPT = Script(run_s=2.4, load_s=0.3, warmup_s=0.3, repetitions=3, n_prompt=16, n_gen=8, threads=2)
_WORKLOAD = Workload(n_prompt=16, n_gen=8)
_CONDITIONS = (
    Conditions(),
    Conditions(nvpmodel="15W"),
    Conditions(jetson_clocks=True),
    Conditions(nvpmodel="15W", jetson_clocks=True),
    Conditions(nvpmodel="MAXN_SUPER"),
)


def plan_sweep(schedule: Schedule) -> Sweep:
    """Plan a sweep on eight devices, of which the first ones stand in for each other: five cells on each, 40 runs.

    Where a precision is asked for, they are two cells of up to four sessions, of which two are enough.
    """
    devices = tuple(f"ssh:board-{number}" for number in range(DEVICES))
    precise = Repeat(repetitions=SCRIPT.repetitions, sessions=4, until_ci=0.05, min_sessions=2)
    plan = Plan(
        name="faults",
        models=(ModelChoice(model="tiny-pydoc"),),
        workloads=(_WORKLOAD,),
        devices=devices,
        settings=(Settings(timeout_s=100.0),),
        conditions=_CONDITIONS[2:4] if schedule.precise else _CONDITIONS,
        repeat=precise if schedule.precise else Repeat(repetitions=SCRIPT.repetitions),
        order_seed=schedule.seed,
    )
    sweep_id = new_id()
    # What a device is given is another cell than what any other one is given, also when it moves there.
    specs = tuple(
        replace(spec, settings=replace(spec.settings, seed=devices.index(spec.device)))
        for spec in expand(plan, sweep_id=sweep_id, new_run_id=new_id)
    )
    return Sweep(sweep_id, specs, (devices[: schedule.pooled],) if schedule.pooled else ())


@dataclass
class Walk:
    """A sweep on its way. `acknowledged` is what hosts said was published; `said` what happened, in order."""

    schedule: Schedule
    world: World
    breaks_host: Callable[[], None] = lambda: None
    acknowledged: dict[str, Outcome] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    hosts: int = 0

    def __post_init__(self) -> None:
        random = Random(self.schedule.seed)
        self.boards = {
            f"ssh:board-{n}": Board(f"ssh:board-{n}", SCRIPT, Random(random.random())) for n in range(DEVICES)
        }
        self._knobs = {name: board.knobs for name, board in self.boards.items()}
        self._asked: Counter[tuple[str, bool]] = Counter()
        self._due = list(self.schedule.faults)
        self._violations: list[str] = []
        self._pid = 0

    def to_its_end(self) -> list[str]:
        """Start hosts until the sweep is done; return what does not hold then."""
        violations = self._violations
        while not violations and (lacking := self._lacking()):
            if self.hosts == _PATIENCE:
                violations.append(f"after {_PATIENCE} hosts there is still {lacking}")
                break
            code = self._one_host()
            self.said.append(f"host {self.hosts} ended with {code}")
            if code not in (0, 1, 2, -signal.SIGKILL):
                violations.append(f"host {self.hosts} crashed with {code}")
            self.night()
            self.hosts += 1
        asked, sweep_id = self.world.sweep.specs, self.world.sweep.sweep_id
        devices = [
            invariants.DeviceAtRest(name, self._knobs[name], board.knobs, board.unended, tuple(board.completed))
            for name, board in self.boards.items()
        ]
        return violations + invariants.check(self.world.store, sweep_id, asked, self.acknowledged, devices)

    def _lacking(self) -> str:
        """Say for what another host is needed; nothing when the sweep is over and nothing of it lies on a device."""
        try:
            asked = load(self.world.store, self.world.sweep.sweep_id)
        except UsageError:
            return "a sweep that was not even written down"
        with Store.open(self.world.store) as store:
            sweep, todo = missing(asked, store)
            spared = Settled.of(sweep, store.bundles(Selection(sweep=sweep.sweep_id))).spared(todo)
            left = [spec.run_id for spec in todo if spec.run_id not in spared]
            left += [folder.name for folder in store.layout.spool.glob("[!.]*")]
            return ", ".join(left)

    def _one_host(self) -> int:
        pairs = [Pipe() for _ in range(_LINES)]
        number = self.hosts
        faults = self.schedule.hosts[number] if number < len(self.schedule.hosts) else ()
        self._pid = os.fork()
        if self._pid == 0:
            for ours, _ in pairs:
                ours.close()
            self.breaks_host()
            live(self.world, [theirs for _, theirs in pairs], faults)
        for _, theirs in pairs:
            theirs.close()
        try:
            self._serve([ours for ours, _ in pairs], self.schedule.killed.get(number))
        finally:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _serve(self, lines: list[Connection], instant: Instant | None) -> None:
        """Answer a host until it is gone, and kill it at its instant."""
        questions, kill_s = 0, math.inf
        while lines:
            if instant is not None and questions >= instant.questions:
                kill_s, instant = time.monotonic() + instant.after_s, None
            ready = wait(lines, timeout=max(0.0, min(_HUNG_S, kill_s - time.monotonic())))
            if time.monotonic() >= kill_s:
                os.kill(self._pid, signal.SIGKILL)
                kill_s = math.inf
            elif not ready:
                self._violations.append(f"host {self.hosts} hung")
                os.kill(self._pid, signal.SIGKILL)
            questions += len(ready)
            for line in ready:
                assert isinstance(line, Connection)
                try:
                    answer = self._answer(*line.recv())
                    line.send(answer)
                except (EOFError, OSError):
                    lines.remove(line)
                    line.close()

    def _answer(self, device: str, owed_s: float, verb: str, words: Sequence[Any]) -> Any:
        if verb == "acknowledge":
            if words[0] in self.acknowledged:
                self._violations.append(f"run {words[0]} was published twice")
            self.acknowledged[words[0]] = Outcome(words[1])
            return None
        board = self.boards[device]
        board.advance(owed_s)
        befall = self._befalling(device, following=verb == "read")
        if befall is not None and not befall.answered:
            self._let_happen(befall)
        broken_off = befall is not None and verb == "receive"
        try:
            found = getattr(board, verb)(*words, broken_off) if verb == "receive" else getattr(board, verb)(*words)
        except DeviceError as error:
            return error
        if befall is not None and befall.answered:
            self._let_happen(befall)
            return TransportError(f"{device}: the link broke")
        return found

    def _befalling(self, device: str, *, following: bool) -> Fault | None:
        self._asked[device, False] += 1
        self._asked[device, True] += following
        for fault in self._due:
            name = f"ssh:board-{fault.device}"
            if (
                name == device
                and (following or not fault.following)
                and self._asked[name, fault.following] >= fault.call
            ):
                self._due.remove(fault)
                return fault
        return None

    def _let_happen(self, fault: Fault) -> None:
        board = self.boards[f"ssh:board-{fault.device}"]
        self.said.append(f"host {self.hosts}: {fault}")
        if fault.kind == "cable pulled":
            board.unplug(fault.for_s)
        elif fault.kind == "adb server killed":
            for one in self.boards.values():
                one.unplug(fault.for_s)
        elif fault.kind in ("rebooted", "battery empty"):
            board.switch_off(fault.for_s)
        elif fault.kind == "agent killed":
            board.kill_agent()
        elif fault.kind == "link frozen":
            board.freeze(fault.for_s)
        elif fault.kind == "disk full":
            board.fill_disk(fault.for_s)
        elif fault.kind == "clock jumps":
            board.wall_ns += int(fault.for_s * 1e9)
        elif fault.kind == "host killed":
            os.kill(self._pid, signal.SIGKILL)

    def night(self) -> None:
        """Let time pass until somebody starts the next host; after the last fault all is well again."""
        if self.world.ballast is not None:
            self.world.ballast.unlink(missing_ok=True)
        nights = self.schedule.nights_s
        for board in self.boards.values():
            board.advance(nights[self.hosts] if self.hosts < len(nights) else 0.0)
            if self.hosts >= len(nights):
                self._due = []
                board.heal()


def story(walk: Walk, violations: Sequence[str]) -> str:
    """Tell what was violated and what had happened, so that somebody can do it again."""
    seed = walk.schedule.seed
    log = walk.world.log.read_text(errors="replace") if walk.world.log.exists() else ""
    crash = log[log.rfind("Traceback") :] if "Traceback" in log else ""
    parts = [*violations, "", "what befell it:", str(walk.schedule), "", "what happened:", *walk.said, crash]
    return "\n".join([f"again: MELT_FAULT_SEEDS={seed}-{seed} pytest tests/faults", *parts])


def build_world(
    folder: Path, template: Path, sweep: Sweep, artifact: Artifact, log: Path, *, small_disk: bool
) -> World:
    """Make an empty store and a state folder of a user who has just installed melt; what it prints goes elsewhere."""
    store = folder / "store"
    shutil.copytree(template, store)
    ballast = folder / "ballast" if small_disk else None
    return World(sweep, artifact, store, folder / "state", log, ballast)
