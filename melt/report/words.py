"""Small words that several reports share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from melt.analysis.names import METRICS
from melt.records import Compute
from melt.units import human

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def steady(text: str) -> str:
    """Leave nothing in a text that steers a terminal; it may have lines and tabs."""
    return _CONTROLS.sub("\ufffd", text)


def joined(parts: Iterable[str | None]) -> str:
    """Put parts into one line, leaving out what is not known."""
    return ", ".join(part for part in parts if part)


def would_be_missed(what: str, detectable: Iterable[tuple[str, float | None]]) -> str:
    """Say how large a change of the main rate may be without being seen; `what` is a `difference in` or `change of`.

    `detectable` are metrics with the smallest change that their sessions would show, as a share.
    """
    seen = [(metric, share) for metric, share in detectable if share is not None]
    for rate in ("decode_tps", "inferences_per_s"):
        if shares := [share for metric, share in seen if metric == rate]:
            return f"; a {what} {METRICS[rate].title} under about {100 * max(shares):.1f} % would not be seen"
    return ""


def arithmetic(compute: Compute) -> str:
    """Write how fast a device multiplies and adds, and by which instructions."""
    integers, floats = human(compute.int8_ops_per_s, "op/s"), human(compute.f32_ops_per_s, "op/s")
    return f"int8 {integers} ({compute.int8_path}), f32 {floats} ({compute.f32_path})"


def engine_name(engine: str, revision: str | None) -> str:
    """Name an engine with its revision, which may begin with the engine's own name."""
    return revision if revision and revision.startswith(engine) else " ".join(filter(None, (engine, revision)))
