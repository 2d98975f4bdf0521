"""Programs on a Mac that print a JSON object a line: how often, and which columns come out of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from melt.telemetry.base import LineSource
from melt.telemetry.platforms.columns import Collector
from melt.telemetry.platforms.json_values import Reader, json_object

FASTEST_MS = 100
"""macmon takes no less, and powermetrics takes 108 when it is asked for 100."""

_RENEWED_HZ = 0.5
_ELECTRICAL = ("power", "energy")


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
