"""A plan to the runs it asks for, in an order in which heat and drift favour no cell."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from melt import codec
from melt.plan.model import Plan
from melt.records import Conditions, RunSpec, Settings, Workload


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

    @property
    def key(self) -> str:
        """A short hash of the content, the same on every machine."""
        content = codec.to_dict(self)
        # What is not asked for is left out: a cell keeps its key when melt learns new conditions.
        asked = {name: value for name, value in content.pop("conditions").items() if value is not None}
        if asked:
            content["conditions"] = asked
        return hashlib.sha256(codec.dumps(content).encode()).hexdigest()[:12]


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
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[RunSpec, ...]:
    """List the plan's runs in the order in which they are to be made.

    Order `blocks`: each session is a block that holds every cell once. Blocks come in pairs, the second the reverse of
    the first, so that over a pair every cell has the same mean position and a steady drift cancels out; each further
    pair begins at another cell. `sequential`: all sessions of a cell, then the next. With several devices each has
    this order on its own. A `seed` other than 0 shuffles the cells first.
    `note` is told when cells that the plan asks for twice are taken once.
    """
    by_device = [_cells(plan, device, note) for device in dict.fromkeys(plan.devices)]
    if seed:
        for cells in by_device:
            random.Random(seed).shuffle(cells)
    arrange = _sequential if plan.order == "sequential" else _blocks
    # One device after the other within a block: the fleet takes each device's runs in this order.
    arranged = itertools.chain.from_iterable(arrange(cells, plan.repeat.sessions) for cells in by_device)
    ordered = sorted(arranged, key=lambda item: item[0]) if plan.order == "blocks" else arranged
    return tuple(
        RunSpec(
            run_id=new_run_id(),
            sweep_id=sweep_id,
            plan=plan.name,
            block=block,
            position=position,
            repeat=plan.repeat,
            sampling=plan.sampling,
            gate=plan.gate,
            **{field.name: getattr(cell, field.name) for field in fields(Cell)},
        )
        for position, (block, cell) in enumerate(ordered)
    )


def _cells(plan: Plan, device: str, note: Callable[[str], None]) -> list[Cell]:
    artifacts = [(choice.model, quant) for choice in plan.models for quant in choice.quants]
    cells = [
        Cell(
            device=device,
            model=model,
            quant=quant,
            engine=engine,
            workload=workload,
            settings=settings,
            conditions=conditions,
        )
        for conditions, settings, (model, quant), engine, workload in itertools.product(
            plan.conditions, plan.settings, artifacts, plan.engines, plan.workloads
        )
    ]
    unique = list({cell.key: cell for cell in cells}.values())
    if len(unique) < len(cells):
        note(f"{len(cells) - len(unique)} of {len(cells)} cells on {device} are asked for twice and run once")
    return unique


def _blocks(cells: list[Cell], sessions: int) -> Iterator[tuple[int, Cell]]:
    n_pairs = (sessions + 1) // 2
    for block in range(sessions):
        start = (block // 2) * len(cells) // n_pairs
        rotated = cells[start:] + cells[:start]
        for cell in reversed(rotated) if block % 2 else rotated:
            yield block, cell


def _sequential(cells: Iterable[Cell], sessions: int) -> Iterator[tuple[int, Cell]]:
    return ((block, cell) for cell in cells for block in range(sessions))
