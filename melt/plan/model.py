"""What a plan is: the things to combine, how often, in which order. `reader` and `flags` make it, `expand` uses it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from melt.errors import UsageError
from melt.records import Conditions, Gate, Grid, Repeat, Sampling, Settings, Thresholds, Workload

MAX_RUNS = 100_000
"""More runs than a lab does in a year: a plan that asks for more has a slip in it."""

ORDERS = ("random", "interleaved", "sequential")
"""`random`: blocks that hold every cell once, each in a random order of its own. `interleaved`: blocks in pairs, the
second the reverse of the first. `sequential`: all sessions of a cell, then the next cell."""

MAX_ORDER_SEED = 2**32 - 1

N_REFERENCE_RUNS = 3
"""On each device: at the start, in the middle and at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model and the quantizations to run it in. The quant None is the file as it lies there."""

    model: str
    quants: tuple[str | None, ...] = (None,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Which cell is run at the start, in the middle and at the end on every device: the first that has all of this.

    None stands for any; `workload` is a workload's name.
    """

    model: str | None = None
    quant: str | None = None
    workload: str | None = None

    def fits(self, model: str, quant: str | None, workload: Workload) -> bool:
        """Return whether a cell is one of those that are meant."""
        asked = ((self.model, model), (self.quant, quant), (self.workload, workload.name))
        return all(wanted in (None, found) for wanted, found in asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. A cell is a device x model x quant x engine x workload x settings x conditions: a run a session.

    `settings` and `conditions` hold one entry per combination that is to be tried; `gate` stands before every run,
    and each is judged by `thresholds`.
    Without `engines` the format of each model chooses.
    `conditions_on` maps a device, as it stands in `devices`, to conditions of its own in the place of the plan's.
    `order_seed` belongs to the order `random`; None: one is drawn when the plan is expanded. `grid` is what carbon is
    reckoned with. `profile`: its runs are made under the profiler.
    """

    name: str
    models: tuple[ModelChoice, ...]
    workloads: tuple[Workload, ...]
    devices: tuple[str, ...] = ("local",)
    engines: tuple[str, ...] = ()
    settings: tuple[Settings, ...] = (Settings(),)
    conditions: tuple[Conditions, ...] = (Conditions(),)
    conditions_on: Mapping[str, tuple[Conditions, ...]] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    thresholds: Thresholds = field(default_factory=Thresholds)
    repeat: Repeat = field(default_factory=Repeat)
    sampling: Sampling = field(default_factory=Sampling)
    order: str = "random"
    order_seed: int | None = None
    reference: Reference | None = None
    grid: Grid | None = None
    profile: bool = False

    @property
    def n_runs(self) -> int:
        """How many runs the plan asks for at most, before cells that are the same are taken together."""
        n_artifacts = sum(len(choice.quants) for choice in self.models)
        n_ways = len(self.workloads) * len(self.settings)
        n_conditions = sum(len(self.conditions_of(device)) for device in self.devices)
        n_references = N_REFERENCE_RUNS * len(self.devices) if self.reference else 0
        return n_artifacts * max(1, len(self.engines)) * n_ways * n_conditions * self.repeat.sessions + n_references

    @property
    def all_conditions(self) -> tuple[Conditions, ...]:
        """What any of the devices is to be in."""
        return tuple(itertools.chain.from_iterable(map(self.conditions_of, self.devices)))

    def conditions_of(self, device: str) -> tuple[Conditions, ...]:
        """Return the conditions that the runs of a device are made in."""
        return self.conditions_on.get(device, self.conditions)


def check_affinity(settings: Iterable[Settings], conditions: Iterable[Conditions]) -> None:
    """Raise UsageError when a plan chooses CPUs in two ways."""
    cluster = next((c.cluster for c in conditions if c.cluster is not None), None)
    affinity = next((s.affinity for s in settings if s.affinity is not None), None)
    if cluster is not None and affinity is not None:
        raise UsageError(
            f"both the cluster '{cluster}' and the affinity '{affinity}' choose the CPUs: leave out one of them"
        )


def check_order(order: str, order_seed: int | None) -> None:
    """Raise UsageError when a seed stands beside an order in which nothing is drawn."""
    if order_seed is not None and order != "random":
        raise UsageError(f"a seed belongs to the order 'random', and the order is '{order}': leave out one of them")


def check_reference(plan: Plan) -> None:
    """Raise UsageError when the plan has no cell that its reference could be."""
    wanted = plan.reference
    artifacts = [(choice.model, quant) for choice in plan.models for quant in choice.quants]
    if wanted is None or any(wanted.fits(*artifact, work) for artifact in artifacts for work in plan.workloads):
        return
    named = ", ".join(f"{key} '{value}'" for key in ("model", "quant", "workload") if (value := getattr(wanted, key)))
    raise UsageError(f"no cell of the plan has {named}")


def check_size(n_runs: int) -> None:
    """Raise UsageError when a plan asks for more than MAX_RUNS."""
    if n_runs > MAX_RUNS:
        raise UsageError(f"the plan asks for {n_runs} runs, melt takes {MAX_RUNS} at most: shorten its lists")
