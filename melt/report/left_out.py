"""Runs that are left out, counted by how they ended and by what speaks against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from melt.records import Outcome, Verdict


def left_out(runs: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """Count runs, each with outcome, verdict and the codes of its reasons: `2 suspect (charging 2), 1 oom`.

    Of a run that did not end well its outcome is told, of others the verdict and every reason. Empty for none.
    """
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for outcome, verdict, codes in runs:
        state = verdict if outcome == Outcome.OK else outcome
        counts[state] += 1
        if outcome == Outcome.OK:
            reasons.setdefault(state, Counter()).update(set(codes))
    order = (Verdict.SUSPECT, Verdict.INVALID)
    states = sorted(counts, key=lambda state: (order.index(Verdict(state)) if state in order else len(order), state))
    return ", ".join(f"{counts[state]} {state}{_why(reasons.get(state))}" for state in states)


def _why(codes: Counter[str] | None) -> str:
    if not codes:
        return ""
    told = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{code} {n}' for code, n in told)})"
