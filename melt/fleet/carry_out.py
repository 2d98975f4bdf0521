"""A sweep under one melt: what an earlier one left is recovered, what lacks is run, and the whole is reviewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event

from melt.errors import MeltError
from melt.events import Note, Observer, SweepPlanned
from melt.fleet.conductor import Resolve, conduct
from melt.fleet.pools import Roster
from melt.fleet.recover import recover
from melt.fleet.review import review_sweep
from melt.fleet.settled import Settled
from melt.fleet.sweep import MADE_ANEW, Sweep, as_kept, missing, save
from melt.records import RunSpec
from melt.store.selection import Selection
from melt.store.store import Store
from melt.traces import RunBundle
from melt.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOut:
    """What a sweep came to, with all that earlier melts did of it.

    `sweep` says where its runs were made in the end, and which were not needed; `bundles` are those that count.
    `troubles` ended a device's part early; after those of `made_good` an equal device did the rest.
    """

    sweep: Sweep
    bundles: Sequence[RunBundle]
    settled: Settled
    troubles: Sequence[MeltError]
    made_good: Sequence[MeltError]


def carry_out(store: Store, sweep: Sweep, resolve: Resolve, *, observe: Observer, stop: Event) -> CarriedOut:
    """Run what a sweep lacks, which the caller holds (`melt.fleet.sweep.held`). Raises MeltError.

    Stops early when `stop` is set. At any moment the store knows enough for another melt to go on.
    """
    collected = recover(store, observe=observe, stop=stop)
    # The melt that held it until now may have moved runs since it was read.
    asked = as_kept(store.root, sweep)
    sweep, todo = missing(asked, store)
    settled = Settled.of(sweep, _bundles(store, sweep))
    spared = settled.spared(todo)
    sweep = replace(sweep, spared=tuple(spared))
    todo = tuple(spec for spec in todo if spec.run_id not in spared)
    _say_what_is_kept(asked, todo, len(spared), collected, observe)
    observe(SweepPlanned(sweep.specs, todo))
    save(store.root, sweep)
    spool = store.layout.spool
    roster = Roster(sweep, keep=lambda now: save(store.root, now), was_begun=lambda run_id: (spool / run_id).exists())
    done = conduct(todo, store, resolve, observe=observe, stop=stop, elsewhere=roster.move, settled=settled)
    review_sweep(store, sweep.sweep_id, observe)
    bundles = _bundles(store, roster.sweep)
    settled = Settled.of(roster.sweep, bundles)
    sweep = _with_spared(store, roster.sweep, settled, bundles)
    return CarriedOut(sweep=sweep, bundles=bundles, settled=settled, troubles=done.troubles, made_good=done.made_good)


def _with_spared(store: Store, sweep: Sweep, settled: Settled, bundles: Sequence[RunBundle]) -> Sweep:
    """Write down which runs are not needed any more."""
    ended = {b.start.spec.run_id for b in bundles if b.stop.outcome not in MADE_ANEW}
    spared = settled.spared(spec for spec in sweep.specs if spec.run_id not in ended)
    sweep = replace(sweep, spared=tuple(spared))
    if spared:
        save(store.root, sweep)
    return sweep


def _say_what_is_kept(
    asked: Sweep, todo: Sequence[RunSpec], n_spared: int, collected: Sequence[RunBundle], observe: Observer
) -> None:
    """Say of a sweep that is gone on with what it has, what was just brought home, and what is left."""
    ids = {spec.run_id for spec in asked.specs}
    kept = len(ids) - len(todo) - n_spared
    brought = sum(bundle.start.spec.run_id in ids for bundle in collected)
    again = sum(spec.run_id not in ids for spec in todo)
    if not kept and not brought:
        return
    text = f"the sweep {asked.sweep_id} goes on: {kept} of {counted(len(ids), 'run')} kept"
    text += f", {counted(brought, 'run')} collected just now" if brought else ""
    text += f", {n_spared} not needed any more" if n_spared else ""
    text += f", {len(todo)} left" if todo else ", nothing is left to run"
    text += f", {again} of them anew, which had been stopped or lost" if again else ""
    observe(Note(text))


def _bundles(store: Store, sweep: Sweep) -> list[RunBundle]:
    """Return what the sweep came to; an aborted run that was made anew stays in the store, but counts no more."""
    wanted = {spec.run_id for spec in sweep.specs}
    return [b for b in store.bundles(Selection(sweep=sweep.sweep_id)) if b.start.spec.run_id in wanted]
