"""What must be known to read the figures of a page: conditions, doubts, failures. Each told once, and of which runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from melt.records import Gate, Outcome
from melt.report.page.runs import evidence, how_it_ended, state_of
from melt.report.run import facts
from melt.report.words import joined
from melt.traces import RunBundle
from melt.verdicts import DOUBTS

_CONDITIONS = ("device", "system", "power mode", "engine", "asked", "conditions", "judged by")
"""Of what a run says of itself: what was the same for many, and must be for figures to compare."""
_EVIDENCE_LINES = 12


@dataclass(frozen=True, slots=True)
class Conditions:
    """Facts that runs have in common, and which runs."""

    facts: tuple[tuple[str, str], ...]
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason that speaks against runs: what it means, what one of them says, and which runs."""

    code: str
    meaning: str
    example: str
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that did not end well, with what it left."""

    run: int
    label: str
    device: str
    outcome: str
    reasons: tuple[str, ...]
    ended: str
    evidence: tuple[tuple[str, str], ...]


def conditions(bundles: Sequence[RunBundle]) -> list[Conditions]:
    """Return the conditions under which runs were taken, those of most runs first. Runs are told by their place."""
    found: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, bundle in enumerate(bundles):
        found.setdefault(_conditions(bundle), []).append(index)
    kept = [Conditions(told, tuple(runs)) for told, runs in found.items()]
    return sorted(kept, key=lambda one: -len(one.runs))


def doubts(bundles: Sequence[RunBundle]) -> list[Doubt]:
    """Return what speaks against runs that ended well, what most have first."""
    runs: dict[str, list[int]] = {}
    messages: dict[str, str] = {}
    for index, bundle in enumerate(bundles):
        if bundle.stop.outcome is Outcome.OK:
            for reason in bundle.stop.reasons:
                if index not in runs.setdefault(reason.code, [])[-1:]:
                    runs[reason.code].append(index)
                messages.setdefault(reason.code, reason.message)
    ordered = sorted(runs, key=lambda code: -len(runs[code]))
    return [Doubt(code, _meaning(code), messages[code], tuple(runs[code])) for code in ordered]


def failures(bundles: Sequence[RunBundle]) -> list[Failure]:
    """Return the runs that did not end well, newest first."""
    return [
        Failure(
            run=index,
            label=bundle.start.spec.label,
            device=bundle.start.device.name,
            outcome=str(bundle.stop.outcome),
            reasons=tuple(f"{reason.code}: {reason.message}" for reason in bundle.stop.reasons),
            ended=how_it_ended(bundle.stop),
            evidence=tuple(evidence(bundle.stop, _EVIDENCE_LINES)),
        )
        for index, bundle in reversed(list(enumerate(bundles)))
        if bundle.stop.outcome is not Outcome.OK
    ]


def states(bundles: Iterable[RunBundle]) -> list[tuple[str, int]]:
    """Count runs by state: valid, suspect, invalid, then how the others ended."""
    counts = Counter(state_of(bundle.stop) for bundle in bundles)
    order = ("valid", "suspect", "invalid")
    return sorted(counts.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0]))


def _conditions(bundle: RunBundle) -> tuple[tuple[str, str], ...]:
    told = [(name, text) for name, text in facts(bundle) if name in _CONDITIONS]
    gate = _gate(bundle.start.spec.gate)
    return (*told, *([("gate", gate)] if gate else []))


def _gate(gate: Gate) -> str:
    """Write what had to hold before a run began, where that is not what melt asks by itself."""
    default = Gate()
    asked = ((f.name, getattr(gate, f.name)) for f in fields(Gate) if getattr(gate, f.name) != getattr(default, f.name))
    return joined(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in asked)


def _meaning(code: str) -> str:
    return DOUBTS[code].meaning if code in DOUBTS else ""
