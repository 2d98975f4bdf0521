"""How many sessions the cells of a sweep took that were to be known to some precision, and which are not, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from melt.units import counted

if TYPE_CHECKING:
    from melt.analysis.precision import Known
    from melt.fleet.settled import Settled
    from melt.records import RunSpec

_NAMED = 8
"""More cells than that are counted instead of named."""


def what_sessions_told(specs: Sequence[RunSpec], settled: Settled) -> str:
    """Write one sentence; nothing where the number of sessions was fixed."""
    from melt.plan.expand import cell_of

    cells = {cell_of(spec): spec for spec in specs if spec.repeat.until_ci is not None and not spec.reference}
    found = [(spec, settled.known(spec)) for spec in sorted(cells.values(), key=lambda spec: spec.cell or 0)]
    if not found:
        return ""
    names = _names([spec for spec, _ in found])
    precise: dict[int, list[str]] = {}
    short: list[str] = []
    for (spec, known), name in zip(found, names, strict=True):
        if known.is_precise(spec.repeat):
            precise.setdefault(known.ended, []).append(name)
        else:
            short.append(f"{name} ({_how_far(known)})")
    n_named = sum(map(len, precise.values()))
    reached = [f"{n} sessions for {_listed(cells, n_named)}" for n, cells in sorted(precise.items())]
    goal = f"±{100 * (found[0][0].repeat.until_ci or 0.0):g} %"
    if not short:
        return f"{goal} was reached in {', '.join(reached)}"
    missed = f"not reached for {', '.join(short)}"
    return f"{goal} was reached in {', '.join(reached)}; {missed}" if reached else f"{goal} was {missed}"


def _listed(cells: Sequence[str], n_named: int) -> str:
    if n_named <= _NAMED:
        return " and ".join(cells)
    return f"{len(cells)} cells" if len(cells) > 1 else "1 cell"


def _how_far(known: Known) -> str:
    """Say what there is instead of the precision that was asked for."""
    after = f"after {counted(known.ended, 'session')}"
    if not known.measured:
        return f"no rate {after}" if known.ended else "not run"
    if known.half_width is None:
        return f"one rate {after}"
    # Farther than the rate itself: what stands here would be a number of no use.
    return f"±{100 * known.half_width:.2g} % {after}" if known.half_width < 1 else f"over ±100 % {after}"


def _names(specs: Sequence[RunSpec]) -> list[str]:
    """Name cells by what people call them, and by whatever else tells them apart."""
    from melt.plan.dryrun import changed_label
    from melt.records import Conditions, Settings

    more = {
        "device": [f"on {spec.device}" for spec in specs],
        "engine": [spec.engine for spec in specs],
        "settings": [changed_label(spec.settings, Settings()) for spec in specs],
        "conditions": [changed_label(spec.conditions, Conditions()) for spec in specs],
    }
    varying = [texts for texts in more.values() if len(set(texts)) > 1]
    return [" ".join(filter(None, (spec.label, *(texts[i] for texts in varying)))) for i, spec in enumerate(specs)]
