"""The flags of the verbs that judge changes: what counts, and what may differ."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable


def add_judge_arguments(parser: argparse._ActionsContainer, default: str) -> None:
    """Add `--threshold` and `--allow-differing`; `default` says what holds without a threshold."""
    parser.add_argument(
        "--threshold",
        metavar="METRIC=SHARE",
        action="append",
        default=[],
        help=f"from which change on it counts, decode_tps=3%% (default: {default})",
    )
    parser.add_argument(
        "--allow-differing",
        metavar="FIELD",
        action="append",
        default=[],
        help="compare although this differs: os_build, kernel, ... (may be repeated)",
    )


def thresholds_of(given: Iterable[str]) -> dict[str, float]:
    """Read `METRIC=SHARE`. Raises UsageError."""
    from melt.analysis.ab import has_ratio
    from melt.analysis.names import METRICS
    from melt.errors import UsageError
    from melt.plan.values import nearest, share

    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--threshold {text!r}: write METRIC=SHARE, decode_tps=3% for one")
        if name not in METRICS:
            raise UsageError(f"--threshold: there is no metric {name!r}{nearest(name, METRICS)}")
        if METRICS[name].better == 0 or not has_ratio(name):
            raise UsageError(f"--threshold: {name} has no better and worse by a share, so it is not judged")
        try:
            found[name] = share(0.9)(value)
        except UsageError as error:
            raise UsageError(f"--threshold {name}: {error}") from error
    return found


def allowed_of(fields: Iterable[str], known: Collection[str]) -> frozenset[str]:
    """Return the fields that may differ, all of which must be known. Raises UsageError."""
    from melt.errors import UsageError
    from melt.plan.values import nearest

    # What melt measured is never held against what was imported.
    known = [name for name in known if name != "provenance"]
    allowed = frozenset(fields)
    for field in sorted(allowed):
        if field not in known:
            listed = ", ".join(known)
            raise UsageError(f"--allow-differing: no field {field!r}{nearest(field, known)}; there are {listed}")
    # A new build of the system brings its kernel.
    return allowed | ({"kernel"} if "os_build" in allowed else set())
