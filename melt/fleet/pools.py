"""Devices by their model: found among what is connected, dealt the cells, and standing in for one that fails."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from melt.errors import UsageError
from melt.events import RunsMoved
from melt.fleet.inventory import Entry, Inventory, take_inventory
from melt.fleet.sweep import Move, Sweep
from melt.plan.devices import ByModel, by_model
from melt.plan.expand import cell_of
from melt.plan.ids import new_id
from melt.records import RunSpec

_HERE = "local"


@dataclass(frozen=True, slots=True)
class Pool:
    """What a plan asked for and the equal devices that are there: the first `count` begin, the others stand in."""

    asked: str
    devices: tuple[str, ...]
    count: int


def assign(
    devices: Sequence[str], specs: Sequence[RunSpec], say: Callable[[str], None]
) -> tuple[tuple[RunSpec, ...], tuple[tuple[str, ...], ...]]:
    """Put devices that are connected in the place of models; return the runs, and which devices are equal.

    Looks for devices only where a model is asked for. Raises UsageError where none of a model is there.
    """
    if not any(map(by_model, devices)):
        return tuple(specs), ()
    pools = find_pools(devices, take_inventory(), say)
    return tuple(deal(specs, pools)), tuple(pool.devices for pool in pools)


def find_pools(devices: Iterable[str], inventory: Inventory, say: Callable[[str], None]) -> list[Pool]:
    """Find the devices that a plan asks for by their model. A device that the plan also names is in no pool.

    `say` is told where there are fewer than were asked for. Raises UsageError where there is none.
    """
    named = tuple(devices)
    taken = {entry.facts.device_id for entry in inventory.entries if entry.facts and entry.selector in named}
    pools = []
    for asked in named:
        wanted = by_model(asked)
        if wanted is None:
            continue
        found: dict[str, Entry] = {}
        for entry in inventory.entries:
            if entry.facts and entry.selector != _HERE and entry.usable and _is_a(entry, wanted.model):
                found.setdefault(entry.facts.device_id, entry)
        free = [entry for device_id, entry in found.items() if device_id not in taken]
        if not free:
            raise UsageError(_none_there(wanted, inventory))
        if len(free) < wanted.count:
            say(
                f"{wanted.count} devices of the model {wanted.model} are asked for, "
                f"{len(free)} {'is' if len(free) == 1 else 'are'} free: {_listed(free)}"
            )
        count = min(wanted.count, len(free))
        # All are in one pool alone, also those that only stand in.
        taken |= {entry.facts.device_id for entry in free if entry.facts}
        pools.append(Pool(asked, tuple(entry.selector for entry in free), count))
        _say_how_they_differ(free, say)
    return pools


def deal(specs: Sequence[RunSpec], pools: Sequence[Pool], new_run_id: Callable[[], str] = new_id) -> list[RunSpec]:
    """Give each cell of a pool, with all its sessions, to one of its devices, in turn; each runs the reference cell."""
    members = {pool.asked: pool.devices[: pool.count] for pool in pools}
    cells = {asked: list(dict.fromkeys(cell_of(s) for s in _as_written(specs, asked))) for asked in members}
    dealt: list[RunSpec] = []
    for spec in specs:
        if spec.device not in members:
            dealt.append(spec)
            continue
        devices = members[spec.device]
        if spec.reference:
            ids = (spec.run_id, *(new_run_id() for _ in devices[1:]))
            dealt += [replace(spec, device=one, run_id=run_id) for one, run_id in zip(devices, ids, strict=True)]
        else:
            turn = cells[spec.device].index(cell_of(spec))
            dealt.append(replace(spec, device=devices[turn % len(devices)]))
    return [replace(spec, position=position) for position, spec in enumerate(dealt)]


class Roster:
    """Which device does which runs of a sweep, also after one of them failed. Threads may ask it."""

    def __init__(self, sweep: Sweep, *, keep: Callable[[Sweep], None], was_begun: Callable[[str], bool]) -> None:
        """`keep` makes every change of the sweep durable; `was_begun` tells of a run whether something of it lies here.

        A run that was begun stays with the device that has it; what is done elsewhere is another run.
        """
        self.sweep = sweep
        self._keep = keep
        self._was_begun = was_begun
        self._failed: set[str] = set()
        self._lock = Lock()

    def move(self, device: str, left: Sequence[RunSpec], why: str, lost: Sequence[RunSpec] = ()) -> RunsMoved | None:
        """Give what is left of a failed device's runs, and what it `lost`, to an equal one; None where there is none.

        A cell moves whole: its sessions compare only on one device, so those that are done are done again there.
        """
        with self._lock:
            self._failed.add(device)
            pool = next((pool for pool in self.sweep.pools if device in pool), ())
            busy = Counter(spec.device for spec in self.sweep.specs)
            # One that stands in has nothing to do yet.
            other = min((one for one in pool if one not in self._failed), key=lambda one: busy[one], default=None)
            if other is None:
                self._add(Move(device=device, to=None, why=why, run_ids=tuple(s.run_id for s in (*left, *lost))))
                return None
            waiting = {spec.run_id for spec in left}
            # By their ids: what was lost had been begun, with the threads that were chosen for the device.
            gone = waiting | {spec.run_id for spec in lost}
            cells = {cell_of(spec) for spec in self.sweep.specs if spec.run_id in gone}
            moved: list[RunSpec] = []
            instead_of: list[str] = []
            specs: list[RunSpec] = []
            for spec in self.sweep.specs:
                if spec.device == device and cell_of(spec) in cells:
                    instead_of.append(spec.run_id)
                    fresh = spec.run_id in waiting and not self._was_begun(spec.run_id)
                    spec = replace(spec, device=other, run_id=spec.run_id if fresh else new_id())
                    moved.append(spec)
                specs.append(spec)
            self.sweep = replace(self.sweep, specs=tuple(specs))
            self._add(Move(device=device, to=other, why=why, run_ids=tuple(spec.run_id for spec in moved)))
            return RunsMoved(device, other, tuple(moved), tuple(instead_of))

    def _add(self, move: Move) -> None:
        """Keep a move; it replaces what was said of a device that nobody stood in for until now."""
        earlier = (one for one in self.sweep.moves if (one.device, one.to) != (move.device, None))
        self.sweep = replace(self.sweep, moves=(*earlier, move))
        self._keep(self.sweep)


def _as_written(specs: Sequence[RunSpec], asked: str) -> list[RunSpec]:
    """Return the runs of a pool in the order of the plan's cells, whatever the order in which they are made."""
    own = (spec for spec in specs if spec.device == asked)
    return sorted(own, key=lambda spec: spec.position if spec.cell is None else spec.cell)


