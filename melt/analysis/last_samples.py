"""What the device was like just before a run ended: evidence for a run that did not end well."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from melt.analysis import channels
from melt.analysis.series import Series, find
from melt.traces import Trace

LAST_S = 5
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LastSamples:
    """One quantity in each of the last seconds, oldest first; NaN where nothing was sampled in that second."""

    title: str
    unit: str
    values: tuple[float, ...]


def last_samples(traces: Sequence[Trace]) -> list[LastSamples]:
    """Return memory, temperature, clocks and battery of the last `LAST_S` seconds; what was not sampled is left out.

    The time is that before the last sample of any trace of sensors.
    """
    kinds: tuple[tuple[str, str, list[Series], Callable[[list[float]], float]], ...] = (
        ("memory available", "bytes", _available(traces), min),
        ("runner's memory", "bytes", channels.runner_footprint(traces) or channels.runner_rss(traces), max),
        ("swap free", "bytes", find(traces, lambda s: s.quantity == "memory" and s.name == "swap_free_bytes"), min),
        ("hottest", "c", channels.temperatures(traces), max),
        ("fastest CPU", "hz", channels.cpu_frequency(traces), max),
        ("slowest CPU", "hz", channels.cpu_frequency(traces), min),
        ("battery", "ratio", channels.battery_level(traces), min),
    )
    ends = [int(series.t_ns[-1]) for _, _, found, _ in kinds for series in found if len(series)]
    if not ends:
        return []
    rows = [LastSamples(title, unit, _seconds(found, pick, max(ends))) for title, unit, found, pick in kinds]
    return [row for row in rows if not all(map(math.isnan, row.values))]


def _available(traces: Sequence[Trace]) -> list[Series]:
    return find(traces, lambda s: s.quantity == "memory" and s.name in ("available_bytes", "memory_available_bytes"))


def _seconds(found: Sequence[Series], pick: Callable[[list[float]], float], end_ns: int) -> tuple[float, ...]:
    """Pick, for each second, among the last samples that the series have within it."""
    picked = []
    for second in range(LAST_S - 1, -1, -1):
        until_ns = end_ns - second * _SECOND_NS
        seen = [float(part[-1]) for s in found if len(part := s.inside((until_ns - _SECOND_NS + 1, until_ns)))]
        picked.append(pick(seen) if seen else math.nan)
    return tuple(picked)
