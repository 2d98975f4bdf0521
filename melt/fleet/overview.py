"""How far the sweeps of a store are: what was asked for, how it ended, what is lacking and why."""

from __future__ import annotations

import calendar
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from melt.errors import UsageError
from melt.fleet.sweep import MADE_ANEW, Move, Sweep, is_held, known_ids, load, read_plain
from melt.records import Outcome, RunSpec
from melt.store.listing import RunLine
from melt.store.selection import Selection
from melt.store.store import Store, SweepSummary

_ID_TIME = re.compile(r"(\d{8}-\d{6})-")
_NOT_BEGUN, _NOT_COLLECTED = "not begun", "not collected"


@dataclass(frozen=True, slots=True)
class Share:
    """A device's part of a sweep. `name` is what it calls itself, None where nothing of it was kept yet.

    `ends` counts how its runs ended: the verdict of those that were measured, the outcome of all others.
    """

    device: str
    name: str | None
    planned: int
    lacking: int
    ends: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """A sweep and how far it is. `running`: a melt is at work on it now.

    `planned` None: there is no document of what was asked for, only the runs that were kept. Runs that the sweep does
    not need any more are not counted.
    """

    sweep_id: str
    plan: str
    begun_utc_ns: int
    running: bool
    planned: int | None
    shares: tuple[Share, ...]
    moves: tuple[Move, ...] = ()

    @property
    def ends(self) -> Counter[str]:
        """How the runs ended, on all devices."""
        return sum((Counter(share.ends) for share in self.shares), Counter[str]())

    @property
    def lacking(self) -> int:
        """How many runs `melt resume` would make."""
        return sum(share.lacking for share in self.shares)

    @property
    def done(self) -> int:
        """How many runs have an end that stays."""
        return sum(share.planned - share.lacking for share in self.shares)

    @property
    def state(self) -> str:
        """`running`, `complete`, `to resume`, or `no document`."""
        if self.running:
            return "running"
        if self.planned is None:
            return "no document"
        return "to resume" if self.lacking else "complete"


@dataclass(frozen=True, slots=True)
class Lack:
    """A run that a sweep lacks. `why` is `not begun`, `not collected` (something of it lies here), or how it ended."""

    spec: RunSpec
    why: str


def overviews(store: Store, limit: int | None = None) -> tuple[list[Overview], int]:
    """Return the newest sweeps, newest first, and how many there are in all. Raises StoreError."""
    found = _find(store)
    newest = sorted(found, key=lambda one: (found[one].begun_utc_ns, one), reverse=True)[:limit]
    return [_overview(store, found[one]) for one in newest], len(found)


def overview(store: Store, sweep: str) -> tuple[Overview, list[Lack]]:
    """Return a sweep, by its id, the beginning of it or "last", and what it lacks. Raises UsageError, StoreError."""
    found = _find(store)
    if sweep == "last":
        ids = sorted(found, key=lambda one: (found[one].begun_utc_ns, one))[-1:]
    else:
        ids = [sweep] if sweep in found else sorted(one for one in found if one.startswith(sweep))
    if len(ids) != 1:
        several = f"{sweep!r} is the beginning of {len(ids)} sweeps: {', '.join(ids)}"
        raise UsageError(several if ids else f"the store {store.root} has no sweep {sweep!r}; `melt sweeps` lists them")
    one = found[ids[0]]
    ends = {line.run_id: line.outcome for line in store.listing(Selection(sweep=one.sweep_id))}
    asked = load(store.root, one.sweep_id) if one.has_document else Sweep(one.sweep_id, ())
    spared = set(asked.spared)
    needed = (spec for spec in asked.specs if spec.run_id not in spared)
    lacking = [spec for spec in needed if ends.get(spec.run_id, Outcome.ABORTED) in MADE_ANEW]
    return _overview(store, one), [Lack(spec, _why(spec.run_id, ends, store)) for spec in lacking]


@dataclass(frozen=True, slots=True)
class _Found:
    """A sweep before it is looked into."""

    sweep_id: str
    begun_utc_ns: int
    plan: str
    has_document: bool


def _find(store: Store) -> dict[str, _Found]:
    published: dict[str, SweepSummary] = {one.sweep_id: one for one in store.sweeps()}
    documents = set(known_ids(store.root))
    found = {}
    for sweep_id in documents | set(published):
        kept = published.get(sweep_id)
        begun_utc_ns = _named_utc_ns(sweep_id) or (kept.started_utc_ns if kept else 0)
        found[sweep_id] = _Found(sweep_id, begun_utc_ns, kept.plan if kept else "", sweep_id in documents)
    return found


def _named_utc_ns(sweep_id: str) -> int | None:
    """Return the time that an id tells."""
    match = _ID_TIME.match(sweep_id)
    try:
        return calendar.timegm(time.strptime(match[1], "%Y%m%d-%H%M%S")) * 10**9 if match else None
    except ValueError:
        return None


def _overview(store: Store, found: _Found) -> Overview:
    lines = {line.run_id: line for line in store.listing(Selection(sweep=found.sweep_id))}
    if not found.has_document:
        shares = _shares({line.run_id: line.device for line in lines.values()}, lines)
        return Overview(found.sweep_id, found.plan, found.begun_utc_ns, False, None, shares)
    document = read_plain(store.root, found.sweep_id)
    spared = set(document.get("spared", []))
    specs = [spec for spec in document.get("specs", []) if spec["run_id"] not in spared]
    moves = tuple(Move(**{**move, "run_ids": tuple(move["run_ids"])}) for move in document.get("moves", []))
    return Overview(
        sweep_id=found.sweep_id,
        plan=found.plan or next((spec["plan"] for spec in specs), ""),
        begun_utc_ns=found.begun_utc_ns,
        running=is_held(store.root, found.sweep_id),
        planned=len(specs),
        shares=_shares({spec["run_id"]: spec["device"] for spec in specs}, lines),
        moves=moves,
    )


def _shares(planned: Mapping[str, str], lines: Mapping[str, RunLine]) -> tuple[Share, ...]:
    """Count by device. What was kept but is not planned any more, since it was made anew, counts nowhere."""
    shares = []
    for device in dict.fromkeys(planned.values()):
        own = [lines.get(run_id) for run_id, where in planned.items() if where == device]
        kept = [line for line in own if line is not None and line.outcome not in MADE_ANEW]
        ends = Counter(line.verdict if line.outcome == Outcome.OK else line.outcome for line in kept)
        name = next((line.device for line in reversed(own) if line is not None), None)
        shares.append(Share(device, name, len(own), len(own) - len(kept), ends))
    return tuple(shares)


def _why(run_id: str, ends: Mapping[str, str], store: Store) -> str:
    if run_id in ends:
        return ends[run_id]
    return _NOT_COLLECTED if (store.layout.spool / run_id).exists() else _NOT_BEGUN
