"""Two selections of runs, cell by cell: what is in both is judged, what is unlike is refused, the rest is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from melt.analysis import alike
from melt.analysis.ab import THRESHOLDS, Change, Difference, judge_ab, overall
from melt.analysis.alike import IncomparableError
from melt.analysis.columns import RECKONED, info
from melt.analysis.compare import DEFAULT
from melt.analysis.order_effect import order_effects, order_notes
from melt.analysis.remarks import doubts, judged_by, without
from melt.analysis.samples import NOTHING, Measured, measured_by
from melt.analysis.sessions import by_session, closeness, is_believed, outcome_of
from melt.errors import UsageError
from melt.records import Outcome, RunStart
from melt.traces import RunBundle

ALLOWABLE = tuple(name for name in dict.fromkeys((*alike.FIELDS, *alike.ASKED)) if name != "provenance")
"""What may be allowed to differ although nobody compares by it: anything but who measured."""

_NO_ANSWER = frozenset({Outcome.DEVICE_LOST, Outcome.ABORTED, Outcome.SKIPPED})
"""Ends of runs that tell nothing of what was run."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `outcomes` counts sessions; `start` is that of the first run."""

    label: str
    start: RunStart
    run_ids: tuple[str, ...]
    outcomes: Mapping[Outcome, int]
    sessions: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What A and B have both: one thing that was measured twice. `why` tells a verdict that no figure has told.

    `change` is the verdict over its metrics. `sessions` of a side are those with figures.
    """

    label: str
    a: Side
    b: Side
    change: Change
    why: str | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class AB:
    """B set against A. `labels` are the names of both, `notes` sentences that a reader must know."""

    labels: tuple[str, str]
    cells: tuple[Cell, ...]
    change: Change
    notes: tuple[str, ...]


def compare_ab(
    a: Sequence[RunBundle],
    b: Sequence[RunBundle],
    *,
    labels: tuple[str, str] = ("A", "B"),
    free: Collection[str] = (),
    allowed: Collection[str] = (),
    thresholds: Mapping[str, float] = THRESHOLDS,
    metrics: Sequence[str] = DEFAULT,
) -> AB:
    """Judge the runs of `b` against those of `a`, in each cell that both have.

    `free` names what the comparison is of (`alike.BY`), `allowed` what else may differ (`ALLOWABLE`).
    Raises UsageError for an unknown name or a side without runs, IncomparableError where something differs that must
    agree, or the sides have no cell in common.
    """
    check_allowed(allowed)
    sides = [[run for run in runs if not run.start.spec.reference] or list(runs) for runs in (a, b)]
    for runs, label in zip(sides, labels, strict=True):
        if not runs:
            raise UsageError(f"no run matches {label}: `melt runs` lists what there is")
    may_differ = frozenset((*free, *allowed))
    cells_a, cells_b = (_by_cell(runs, may_differ) for runs in sides)
    common = [key for key in cells_a if key in cells_b]
    if not common:
        raise IncomparableError(_nothing_in_common(cells_a, cells_b, labels, may_differ))
    cell_labels = alike.group_labels([cells_a[key][0].start for key in common], may_differ)
    told: dict[str, None] = {}
    cells = []
    for key, label in zip(common, cell_labels, strict=True):
        told |= dict.fromkeys(_check((cells_a[key], cells_b[key]), free, frozenset(allowed)))
        cells.append(_cell(label, (cells_a[key], cells_b[key]), labels, thresholds, metrics))
    everything = [*sides[0], *sides[1]]
    effects = order_effects([*a, *b])
    of_a = {bundle.start.spec.run_id for bundle in sides[0]}
    said = closeness(everything)
    return AB(
        labels=labels,
        cells=tuple(cells),
        change=overall(cell.change for cell in cells),
        notes=(
            *told,
            *_only_one_side(cells_a, cells_b, labels, may_differ),
            *order_notes([*a, *b], effects),
            *(() if said is None else (said,)),
            *judged_by(everything),
            *doubts(without(effects, everything), lambda run: labels[run.start.spec.run_id not in of_a]),
        ),
    )


def check_allowed(names: Iterable[str]) -> None:
    """Raise UsageError for a name that is none of `ALLOWABLE`."""
    for name in names:
        if name not in ALLOWABLE:
            raise UsageError(f"--allow-differing: {name!r} is no field that must agree: choose {', '.join(ALLOWABLE)}")


def _by_cell(bundles: Iterable[RunBundle], may_differ: Collection[str]) -> dict[Hashable, list[RunBundle]]:
    found: dict[Hashable, list[RunBundle]] = {}
    for bundle in sorted(bundles, key=lambda b: (b.start.started_utc_ns, b.start.spec.position)):
        found.setdefault(alike.group_key(bundle.start, may_differ), []).append(bundle)
    return found


def _check(sides: Sequence[Sequence[RunBundle]], free: Collection[str], allowed: frozenset[str]) -> list[str]:
    """Return a sentence for each allowed difference that there is. Raises IncomparableError for others."""
    may_differ = (*free, *allowed.intersection(alike.ASKED))
    for runs in sides:
        for name in may_differ:
            _agrees_within(name, runs)
    notes, refused = [], {}
    for field, (one, first), (other, second) in alike.unlike(sides, may_differ):
        values = alike.short(one), alike.short(other)
        if field in allowed:
            notes.append(f"Allowed to differ: the {alike.FIELDS[field]}, {' and '.join(values)}.")
        else:
            ids = (first.start.spec.run_id, second.start.spec.run_id)
            places = (f"{value} in run {run}" for value, run in zip(values, ids, strict=True))
            refused[field] = f"the {alike.FIELDS[field]} is {' and '.join(places)}"
    if refused:
        flags = " ".join(f"--allow-differing {field}" for field in refused)
        way_out = f", or say {flags}" if set(refused).issubset(ALLOWABLE) else ""
        raise IncomparableError(
            f"these runs cannot be compared: {'; '.join(refused.values())}; narrow them down{way_out}"
        )
    return notes


def _agrees_within(name: str, runs: Sequence[RunBundle]) -> None:
    """Raise IncomparableError where one side mixes what the sides are to be compared by."""
    if name not in alike.ASKED:
        return
    found = {alike.asked(run.start, ())[name]: run for run in runs}
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise IncomparableError(
            f"these runs cannot be compared: one side has two kinds of {name}, {alike.asked_label(first.start, name)} "
            f"in run {first.start.spec.run_id} and {alike.asked_label(second.start, name)} in run "
            f"{second.start.spec.run_id}; narrow them down, with --{name} or a selection for example"
        )


def _cell(
    label: str,
    sides: tuple[Sequence[RunBundle], Sequence[RunBundle]],
    labels: tuple[str, str],
    thresholds: Mapping[str, float],
    metrics: Sequence[str],
) -> Cell:
    a, b = (_side(runs, name) for runs, name in zip(sides, labels, strict=True))
    names = tuple(dict.fromkeys((*metrics, *thresholds)))
    found = [measured_by(runs, names) for runs in sides]
    pairs = {name: (found[0].get(name, NOTHING), found[1].get(name, NOTHING)) for name in names}
    pairs = {name: pair for name, pair in pairs.items() if any(one.sample.n for one in pair)}
    samples = {name: (one.sample, other.sample) for name, (one, other) in pairs.items()}
    differences = judge_ab(samples, thresholds, _unlike_meters(pairs))
    lost = _lost(a, b)
    if lost is not None:
        return Cell(label, a, b, *lost, differences)
    judged = [d.change for d in differences if d.change is not None and d.metric in thresholds]
    return Cell(label, a, b, overall(judged), None if judged else "nothing that is judged was measured", differences)


def _side(runs: Sequence[RunBundle], label: str) -> Side:
    sessions = by_session(runs)
    return Side(
        label=label,
        start=runs[0].start,
        run_ids=tuple(run.start.spec.run_id for run in runs),
        outcomes=Counter(outcome_of(own) for own in sessions),
        sessions=sum(any(map(is_believed, own)) for own in sessions),
    )


def _lost(a: Side, b: Side) -> tuple[Change, str] | None:
    """Judge a cell of which one side has no figures at all."""
    if a.sessions and b.sessions:
        return None
    side = b if a.sessions else a
    ends = ", ".join(outcome if outcome is not Outcome.OK else "invalid" for outcome in side.outcomes)
    why = f"no session of {side.label} has figures: {ends}"
    if not a.sessions or _NO_ANSWER.issuperset(set(b.outcomes)) or Outcome.OK in b.outcomes:
        return Change.INCONCLUSIVE, why
    return Change.REGRESSED, why


def _unlike_meters(pairs: Mapping[str, tuple[Measured, Measured]]) -> dict[str, str]:
    """Return the metrics whose meters do not cover the same on both sides, and what they cover."""
    told: dict[str, str] = {}
    for metric, (a, b) in pairs.items():
        if a.scopes and b.scopes and len(a.scopes | b.scopes) > 1:
            listed = " and ".join(", ".join(sorted(one.scopes)) for one in (a, b))
            told[metric] = f"{RECKONED.get(info(metric).unit, 'Power was measured over different scopes')}: {listed}"
    return told


def _nothing_in_common(
    a: Mapping[Hashable, Sequence[RunBundle]],
    b: Mapping[Hashable, Sequence[RunBundle]],
    labels: tuple[str, str],
    may_differ: Collection[str],
) -> str:
    both = f"{labels[0]} and {labels[1]} have nothing in common that could be compared"
    starts = [[runs[0].start for runs in cells.values()] for cells in (a, b)]
    for name in alike.ASKED:
        if name in may_differ:
            continue
        values = [{alike.asked(start, may_differ)[name]: start for start in side} for side in starts]
        if not set(values[0]) & set(values[1]):
            first, second = (next(iter(side.values())) for side in values)
            one, other = (alike.asked_label(start, name) for start in (first, second))
            if name == "device" and one == other:
                one, other = (f"{start.device.name} ({start.device.device_id})" for start in (first, second))
            return (
                f"{both}: the {name} is {one!r} in {labels[0]} and {other!r} in {labels[1]}; "
                f"--allow-differing {name} sets them side by side all the same"
            )
    return f"{both}: no cell of a plan is in both"


def _only_one_side(
    a: Mapping[Hashable, Sequence[RunBundle]],
    b: Mapping[Hashable, Sequence[RunBundle]],
    labels: tuple[str, str],
    may_differ: Collection[str],
) -> list[str]:
    told = []
    for own, other, label in ((a, b, labels[0]), (b, a, labels[1])):
        alone = [runs[0].start for key, runs in own.items() if key not in other]
        if alone:
            told.append(f"Only in {label}: {'; '.join(alike.group_labels(alone, may_differ))}.")
    return told
