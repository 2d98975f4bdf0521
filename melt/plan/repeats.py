"""How often a cell is run: in a fixed number of sessions, or in as many as the precision takes that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from melt.errors import UsageError
from melt.records import Repeat

LEAST_SESSIONS = 3
"""Two sessions that agree by chance look precise: an interval that may stop there covers the truth in 88 % of cells
instead of 95 %; docs/metrics.md has the figures."""

MOST_SESSIONS = 20
"""What a cell is run when nobody says how often at most."""


def change_repeat(base: Repeat, given: Mapping[str, Any]) -> Repeat:
    """Change how often cells are run by the checked values of a plan's keys; `min` and `max` count sessions.

    A fixed number of sessions and a precision replace each other. Raises UsageError where both are asked for, or bounds
    without a precision.
    """
    asked = dict(given)
    bounds = asked.pop("min", None), asked.pop("max", None)
    if "sessions" in asked:
        if asked.get("until_ci") is not None:
            raise UsageError("a precision (until_ci) and a fixed number of sessions: leave out one of them")
        asked["until_ci"] = None
    changed = replace(base, **asked)
    if changed.until_ci is None:
        if bounds != (None, None):
            raise UsageError("a least or most number of sessions (min, max) needs a precision to reach (until_ci)")
        return replace(changed, min_sessions=None)
    least, most = (base.min_sessions, base.sessions) if base.until_ci is not None else (None, None)
    least = bounds[0] or least or LEAST_SESSIONS
    most = bounds[1] or most or max(MOST_SESSIONS, least)
    if most < least:
        raise UsageError(f"at most {most} sessions (max) are fewer than at least {least} (min)")
    return replace(changed, sessions=most, min_sessions=least)
