"""Programs on a Mac that print a JSON object a line: columns out of it, whatever a line holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from melt.telemetry.base import LineSource
from melt.telemetry.platforms.columns import Collector

FASTEST_MS = 100
"""macmon takes no less, and powermetrics takes 108 when it is asked for 100."""

_RENEWED_HZ = 0.5
_ELECTRICAL = ("power", "energy")

Reader = Callable[[Mapping[str, Any]], float]
"""A line's object -> a value in our unit, NaN where it is not there. Never raises on odd content."""


@dataclass(frozen=True, slots=True)
class Column:
    """A value of each line. `cumulative`: a counter."""

    base: str
    quantity: str
    site: str
    read: Reader
    cumulative: bool = False


def period_ms(rate_hz: float) -> int:
    """Return how often a program is asked to print, in milliseconds."""
    return max(FASTEST_MS, round(1e3 / rate_hz))


def line_source(name: str, argv: Iterable[str], rate_hz: float, source: str, columns: Iterable[Column]) -> LineSource:
    """Make a channel of a program. `source` is what is shown as the origin of its columns.

    What is electrical is declared at the rate at which drivers renew it at the least (M5 Max with macOS 27: every 2.03
    to 2.23 s, github.com/lablup/all-smi/pull/412), not at that of the lines: so much must be sampled around a run.
    """
    columns = tuple(columns)
    collector = Collector(name, 1e3 / period_ms(rate_hz))
    streams = [
        collector.stream(c.base, c.quantity, site=c.site, source=source, cumulative=c.cumulative) for c in columns
    ]
    declared = tuple(
        replace(stream, rate_hz=min(_RENEWED_HZ, stream.rate_hz)) if stream.quantity in _ELECTRICAL else stream
        for stream in streams
    )

    def parse(raw: bytes) -> tuple[float, ...]:
        found = json_object(raw)
        return tuple(column.read(found) for column in columns)

    return LineSource(name, tuple(argv), declared, parse)


def json_object(raw: bytes | str | None) -> Mapping[str, Any]:
    """Return the object that a line holds, an empty one where it holds none."""
    try:
        found = json.loads(raw or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: object) -> float:
    """Return a JSON number that is finite, else NaN. A truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def at(*path: str | int, per_unit: float = 1.0) -> Reader:
    """Make a reader of the number behind keys and list indexes; `per_unit` of it make one of our unit."""

    def read(found: Mapping[str, Any]) -> float:
        value: Any = found
        for step in path:
            if isinstance(step, str) and isinstance(value, dict):
                value = value.get(step)
            elif isinstance(step, int) and isinstance(value, list) and step < len(value):
                value = value[step]
            else:
                return math.nan
        return number(value) / per_unit

    return read


def first(*readers: Reader) -> Reader:
    """Make a reader that asks several, and takes the first value there is: versions name things differently."""

    def read(found: Mapping[str, Any]) -> float:
        return next((value for value in (one(found) for one in readers) if not math.isnan(value)), math.nan)

    return read
