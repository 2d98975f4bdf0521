"""The profile of a run, read from the store and printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.analysis.operators import Cost
    from melt.report.operators import Told
    from melt.store.store import Store
    from melt.traces import RunBundle

_FIRST = ("operator", "part")
"""What is shown when nobody asked for something: what is computed, and where in the model."""

_TOP = 10


def print_profile(store: Store, bundle: RunBundle, fmt: str, by: str | None) -> int:
    """Print where the time of a run went, by one thing, or shortly by the two that tell most. Raises UsageError."""
    from melt.report.operators import document, render_profile

    told = _told(store, bundle, by)
    if fmt == "json":
        print(json.dumps(document(told), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        print(render_profile(told, fmt, top=None if by else _TOP), end="")
    return 0


def print_profiles(store: Store, bundles: Sequence[RunBundle], fmt: str) -> None:
    """Print where the time of every run went that has a profile: tables one below the other, or a list as JSON.

    What has no lists of lists (csv, jsonl) is for `melt show RUN --profile` and its -o json.
    """
    from melt.analysis.operators import OPERATORS
    from melt.report.operators import document, render_profile

    profiled = [b for b in bundles if OPERATORS in store.collectors(b.start.spec.run_id)]
    told = [_told(store, bundle, None) for bundle in profiled]
    if fmt in ("table", "md"):
        print("\n".join(render_profile(one, fmt, top=_TOP) for one in told), end="")
    elif fmt == "jsonl":
        print("".join(json.dumps(document(one), allow_nan=False, ensure_ascii=False) + "\n" for one in told), end="")
    else:
        print(json.dumps([document(one) for one in told], indent=2, allow_nan=False, ensure_ascii=False))


def _told(store: Store, bundle: RunBundle, by: str | None) -> Told:
    from melt.analysis.operators import DOCUMENT, OPERATORS, phases, read_document
    from melt.report.operators import Told

    run_id = bundle.start.spec.run_id
    if OPERATORS not in store.collectors(run_id):
        raise UsageError(f"run {run_id} has no profile: {_why_not(bundle)}")
    profiler = read_document(store.attachment(run_id, DOCUMENT))
    trace = store.trace(run_id, OPERATORS)
    return Told(
        bundle=bundle,
        profiler=profiler,
        phases={one: phases(trace, profiler, bundle.windows, one) for one in ((by,) if by else _FIRST)},
        costs=_costs(store, bundle),
    )


def _why_not(bundle: RunBundle) -> str:
    if bundle.start.spec.profile:
        return f"it ended before a node was timed ({bundle.stop.outcome})"
    return "it was measured without the profiler; `melt run --profile` makes a run with it"


def _costs(store: Store, bundle: RunBundle) -> list[Cost]:
    """Return what the profiler cost, by the newest run of the same cell without it that may be held against it."""
    from melt.analysis.alike import found_alike
    from melt.analysis.operators import costs
    from melt.analysis.sessions import is_believed
    from melt.plan.expand import PROFILED, cell_key
    from melt.store.selection import Selection

    key = cell_key(bundle.start.spec).removeprefix(PROFILED)
    for other in reversed(store.bundles(Selection(cell_key=key, device=bundle.start.device.device_id))):
        same = other.start.artifact.sha256 == bundle.start.artifact.sha256
        if same and is_believed(other) and found_alike(other, bundle):
            return costs(bundle.metrics, other.metrics, other.start.spec.run_id)
    return []
