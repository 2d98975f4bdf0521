"""Where the time of a run under the profiler went, as tables: by phase, most time first, and what it cost to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from melt.analysis.operators import KEYS, Cost, Phase, Profiler, Row
from melt.report.table import render_table
from melt.report.words import joined
from melt.traces import RunBundle
from melt.units import counted, human

_MUCH = 0.05
"""From this share on, what was disturbed may change the order of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A profile to be shown: phases by each of the ways asked for. `costs` empty: there is nothing to compare with."""

    bundle: RunBundle
    profiler: Profiler
    phases: dict[str, Sequence[Phase]]
    costs: Sequence[Cost]


def render_profile(told: Told, fmt: str, *, top: int | None = None) -> str:
    """Write a profile as `table` or `md`, with `top` rows in each table at most; the text ends a line."""
    spec, device = told.bundle.start.spec, told.bundle.start.device
    title = f"Profile of {spec.label} on {device.name}, run {spec.run_id}\n"
    return "\n".join((title, *(_table(by, p, fmt, top) for by, ps in _by_phase(told) for p in ps), _remarks(told, fmt)))


def _by_phase(told: Told) -> Iterator[tuple[str, Sequence[Phase]]]:
    """Give the ways phase by phase: who reads of the decode wants all of it together."""
    n_phases = max(map(len, told.phases.values()), default=0)
    for i in range(n_phases):
        for by, phases in told.phases.items():
            yield by, phases[i : i + 1]


def _table(by: str, phase: Phase, fmt: str, top: int | None) -> str:
    names, _ = KEYS[by]
    per_token = phase.n_tokens if phase.name == "decode" else None
    headers = (*names, "share", "per token" if per_token else "total", "count", "mean")
    # A last one is told itself rather than as "1 more".
    shown = phase.rows if top is None or len(phase.rows) == top + 1 else phase.rows[:top]
    left = phase.rows[len(shown) :]
    rows = [_row([word or "-" for word in row.key], [row], per_token) for row in shown]
    if left:
        rows.append(_row([f"{len(left)} more", *[""] * (len(names) - 1)], left, per_token))
    numeric = range(len(names), len(headers))
    return render_table(f"{phase.name.capitalize()} by {by}", headers, rows, fmt, numeric=numeric)


def _row(words: Sequence[str], members: Sequence[Row], per_token: int | None) -> list[str]:
    total_s, count = sum(row.total_s for row in members), sum(row.count for row in members)
    share = human(sum(row.share for row in members), "ratio")
    return [*words, share, human(total_s / (per_token or 1), "s"), str(count), human(total_s / count, "s")]


def _remarks(told: Told, fmt: str) -> str:
    lines = [*_inside(told), *_cost(told), *_doubts(told.profiler)]
    bullet = "- " if fmt == "md" else "  "
    return "\n".join(("What to know of these times:", "", *(f"{bullet}{line}" for line in lines))) + "\n"


def _inside(told: Told) -> Iterator[str]:
    for phase in next(iter(told.phases.values()), ()):
        tokens = None if phase.n_tokens is None else counted(phase.n_tokens, "token")
        share = phase.nodes_s / phase.wall_s if phase.wall_s else None
        rest = (
            "nodes ran beside each other, so their shares are of more time than passed"
            if share is not None and share > 1
            else "the rest lies between them: the profiler itself, and what the engine does besides"
        )
        took = f"{joined((tokens, human(phase.wall_s, 's')))}, {human(share, 'ratio')} of it in nodes"
        yield f"{phase.name}: {took}; {rest}"
        if phase.stalled_s > _MUCH * phase.nodes_s:
            in_them = f"{human(phase.stalled_s / phase.nodes_s, 'ratio')} of the nodes' time"
            yield (
                f"{phase.name}: {in_them} lies in {counted(phase.stalled, 'computation')} of more than ten times the "
                "median of their node: other programs had the processor, and the shares are not to be believed"
            )


def _cost(told: Told) -> Iterator[str]:
    known = {cost.phase for cost in told.costs}
    for cost in told.costs:
        slow, fast = human(cost.profiled, cost.unit), human(cost.unprofiled, cost.unit)
        share = human(cost.profiled / cost.unprofiled, "ratio")
        yield f"{cost.phase}: {slow} under the profiler, {share} of the {fast} without it in run {cost.run_id}"
    unknown = [phase.name for phase in next(iter(told.phases.values()), ()) if phase.name not in known]
    if unknown:
        yield (
            f"{' and '.join(unknown)}: what the profiler cost is not known, for this store has no believable run of "
            "the same cell without it: make one without --profile"
        )


def _doubts(profiler: Profiler) -> Iterator[str]:
    yield f"timed by {profiler.source}; a node's time holds the start of its computation and the wait for its end"
    if profiler.clock_uncertainty_ns:
        off = human(profiler.clock_uncertainty_ns / 1e9, "s")
        yield f"all begins together may be off the device's clock by {off}"
    if profiler.left_out:
        least = counted(profiler.left_out, "node")
        yield (
            f"at least {least} at the end could not be kept, for want of room, and the tables end before them: run "
            "fewer repetitions or tokens"
        )


def document(told: Told) -> dict[str, Any]:
    """Return a profile for JSON: every row, in SI units."""
    spec = told.bundle.start.spec
    return {
        "run_id": spec.run_id,
        "source": told.profiler.source,
        "clock_uncertainty_ns": told.profiler.clock_uncertainty_ns,
        "left_out": told.profiler.left_out,
        "phases": [
            {
                "phase": phase.name,
                "by": by,
                "windows": phase.windows,
                "n_tokens": phase.n_tokens,
                "wall_s": phase.wall_s,
                "nodes_s": phase.nodes_s,
                "stalled_s": phase.stalled_s,
                "stalled": phase.stalled,
                "rows": [
                    {
                        **dict(zip(KEYS[by][0], row.key, strict=True)),
                        "share": row.share,
                        "total_s": row.total_s,
                        "count": row.count,
                        "mean_s": row.mean_s,
                    }
                    for row in phase.rows
                ],
            }
            for by, phases in told.phases.items()
            for phase in phases
        ],
        "costs": [
            {
                "phase": cost.phase,
                "profiled": cost.profiled,
                "unprofiled": cost.unprofiled,
                "unit": cost.unit,
                "run_id": cost.run_id,
            }
            for cost in told.costs
        ],
    }
