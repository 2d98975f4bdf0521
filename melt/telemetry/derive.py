"""Columns that follow from others of the same trace: load from counters, power from volts and amperes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from melt.records import Stream
from melt.telemetry.platforms.gauge import Reading, calibrate
from melt.telemetry.sites import RAIL
from melt.traces import Trace, Values
from melt.units import UNITS

Column = tuple[Stream, Values]

RAW_CURRENT = "battery_current_raw"
"""A battery's current in whatever unit and sign its maker chose."""


def with_derived(trace: Trace) -> Trace:
    """Return the trace with its derived columns behind the measured ones; the same trace where nothing follows.

    A rate in a row is that of the span since the row before; the first row has none, nor has one where a counter fell.
    """
    measured = [(stream, trace.columns[stream.name]) for stream in trace.streams]
    current = [*_current(measured)]
    measured += current
    return trace.with_columns([*current, *_cpu_load(measured), *_runner_cpus(trace, measured), *_power(measured)])


def _cpu_load(columns: list[Column]) -> Iterator[Column]:
    """Share of a CPU's time that was neither idle nor waiting for a disk."""
    by_name = {stream.name: values for stream, values in columns}
    for stream, busy in columns:
        total = by_name.get(stream.name.replace("_busy_s", "_total_s"))
        if stream.cumulative and stream.name.endswith("_busy_s") and total is not None:
            # Over 1 by rounding, or because iowait may fall (proc(5)).
            load = np.clip(_ratio(_rise(busy), _rise(total)), 0.0, 1.0)
            yield _declare(stream, f"{stream.site}_busy", "utilization"), load


def _runner_cpus(trace: Trace, columns: list[Column]) -> Iterator[Column]:
    """How many CPUs the runner kept busy: 2.0 is two of them, all the time."""
    by_name = {stream.name: (stream, values) for stream, values in columns}
    if "cpu_user_s" in by_name and "cpu_system_s" in by_name:
        stream, user = by_name["cpu_user_s"]
        used = _rise(user) + _rise(by_name["cpu_system_s"][1])
        yield _declare(stream, "cpus_used", "count"), _ratio(used, _rise(trace.t_ns / 1e9))


def _current(columns: list[Column]) -> Iterator[Column]:
    """Current of a battery whose raw number could not be read when the run began: what it said during the run tells."""
    by_name = {stream.name: (stream, values) for stream, values in columns}
    if RAW_CURRENT not in by_name or "battery_discharging" not in by_name:
        return
    stream, raw = by_name[RAW_CURRENT]
    known = np.isfinite(raw) & (by_name["battery_discharging"][1] == 1.0)
    readings = [Reading(int(number), "Discharging") for number in raw[known]]
    calibration = calibrate(readings)
    if calibration is not None:
        yield _declare(stream, "battery_current", "current"), raw * calibration.factor


def _power(columns: list[Column]) -> Iterator[Column]:
    """Power of batteries and rails that report only volts and amperes.

    A battery whose state is known gives power while it discharges only: else something besides it feeds the device,
    or its current is none of the device's. The sign of others is dropped, because makers do not agree on it; but a
    rail's is kept: near nothing, a monitor reads a little too much as often as a little too little.
    """
    state = {stream.site: values for stream, values in columns if stream.name.endswith("_discharging")}
    sites: dict[tuple[str, str], dict[str, Column]] = {}
    for stream, values in columns:
        folder = stream.source.rpartition("/")[0]
        sites.setdefault((folder, stream.site), {})[stream.quantity] = (stream, values)
    for found in sites.values():
        if "voltage" in found and "current" in found and "power" not in found:
            stream, amperes = found["current"]
            base = stream.name.removesuffix("_a").removesuffix("_current")
            power = found["voltage"][1] * amperes
            if RAIL not in stream.site:
                power = np.abs(power)
            if stream.site in state:
                power = np.where(state[stream.site] == 1.0, power, np.nan)
            yield _declare(stream, f"{base}_power", "power"), power


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