def _is_a(entry: Entry, model: str) -> bool:
    """Whether a device is of a model: `pixel-8` finds the profile google-pixel-8 and what calls itself Pixel 8."""
    wanted = _plain(model)
    names = [entry.facts.name if entry.facts else ""]
    names += [entry.profile.name, entry.profile.title] if entry.profile else []
    return any(f"-{_plain(name)}".endswith(f"-{wanted}") for name in names)


def _plain(name: str) -> str:
    return "-".join(re.findall(r"\w+", name.casefold().replace("_", "-")))


def _none_there(wanted: ByModel, inventory: Inventory) -> str:
    there = [entry for entry in inventory.entries if entry.usable and entry.selector != _HERE]
    silent = ", ".join(f"{entry.selector} ({entry.state})" for entry in inventory.entries if not entry.usable)
    connected = f"connected are {_listed(there)}" if there else "none is connected"
    return f"no device of the model {wanted.model!r} is free: {connected}" + (silent and f"; not usable: {silent}")


def _listed(entries: Sequence[Entry]) -> str:
    return ", ".join(f"{entry.selector} ({entry.facts.name if entry.facts else entry.state})" for entry in entries)


def _say_how_they_differ(entries: Sequence[Entry], say: Callable[[str], None]) -> None:
    """Equal by name need not be equal: another build or more memory shows in the numbers."""
    for what in ("os_build", "soc", "memory_total_bytes"):
        values = {getattr(entry.facts, what) for entry in entries}
        if len(values) > 1:
            named = ", ".join(f"{entry.selector} {getattr(entry.facts, what)}" for entry in entries)
            say(f"devices that the plan takes for equal differ in {what}: {named}")
