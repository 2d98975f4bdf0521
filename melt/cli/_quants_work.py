"""The work behind `melt quants`: levels are made, and run as far as the store has no runs that answer."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from melt.cli._quants_plan import Asked
from melt.cli._storeargs import open_store, store_root
from melt.errors import MeltError, UsageError

if TYPE_CHECKING:
    from melt.analysis.candidates import AskedLevel
    from melt.fleet.sweep import Sweep
    from melt.models.files import Progress
    from melt.models.library import Library
    from melt.records import Artifact, DeviceFacts, RunSpec
    from melt.store.store import Store
    from melt.traces import RunBundle


_STOPPED_LOOKED_AT = 20
"""Of the newest sweeps: who comes back after more than these wants something else by now."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs that the store has now of what was asked for. `device` None: no run tells what it is.

    `complete`: nothing was stopped or lost. `status` is that of `melt run`.
    """

    bundles: tuple[RunBundle, ...] = ()
    device: DeviceFacts | None = None
    complete: bool = True
    status: int = 0
    files: dict[str | None, Artifact] = field(default_factory=dict)


def make_levels(
    model: str, asked: Asked, library: Library, progress: Progress, *, only_made: bool
) -> tuple[Artifact, list[AskedLevel]]:
    """Return the file as it was published, and all levels of it; one that cannot be made says why.

    `only_made`: nothing is fetched or made. Raises ModelError where there is no file to make levels of, UsageError
    where it would have to be fetched.
    """
    from melt.analysis.candidates import AskedLevel

    peek = partial(library.peek, model, hashing=True)
    origin = peek(None) if only_made else library.pull(model, progress=progress)
    if origin is None:
        raise UsageError(
            f"{model} is not on this machine, so nothing tells which runs are of it: melt models pull {model}"
        )
    levels = []
    for name in asked.levels.values():
        try:
            made = peek(name) if only_made else library.resolve(model, name, progress=progress)
            levels.append(AskedLevel(name, made))
        except MeltError as error:
            _say(f"{name}: {error}")
            levels.append(AskedLevel(name, None, str(error)))
    return origin, levels


def look_up(args: argparse.Namespace, asked: Asked, levels: Sequence[AskedLevel]) -> Measured:
    """Return what the store has of a device that need not be there. Raises UsageError where it has nothing."""
    from melt.analysis.earlier import earlier
    from melt.store.selection import Selection

    files = _files(asked, levels)
    if not files:
        raise UsageError(
            f"none of these levels of {args.model} was made on this machine, so nothing tells which runs are of them: "
            "leave out --from-store to make them"
        )
    with open_store(args) as store:
        bundles = [b for b in store.bundles(Selection(device=_id_here(asked.device))) if _is_meant(b, asked.device)]
    found = earlier(bundles, asked.specs, files, None)
    if not found:
        works = " and ".join(workload.name for workload in asked.workloads.all)
        raise UsageError(
            f"the store has no run of these levels on {asked.device} with {works}: leave out --from-store to make them"
        )
    return Measured(tuple(found), found[-1].start.device, files=files)


def measure(args: argparse.Namespace, asked: Asked, levels: Sequence[AskedLevel], library: Library) -> Measured:
    """Run what the store lacks, and return what it then has. Raises UsageError, TransportError, StoreError."""
    from melt.fleet.look import look

    files = _files(asked, levels)
    if not files:
        raise UsageError("none of the levels can be made: " + "; ".join(f"{one.level}: {one.why}" for one in levels))
    device, _ = look(asked.device)
    # What is run tells what the device and its engine are now: runs of before that were made under another engine
    # revision turn out as unlike only then, and are made anew.
    begun: list[RunSpec] = []
    todo, found = _todo(args, asked, files, device, begun)
    while todo:
        begun += todo
        complete = _conduct(args, todo, library)
        if not complete:
            _say("the same command goes on with what is left; the quality is evaluated when all was run")
        todo, found = _todo(args, asked, files, device, begun)
        if not complete:
            return Measured(tuple(found), _newest(found, device), complete=False, status=1, files=files)
    return Measured(tuple(found), _newest(found, device), status=_status(found, begun), files=files)


def _todo(
    args: argparse.Namespace,
    asked: Asked,
    files: dict[str | None, Artifact],
    device: DeviceFacts,
    begun: Sequence[RunSpec],
) -> tuple[list[RunSpec], list[RunBundle]]:
    """Return the runs that are still to be made, under ids of their own, and those that the store has."""
    from melt.analysis.earlier import earlier, lacking
    from melt.store.selection import Selection
    from melt.store.store import Store

    with Store.open(store_root(args)) as store:
        found = earlier(store.bundles(Selection(device=device.device_id)), asked.specs, files, device)
    tried = {spec.run_id for spec in begun}
    todo = [spec for spec in lacking(asked.specs, found, files) if spec.run_id not in tried]
    n_asked = sum(spec.quant in files for spec in asked.specs)
    if not begun and len(todo) < n_asked:
        _say(f"{n_asked - len(todo)} of {n_asked} runs are in the store; {len(todo) or 'none'} left to run")
    elif begun and todo:
        _say(f"{len(todo)} runs of the store were made under other conditions than those of now: they are made anew")
    return todo, found


def _conduct(args: argparse.Namespace, specs: Sequence[RunSpec], library: Library) -> bool:
    """Run, and say whether every run has an end that stays."""
    from melt.cli.run import conduct_sweep
    from melt.fleet.sweep import MADE_ANEW, save
    from melt.store.store import Store

    with Store.open(store_root(args)) as store:
        sweep = sweep_of(store, specs)
    save(store.root, sweep)
    ended: list[RunBundle] = []
    conduct_sweep(sweep, library, args, lambda bundles, _: ended.extend(bundles))
    done = {bundle.start.spec.run_id for bundle in ended if bundle.stop.outcome not in MADE_ANEW}
    return all(spec.run_id in done for spec in specs)


def sweep_of(store: Store, specs: Sequence[RunSpec]) -> Sweep:
    """Return the sweep that makes these runs: a stopped one that lacks some of them and nothing else, or a new one.

    The stopped one keeps what it has; its lacking runs give way to `specs`, so that nothing of it is left to resume.
    """
    from melt.codec import dumps
    from melt.fleet.sweep import Sweep, is_held, known_ids, load, missing, read_plain
    from melt.plan.ids import new_id

    def cell(spec: RunSpec) -> str:
        return dumps(replace(spec, run_id="", sweep_id="", block=0, position=0, cell=None, order_seed=None))

    wanted = Counter(map(cell, specs))
    for sweep_id in reversed(known_ids(store.root)[-_STOPPED_LOOKED_AT:]):
        if {spec.get("plan") for spec in read_plain(store.root, sweep_id).get("specs", ())} != {specs[0].plan}:
            continue
        stopped, lacking = missing(load(store.root, sweep_id), store)
        if lacking and not Counter(map(cell, lacking)) - wanted and not is_held(store.root, sweep_id):
            gone = {spec.run_id for spec in lacking}
            kept = [spec for spec in stopped.specs if spec.run_id not in gone]
            return replace(stopped, specs=(*kept, *(replace(spec, sweep_id=sweep_id) for spec in specs)))
    sweep_id = new_id()
    return Sweep(sweep_id, tuple(replace(spec, sweep_id=sweep_id) for spec in specs))


def _status(found: Sequence[RunBundle], begun: Sequence[RunSpec]) -> int:
    """Return 0 where what was run ended with an answer, and something was measured."""
    from melt.cli.run import ended_as_asked
    from melt.records import Outcome

    mine = {spec.run_id for spec in begun}
    fresh = [b.stop.outcome for b in found if b.start.spec.run_id in mine]
    # How runs of before ended was told then; they only count as what was measured.
    before = [outcome for b in found if (outcome := b.stop.outcome) is Outcome.OK]
    return int(len(fresh) < len(mine) or not ended_as_asked([*fresh, *before]))


def _files(asked: Asked, levels: Sequence[AskedLevel]) -> dict[str | None, Artifact]:
    """Return the files by the quant of a spec."""
    made = {one.level: one.artifact for one in levels}
    return {quant: artifact for quant, level in asked.levels.items() if (artifact := made[level]) is not None}


def _newest(found: Sequence[RunBundle], device: DeviceFacts) -> DeviceFacts:
    return found[-1].start.device if found else device


def _id_here(device: str) -> str | None:
    """Return the id of this machine, None for a device that need not be there."""
    from melt.fleet.look import look

    return look(device)[0].device_id if device == "local" else None


def _is_meant(bundle: RunBundle, device: str) -> bool:
    facts, selector = bundle.start.device, bundle.start.spec.device
    return device == "local" or device in (facts.name, facts.device_id, selector, selector.partition(":")[2])


def _say(text: str) -> None:
    print(f"melt: {text}", file=sys.stderr)
