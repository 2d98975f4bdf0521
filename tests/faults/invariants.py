"""What must hold of a sweep when it is done, whatever was killed, cut, filled up or switched off on its way there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from melt.fleet.settled import Settled
from melt.fleet.sweep import MADE_ANEW, Sweep, load
from melt.plan.expand import cell_of
from melt.records import Outcome, RunSpec
from melt.store.publish import JOURNAL
from melt.store.selection import Selection
from melt.store.store import Store
from melt.store.upkeep import verify
from melt.telemetry.journal import HEADER_BYTES
from melt.traces import RunBundle


@dataclass(frozen=True, slots=True)
class DeviceAtRest:
    """A device after the sweep, as it says itself. `completed` are the runs that went to their end there, by id.

    `running` are jobs that still go on, or that died and were never given their end: what they set is still set.
    """

    name: str
    knobs_before: Mapping[str, str]
    knobs_now: Mapping[str, str]
    running: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A store, read once."""

    sweep: Sweep
    bundles: Mapping[str, RunBundle]
    journals: Mapping[str, bytes] = field(default_factory=dict)


def check(
    store_root: Path,
    sweep_id: str,
    asked: Sequence[RunSpec],
    acknowledged: Mapping[str, Outcome],
    devices: Iterable[DeviceAtRest],
) -> list[str]:
    """Return a sentence for everything that does not hold; an empty list when all is well.

    `asked` are the runs as they were planned, before anything happened; `acknowledged` maps every run that a host
    process had called published, by its id, to how it said that the run ended.
    """
    devices = tuple(devices)
    with Store.open(store_root, create=False) as store:
        bundles = {b.start.spec.run_id: b for b in store.bundles(Selection(sweep=sweep_id))}
        journals = {
            run_id: store.attachment(run_id, JOURNAL)[:HEADER_BYTES]
            for run_id in bundles
            if JOURNAL in store.attachments(run_id)
        }
        seen = _Seen(load(store_root, sweep_id), bundles, journals)
        return [
            *_ended_once(seen, asked),
            *_lost(seen, acknowledged, devices),
            *_counted_twice(seen),
            *_not_restored(devices),
            *(f"store: {found.where}: {found.what}" for found in verify(store) if found.harmful),
            *(f"the spool still has {folder.name}" for folder in sorted(store.layout.spool.glob("[!.]*"))),
        ]


def _ended_once(seen: _Seen, asked: Sequence[RunSpec]) -> Iterator[str]:
    """Every cell that was asked for has one run in the sweep, and that run has one answer, with a typed reason."""
    wanted = Counter(_place(spec, seen.sweep.pools) for spec in asked)
    planned = Counter(_place(spec, seen.sweep.pools) for spec in seen.sweep.specs)
    yield from (f"{n} too few in the sweep: {place}" for place, n in (wanted - planned).items())
    yield from (f"{n} too many in the sweep: {place}" for place, n in (planned - wanted).items())
    for run_id, n in Counter(spec.run_id for spec in seen.sweep.specs).items():
        if n > 1:
            yield f"run {run_id} stands for {n} cells"
    settled = Settled.of(seen.sweep, seen.bundles.values())
    for spec in seen.sweep.specs:
        bundle = seen.bundles.get(spec.run_id)
        if (bundle is None or bundle.stop.outcome in MADE_ANEW) and settled.why_spared(spec) is not None:
            continue  # Its cell is known well enough without it.
        if bundle is None:
            yield f"run {spec.run_id} ({spec.label} on {spec.device}) has no end"
        elif bundle.stop.outcome in MADE_ANEW:
            yield f"run {spec.run_id} is {bundle.stop.outcome}, and was not asked for again"
        elif bundle.stop.outcome is not Outcome.OK and not (bundle.stop.reasons and bundle.stop.reasons[0].code):
            yield f"run {spec.run_id} is {bundle.stop.outcome} without a reason"
        elif _place(bundle.start.spec, ()) != _place(_settled(spec, bundle.start.spec), ()):
            yield f"run {spec.run_id} is in the store as another cell than in the sweep"


def _lost(seen: _Seen, acknowledged: Mapping[str, Outcome], devices: Sequence[DeviceAtRest]) -> Iterator[str]:
    """What a host said was published is there as it said so, and whatever a device measured to its end came home."""
    for run_id, outcome in acknowledged.items():
        bundle = seen.bundles.get(run_id)
        if bundle is None:
            yield f"run {run_id} was acknowledged as {outcome}, and is lost"
        elif bundle.stop.outcome is not outcome:
            yield f"run {run_id} was acknowledged as {outcome}, and is {bundle.stop.outcome} now"
    completed = {run_id for device in devices for run_id in device.completed}
    for run_id in sorted(completed - seen.bundles.keys()):
        yield f"run {run_id} was measured to its end, and is in no store"
    # A device whose runs are not known by id (no `completed` at all) is not asked.
    if completed:
        for run_id, bundle in seen.bundles.items():
            if bundle.stop.outcome is Outcome.OK and run_id not in completed:
                yield f"run {run_id} is ok, and no device measured it to its end"


def _counted_twice(seen: _Seen) -> Iterator[str]:
    """No journal makes two runs, no repetition is in a run twice, and a cell that was run again counts once."""
    owners: dict[bytes, list[str]] = {}
    for run_id, header in seen.journals.items():
        owners.setdefault(header, []).append(run_id)
    yield from (f"one journal makes the runs {', '.join(runs)}" for runs in owners.values() if len(runs) > 1)
    current = {spec.run_id for spec in seen.sweep.specs}
    given_up = {move.device for move in seen.sweep.moves}
    for run_id, bundle in seen.bundles.items():
        spec = bundle.start.spec
        windows = Counter((w.phase, w.repetition, w.depth) for w in bundle.windows if not w.warmup)
        if any(n > 1 for (_, repetition, _), n in windows.items() if repetition is not None):
            yield f"run {run_id} has a repetition twice"
        repetitions = {w.repetition for w in bundle.windows if not w.warmup and w.repetition is not None}
        if bundle.stop.outcome is Outcome.OK and len(repetitions) != spec.repeat.repetitions:
            yield f"run {run_id} has {len(repetitions)} of {spec.repeat.repetitions} repetitions"
        if run_id not in current and bundle.stop.outcome not in MADE_ANEW and spec.device not in given_up:
            yield f"run {run_id} ({bundle.stop.outcome}) was run again under another name: its cell is measured twice"


def _not_restored(devices: Iterable[DeviceAtRest]) -> Iterator[str]:
    for device in devices:
        for name, before in device.knobs_before.items():
            if device.knobs_now.get(name) != before:
                yield f"{device.name}: {name} was {before} before, and is {device.knobs_now.get(name)} now"
        yield from (f"{device.name}: {job} was never ended" for job in device.running)


def _place(spec: RunSpec, pools: Sequence[tuple[str, ...]]) -> tuple[object, ...]:
    """Say where in the plan a run stands; the devices of a pool are one."""
    device = next((" ".join(pool) for pool in pools if spec.device in pool), spec.device)
    return cell_of(replace(spec, device=device)).key, spec.label, device, spec.block, spec.reference


def _settled(spec: RunSpec, made: RunSpec) -> RunSpec:
    """Return the run as planned, with what the plan left to the session as it was chosen."""
    return replace(spec, settings=made.settings)
