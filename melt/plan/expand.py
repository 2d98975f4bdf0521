"""A plan to the runs it asks for, in an order in which heat and drift favour no cell."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from melt import codec
from melt.errors import UsageError
from melt.plan.fitting import ANYTHING, Fitting, own_settings
from melt.plan.ids import new_seed as draw_seed
from melt.plan.model import Plan, Reference
from melt.plan.workloads import DEFAULT
from melt.records import Conditions, RunSpec, Settings, Workload

_LEARNT: Mapping[str, Mapping[str, object]] = {
    "workload": {"n_infer": 0, "dims": {}, "inputs": None},
    "settings": {
        "providers": [],
        "graph_optimization": "all",
        "arena": True,
        "io_binding": False,
        "inter_op_threads": None,
    },
}
"""What cells of llama.cpp alone had no fields for, and the values that ask for nothing."""

PROFILED = "profile-"
"""How the key of a cell under the profiler begins; then comes the key of the same cell without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What must be the same for two runs to be repetitions of each other. The fields are those of `RunSpec`."""

    device: str
    model: str
    quant: str | None
    engine: str
    workload: Workload
    settings: Settings
    conditions: Conditions
    profile: bool = False

    @property
    def key(self) -> str:
        """A short hash of the content, the same on every machine."""
        content = codec.to_dict(self)
        # What is not asked for is left out: a cell keeps its key when melt learns to ask for more.
        asked = {name: value for name, value in content.pop("conditions").items() if value is not None}
        if asked:
            content["conditions"] = asked
        for part, learnt in _LEARNT.items():
            content[part] = {key: value for key, value in content[part].items() if learnt.get(key, ...) != value}
        if self.workload.inputs is not None:
            content["workload"]["inputs"] = self.workload.inputs.sha256
        begin = PROFILED if content.pop("profile") else ""
        return begin + hashlib.sha256(codec.dumps(content).encode()).hexdigest()[:12]


def cell_of(spec: RunSpec) -> Cell:
    """Return the cell that a run belongs to."""
    return Cell(**{field.name: getattr(spec, field.name) for field in fields(Cell)})


def cell_key(spec: RunSpec) -> str:
    """Return the short hash of the run's cell: equal for runs that repeat each other, in this sweep or another."""
    return cell_of(spec).key


