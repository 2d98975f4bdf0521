"""Columns that follow from others of the same trace: load from counters, a battery's power from volts and amperes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from melt.records import Stream
from melt.traces import Trace, Values
from melt.units import UNITS

Column = tuple[Stream, Values]


def with_derived(trace: Trace) -> Trace:
    """Return the trace with its derived columns behind the measured ones; the same trace where nothing follows.

    A rate in a row is that of the span since the row before; the first row has none, nor has one where a counter fell.
    """
    measured = [(stream, trace.columns[stream.name]) for stream in trace.streams]
    derived = [*_cpu_load(measured), *_runner_cpus(trace, measured), *_battery_power(measured)]
    if not derived:
        return trace
    return replace(
        trace,
        columns={**trace.columns, **{stream.name: values for stream, values in derived}},
        streams=(*trace.streams, *(stream for stream, _ in derived)),
    )


def _cpu_load(columns: list[Column]) -> Iterator[Column]:
    """Share of a CPU's time that was neither idle nor waiting for a disk."""
    by_name = {stream.name: values for stream, values in columns}
    for stream, busy in columns:
        total = by_name.get(stream.name.replace("_busy_s", "_total_s"))
        if stream.cumulative and stream.name.endswith("_busy_s") and total is not None:
            yield _declare(stream, f"{stream.site}_busy", "utilization"), _ratio(_rise(busy), _rise(total))


def _runner_cpus(trace: Trace, columns: list[Column]) -> Iterator[Column]:
    """How many CPUs the runner kept busy: 2.0 is two of them, all the time."""
    by_name = {stream.name: (stream, values) for stream, values in columns}
    if "cpu_user_s" in by_name and "cpu_system_s" in by_name:
        stream, user = by_name["cpu_user_s"]
        used = _rise(user) + _rise(by_name["cpu_system_s"][1])
        yield _declare(stream, "cpus_used", "count"), _ratio(used, _rise(trace.t_ns / 1e9))


def _battery_power(columns: list[Column]) -> Iterator[Column]:
    """Power at a battery that reports only volts and amperes. Its sign is dropped: makers do not agree on it."""
    sites: dict[str, dict[str, Column]] = {}
    for stream, values in columns:
        if "/power_supply/" in stream.source:
            sites.setdefault(stream.site, {})[stream.quantity] = (stream, values)
    for site, found in sites.items():
        if "voltage" in found and "current" in found and "power" not in found:
            yield (
                _declare(found["current"][0], f"{site.lower()}_power", "power"),
                np.abs(found["voltage"][1] * found["current"][1]),
            )


def _declare(like: Stream, base: str, quantity: str) -> Stream:
    unit = UNITS[quantity]
    name = base if unit == "1" else f"{base}_{unit}"
    return replace(like, name=name, quantity=quantity, unit=unit, cumulative=False, wraps_at=None)


def _rise(values: Values) -> Values:
    rise = np.full(len(values), np.nan)
    rise[1:] = np.diff(values)
    rise[rise < 0] = np.nan
    return rise


def _ratio(part: Values, whole: Values) -> Values:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
