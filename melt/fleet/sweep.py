"""A sweep as a document beside the store: what was asked for, so that what is missing can be run later."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from melt.codec import from_dict, to_dict
from melt.errors import StoreError, UsageError
from melt.plan.ids import new_id
from melt.records import Outcome, RunSpec
from melt.store.files import replace_durably, store_error
from melt.store.selection import Selection
from melt.store.store import Store

_FOLDER = "sweeps"

_LOOKED_AT_S = 0.5
"""Who only asks whether a sweep is held has its lock for an instant."""

MADE_ANEW = frozenset((Outcome.ABORTED, Outcome.DEVICE_LOST))
"""Ends that tell nothing of a cell: what ended so is lacking, and `melt resume` makes it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Runs that another device does than was meant, since that one failed; `run_ids` are what they are called now.

    `to` None: no equal device was there, they are left for `melt resume`.
    """

    device: str
    to: str | None
    why: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs of one `melt run`, in order. The devices of each of `pools` may stand in for each other.

    `spared` are the ids of runs that need not be made, since their cell is known well enough without them.
    """

    sweep_id: str
    specs: tuple[RunSpec, ...]
    pools: tuple[tuple[str, ...], ...] = ()
    moves: tuple[Move, ...] = ()
    spared: tuple[str, ...] = ()


def save(root: Path, sweep: Sweep) -> None:
    """Keep a sweep, whole or not at all. Raises StoreError."""
    path = _path(root, sweep.sweep_id)
    text = json.dumps(to_dict(sweep), indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, text.encode())
    except OSError as error:
        raise store_error("write", path, error) from error


def load(root: Path, sweep_id: str | None) -> Sweep:
    """Return a sweep by its id or the beginning of it, the newest for "last" or None. Raises UsageError, StoreError."""
    known = known_ids(root)
    named = None if sweep_id == "last" else sweep_id
    found = [name for name in known if name.startswith(named)] if named else known[-1:]
    if not found:
        unknown = f"no sweep {named!r} in {root}; `melt sweeps` lists them"
        raise UsageError(unknown if named else f"{root} has no sweep to resume")
    if len(found) > 1:
        raise UsageError(f"{sweep_id!r} is the beginning of {len(found)} sweeps: {', '.join(found)}")
    try:
        return from_dict(Sweep, read_plain(root, found[0]))
    except StoreError as error:
        raise StoreError(f"{_path(root, found[0])}: not a sweep document: {error}") from error


def as_kept(root: Path, sweep: Sweep) -> Sweep:
    """Return a sweep as its document has it by now, itself where it has none yet. Raises StoreError."""
    return load(root, sweep.sweep_id) if _path(root, sweep.sweep_id).exists() else sweep


def known_ids(root: Path) -> list[str]:
    """Return the ids of the sweeps that have a document, oldest first."""
    return sorted(path.stem for path in (root / _FOLDER).glob("*.json"))


def read_plain(root: Path, sweep_id: str) -> dict[str, Any]:
    """Return a sweep's document as plain JSON, unchecked: ten times as fast as `load`. Raises StoreError."""
    path = _path(root, sweep_id)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: not a sweep document: {error}") from error


@contextmanager
def held(root: Path, sweep_id: str) -> Iterator[None]:
    """Hold a sweep for this process; the lock goes away with the process. Raises UsageError where another has it."""
    path = _path(root, sweep_id).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_error("make", path, error) from error
    try:
        deadline_s = time.monotonic() + _LOOKED_AT_S
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline_s:
                raise UsageError(f"another melt is at work on the sweep {sweep_id}: wait for it, or stop it")
            time.sleep(_LOOKED_AT_S / 20)  # a file lock cannot be waited for with a deadline
        yield
    finally:
        os.close(lock)


def is_held(root: Path, sweep_id: str) -> bool:
    """Say whether a melt is at work on a sweep."""
    try:
        lock = os.open(_path(root, sweep_id).with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: two who look do not take each other for one who works.
        return not _locked(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(root: Path, sweep_id: str) -> Path:
    return root / _FOLDER / f"{sweep_id}.json"


def missing(sweep: Sweep, store: Store) -> tuple[Sweep, tuple[RunSpec, ...]]:
    """Say which runs a sweep still lacks. An aborted or lost run is asked for anew, under a new id."""
    outcomes = {line.run_id: line.outcome for line in store.listing(Selection(sweep=sweep.sweep_id))}
    specs, todo = [], []
    for spec in sweep.specs:
        outcome = outcomes.get(spec.run_id)
        if outcome in MADE_ANEW:
            spec = replace(spec, run_id=new_id())
        specs.append(spec)
        if spec.run_id not in outcomes:
            todo.append(spec)
    return replace(sweep, specs=tuple(specs)), tuple(todo)