def expand(
    plan: Plan,
    *,
    sweep_id: str,
    new_run_id: Callable[[], str],
    new_seed: Callable[[], int] = draw_seed,
    fitting: Fitting = ANYTHING,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[RunSpec, ...]:
    """List the plan's runs in the order in which they are to be made.

    `random`: each session is a block that holds every cell once, in a random order of its own (randomised complete
    blocks). The plan's seed, or one of `new_seed`, gives the same order each time; more sessions add blocks and change
    none. `interleaved`: blocks come in pairs, the second the reverse of the first, so that over a pair every cell has
    the same mean position; each further pair begins at another cell. `sequential`: all sessions of a cell, then the
    next. With several devices each has an order of its own.
    Where the plan has a reference, that cell is also run before the first, in the middle and after the last run of each
    device, marked as `reference`. A plan under the profiler has neither: one session, for it does not tell how fast a
    cell is.
    `fitting` says which engines and workloads are for which model; those that are for another model are left out.
    `note` is told when cells that the plan asks for twice are taken once.
    Raises UsageError where nothing of the plan is for one of its models, or no model for one of its workloads.
    """
    artifacts = _fitting_artifacts(plan, fitting)
    by_device = {device: _cells(plan, device, artifacts, note) for device in dict.fromkeys(plan.devices)}
    if plan.profile:
        plan = replace(plan, repeat=replace(plan.repeat, sessions=1, until_ci=None, min_sessions=None), reference=None)
    place = {cell: i for i, cell in enumerate(itertools.chain.from_iterable(by_device.values()))}
    seed = plan.order_seed
    if plan.order == "random" and seed is None:
        seed = new_seed()
    arranged: list[_Entry] = []
    for device, cells in by_device.items():
        entries = list(_ARRANGE[plan.order](cells, plan.repeat.sessions, random.Random(f"{seed} {device}")))
        arranged += _with_reference(plan.reference, cells, entries)
    # One device after the other within a block: the fleet takes each device's runs in this order.
    ordered = arranged if plan.order == "sequential" else sorted(arranged, key=lambda entry: entry.block)
    return tuple(
        RunSpec(
            run_id=new_run_id(),
            sweep_id=sweep_id,
            plan=plan.name,
            block=entry.block,
            position=position,
            repeat=plan.repeat,
            sampling=plan.sampling,
            gate=plan.gate,
            thresholds=plan.thresholds,
            cell=place[entry.cell],
            order=plan.order,
            order_seed=seed,
            grid=plan.grid,
            reference=entry.reference,
            **{field.name: getattr(entry.cell, field.name) for field in fields(Cell)},
        )
        for position, entry in enumerate(ordered)
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A run to be made: its block and its cell."""

    block: int
    cell: Cell
    reference: bool = False


@dataclass(frozen=True, slots=True)
class _Artifact:
    """A model's file with the engines and workloads of the plan that are for it."""

    model: str
    quant: str | None
    engines: tuple[str, ...]
    workloads: tuple[Workload, ...]


def _fitting_artifacts(plan: Plan, fitting: Fitting) -> list[_Artifact]:
    found = [
        _Artifact(
            choice.model,
            quant,
            fitting.engines(choice.model, plan.engines),
            fitting.workloads(choice.model, plan.workloads),
        )
        for choice in plan.models
        for quant in choice.quants
    ]
    for workload in () if plan.workloads == DEFAULT else plan.workloads:
        if found and not any(workload in artifact.workloads for artifact in found):
            names = ", ".join(dict.fromkeys(artifact.model for artifact in found))
            kind = "single-shot (ONNX)" if workload.kind == "inference" else "one that generates tokens"
            raise UsageError(f"workload '{workload.name}': no model of the plan is {kind}: {names}")
    return found


def _cells(plan: Plan, device: str, artifacts: Sequence[_Artifact], note: Callable[[str], None]) -> list[Cell]:
    cells = [
        Cell(
            device=device,
            model=artifact.model,
            quant=artifact.quant,
            engine=engine,
            workload=workload,
            settings=own_settings(engine, workload, settings),
            conditions=conditions,
            profile=plan.profile,
        )
        for conditions, settings, artifact in itertools.product(plan.conditions_of(device), plan.settings, artifacts)
        for engine, workload in itertools.product(artifact.engines, artifact.workloads)
    ]
    unique = list({cell.key: cell for cell in cells}.values())
    if len(unique) < len(cells):
        note(f"{len(cells) - len(unique)} of {len(cells)} cells on {device} are asked for twice and run once")
    return unique


def _with_reference(wanted: Reference | None, cells: Sequence[Cell], entries: list[_Entry]) -> list[_Entry]:
    """Put the reference cell's runs among those of a device; each belongs to the block that it stands in or before."""
    if wanted is None:
        return entries
    cell = next((cell for cell in cells if wanted.fits(cell.model, cell.quant, cell.workload)), None)
    if cell is None:
        raise UsageError("the reference: its workload is not one for its model")
    last = len(entries)
    # From the end, so that the places before stay; a single run has no middle.
    for place in sorted({0, last // 2, last}, reverse=True):
        block = entries[min(place, last - 1)].block
        entries.insert(place, _Entry(block, cell, reference=True))
    return entries


def _random(cells: Sequence[Cell], sessions: int, draws: random.Random) -> Iterator[_Entry]:
    for block in range(sessions):
        # Sorted by random(): of all that `random` offers, Python promises the same numbers for a seed only there.
        for cell in sorted(cells, key=lambda _: draws.random()):
            yield _Entry(block, cell)


def _interleaved(cells: Sequence[Cell], sessions: int, _draws: random.Random) -> Iterator[_Entry]:
    n_pairs = (sessions + 1) // 2
    for block in range(sessions):
        start = (block // 2) * len(cells) // n_pairs
        rotated = [*cells[start:], *cells[:start]]
        for cell in reversed(rotated) if block % 2 else rotated:
            yield _Entry(block, cell)


def _sequential(cells: Sequence[Cell], sessions: int, _draws: random.Random) -> Iterator[_Entry]:
    return (_Entry(block, cell) for cell in cells for block in range(sessions))


_ARRANGE: Mapping[str, Callable[[Sequence[Cell], int, random.Random], Iterator[_Entry]]] = {
    "random": _random,
    "interleaved": _interleaved,
    "sequential": _sequential,
}
"""How each of `model.ORDERS` arranges the runs of one device; what is random comes from the third argument alone."""
