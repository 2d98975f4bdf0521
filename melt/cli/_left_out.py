"""What is said on stderr of runs whose figures are not shown: nothing is left out in silence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.store.selection import Selection
    from melt.store.store import Store
    from melt.traces import RunBundle


def left_out_by(selection: Selection, store: Store) -> str:
    """Count the runs that `--only-valid` keeps out of a selection, by what speaks against them; empty for none."""
    from melt.report.left_out import left_out

    if not selection.only_valid:
        return ""
    lines = store.listing(replace(selection, only_valid=False, limit=None))
    doubtful = (line for line in lines if (line.outcome, line.verdict) != ("ok", "valid"))
    return left_out((line.outcome, line.verdict, line.reasons) for line in doubtful)


def without_profiles(selection: Selection, store: Store) -> Selection:
    """Leave runs under the profiler out of a selection, and say how many those are."""
    from melt.units import counted

    n = store.count(replace(selection, profiled=True, limit=None))
    if n:
        told = f"{counted(n, 'run')}; `melt show RUN --profile` tells of each"
        print(f"melt: left out, because the profiler slows what it looks at: {told}", file=sys.stderr)
    return replace(selection, profiled=False)


def say_left_out(told: str) -> None:
    """Say what `left_out_by` counted, if anything."""
    if told:
        print(f"melt: left out by --only-valid: {told}", file=sys.stderr)


def say_without_figures(bundles: Sequence[RunBundle]) -> None:
    """Say which of the runs that are compared have no figures there because they are invalid."""
    from melt.records import Outcome, Verdict
    from melt.report.left_out import left_out

    ends = [bundle.stop for bundle in bundles if bundle.stop.outcome is Outcome.OK]
    invalid = [end for end in ends if end.verdict is Verdict.INVALID]
    if invalid:
        told = left_out((end.outcome, end.verdict, [reason.code for reason in end.reasons]) for end in invalid)
        print(f"melt: without their figures, which are not to be believed: {told}", file=sys.stderr)
