"""A sweep as a document beside the store: what was asked for, so that what is missing can be run later."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from melt.codec import from_dict, to_dict
from melt.errors import StoreError, UsageError
from melt.plan.ids import new_id
from melt.records import Outcome, RunSpec
from melt.store.files import replace_durably, store_error
from melt.store.selection import Selection
from melt.store.store import Store

_FOLDER = "sweeps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Runs that another device does than was meant, since that one failed; `run_ids` are what they are called now."""

    device: str
    to: str
    why: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs of one `melt run`, in order. The devices of each of `pools` may stand in for each other."""

    sweep_id: str
    specs: tuple[RunSpec, ...]
    pools: tuple[tuple[str, ...], ...] = ()
    moves: tuple[Move, ...] = ()


def save(root: Path, sweep: Sweep) -> None:
    """Keep a sweep, whole or not at all. Raises StoreError."""
    path = root / _FOLDER / f"{sweep.sweep_id}.json"
    text = json.dumps(to_dict(sweep), indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, text.encode())
    except OSError as error:
        raise store_error("write", path, error) from error


def load(root: Path, sweep_id: str | None) -> Sweep:
    """Return a sweep by its id or the beginning of it, the newest for None. Raises UsageError."""
    known = sorted(path.stem for path in (root / _FOLDER).glob("*.json"))
    found = [name for name in known if name.startswith(sweep_id)] if sweep_id else known[-1:]
    if not found:
        raise UsageError(f"no sweep {sweep_id!r} in {root}" if sweep_id else f"{root} has no sweep to resume")
    if len(found) > 1:
        raise UsageError(f"{sweep_id!r} is the beginning of {len(found)} sweeps: {', '.join(found)}")
    path = root / _FOLDER / f"{found[0]}.json"
    try:
        return from_dict(Sweep, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, StoreError) as error:
        raise StoreError(f"{path}: not a sweep document: {error}") from error


def missing(sweep: Sweep, store: Store) -> tuple[Sweep, tuple[RunSpec, ...]]:
    """Say which runs a sweep still lacks. An aborted or lost run is asked for anew, under a new id."""
    outcomes = {b.start.spec.run_id: b.stop.outcome for b in store.bundles(Selection(sweep=sweep.sweep_id))}
    specs, todo = [], []
    for spec in sweep.specs:
        outcome = outcomes.get(spec.run_id)
        if outcome in (Outcome.ABORTED, Outcome.DEVICE_LOST):
            spec = replace(spec, run_id=new_id())
        specs.append(spec)
        if spec.run_id not in outcomes:
            todo.append(spec)
    return replace(sweep, specs=tuple(specs)), tuple(todo)
