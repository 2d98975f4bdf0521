"""The highest power of a run: a moving mean over a stated time, so that meters of unlike rates tell the same thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from melt.analysis.energy import Account, figure_of
from melt.analysis.figures import Figure, median_figure
from melt.analysis.meter import Meter
from melt.analysis.series import Series, Span
from melt.records import Reason
from melt.traces import Times, Values

OVER_NS = 1_000_000_000
"""What a battery, its protection and a supply have to stand; of milliseconds the capacitors of a board know."""
MIN_VALUES = 5
"""So many values a meter must have in that time: with fewer the mean of a second hangs on where its edges lie."""
_LOOKS_HZ = 100
"""A second that begins 10 ms later differs by a hundredth of what power rises by: finer is not looked."""

_TOO_SHORT = "shorter than the second over which a peak is averaged"
_Reading = Callable[[Values], Values]


def power_peak(account: Account, span: Span) -> Figure:
    """Return the highest mean power of any second within the span, in watts, and what it may be off by."""
    meter = account.meter
    if isinstance(meter, Reason):
        return Figure(None, meter.message, "sensor")
    over_s = OVER_NS / 1e9
    if meter.rate_hz * over_s < MIN_VALUES:
        note = f"{meter.name}; {meter.rate_hz:.2g} new values a second are too few for a peak of {over_s:g} s"
        return Figure(None, note, "sensor")
    if span[1] - span[0] < OVER_NS:
        return Figure(None, _TOO_SHORT, "sensor")
    start_ns = span[0] + _highest_ns(meter, span)
    figure = figure_of(account, meter.measure([(start_ns, start_ns + OVER_NS)]), 1 / over_s)
    if figure.value is None:
        return figure
    at_s = (start_ns - span[0]) / 1e9
    return replace(
        figure,
        note=f"{figure.note}; mean of {over_s:g} s, from {at_s:.1f} s on",
        figures={**figure.figures, "over_s": over_s, "from_s": at_s},
    )


def highest(figures: Sequence[Figure]) -> Figure:
    """Return the highest of the peaks of a run's repetitions, which may be called unmeasured in all."""
    measured = [figure for figure in figures if figure.value is not None]
    return max(measured, key=lambda figure: figure.value or 0.0) if measured else median_figure(figures)


def _highest_ns(meter: Meter, span: Span) -> int:
    """Return where, after the span's start, the second begins that takes the most energy.

    The energy of a moving window is highest where one of its edges meets a sample, or between two samples, where it
    differs little.
    """
    length_ns = span[1] - span[0]
    readings: list[_Reading] = []
    edges_ns: list[Values] = [np.zeros(1), np.full(1, float(length_ns - OVER_NS))]
    for series in meter.series:
        found = series.around(span)
        if found is None or (read := _energy_until(series, *found, span[0])) is None:
            return 0
        readings.append(read)
        samples_ns = (found[0][:: max(1, int(series.stream.rate_hz / _LOOKS_HZ))] - span[0]).astype(np.float64)
        edges_ns += [samples_ns, samples_ns - OVER_NS]
    starts_ns = np.concatenate(edges_ns)
    starts_ns = starts_ns[(starts_ns >= 0) & (starts_ns <= length_ns - OVER_NS)]
    energies = sum(
        (reading(starts_ns + OVER_NS) - reading(starts_ns) for reading in readings), np.zeros(len(starts_ns))
    )
    return int(starts_ns[int(np.argmax(energies))])


def _energy_until(series: Series, t_ns: Times, values: Values, start_ns: int) -> _Reading | None:
    """Return a function of moments, in ns after the start, to the energy until then, in joules.

    Between two samples power is a straight line, and a counter too. None where a counter began anew: measuring it says
    so.
    """
    # Relative to the start: a float64 cannot hold nanoseconds since boot.
    here_ns = (t_ns - start_ns).astype(np.float64)
    if series.stream.cumulative:
        steps = series.steps(values)
        if steps is None:
            return None
        counted = np.concatenate(([0.0], np.cumsum(steps)))
        return lambda at_ns: np.interp(at_ns, here_ns, counted)
    steps_j = (values[1:] + values[:-1]) / 2 * np.diff(here_ns) / 1e9
    until_j = np.concatenate(([0.0], np.cumsum(steps_j)))

    def read(at_ns: Values) -> Values:
        before = np.clip(np.searchsorted(here_ns, at_ns, "right") - 1, 0, len(here_ns) - 1)
        part_s = (at_ns - here_ns[before]) / 1e9
        return until_j[before] + (values[before] + np.interp(at_ns, here_ns, values)) / 2 * part_s

    return read
