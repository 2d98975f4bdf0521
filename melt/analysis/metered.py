"""What an external meter recorded, brought to the device's clock: a trace, how good it is, and every doubt. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis.clockmap import ClockMap, ClockMismatch, Epoch, clock_map, map_of, see_that_it_held
from melt.analysis.integrate import Grade
from melt.analysis.series import Series, Span, find
from melt.analysis.signature import Signature, find_signature
from melt.records import Reason, Thresholds
from melt.telemetry.meters.base import AMPS, COLLECTOR, VOLTS, WATTS, ClockReading, streams_of
from melt.telemetry.meters.recording import Recording
from melt.traces import Times, Trace, Values

UNKNOWN_CLASS = 0.05
"""Who does not say how good a meter is gets what sensors of boards are given."""
MOST_W = 10_000.0
"""No device that is measured takes as much as three kettles: such a value was garbled, or is of another unit."""
_ASTRAY_NS = 1_000_000_000
"""A time so far from where the others put it was garbled on its way."""
_SEARCH_NS = 500_000_000
_LOOKS = 33
_USUAL = Thresholds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """A recording on the device's clock. `trace` None: it cannot be brought there, and `reasons` say why.

    `clock_uncertainty_ns` is by how much its times may be off the device's; `drift` is the meter's clock against the
    device's, None where the run was too short to tell; `signatures` where the played bursts were found, one for each
    that was.
    """

    trace: Trace | None = None
    grade: Grade | None = None
    reasons: tuple[Reason, ...] = ()
    clock_uncertainty_ns: int | None = None
    drift: float | None = None
    signatures: tuple[Signature, ...] = ()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Return the trace, if there is one."""
        return () if self.trace is None else (self.trace,)

    @property
    def grades(self) -> dict[str, Grade]:
        """Return how good the meter is, by its collector."""
        return {} if self.grade is None else {COLLECTOR: self.grade}

    @property
    def figures(self) -> dict[str, object]:
        """Return what is known of the clocks, for the record."""
        return {
            "clock_uncertainty_ns": self.clock_uncertainty_ns,
            "drift": self.drift,
            "signatures": [
                {"lag_ns": one.lag_ns, "uncertainty_ns": one.uncertainty_ns, "quality": one.quality}
                for one in self.signatures
            ],
        }


NOT_METERED = Metered()


def on_device_clock(recording: Recording, measured: Span | None, thresholds: Thresholds = _USUAL) -> Metered:
    """Bring a recording to the device's clock. `measured` is the span, on that clock, that it is to cover."""
    noted = recording.noted
    said, absurd = _without_absurd(recording)
    doubts = _delivered(recording, absurd, thresholds)
    try:
        there = map_of(_plausible(recording.clock))
        see_that_it_held(there, recording.clock)
        device = clock_map([Epoch(here, offset, around) for here, offset, around in noted.device_clock])
    except ClockMismatch as error:
        message = f"{noted.facts.name} cannot be brought to the device's clock: {error}"
        return Metered(
            reasons=(*doubts, *_cut_short(recording, None, measured), Reason(code="meter_clock", message=message))
        )
    here_ns, values, astray = _in_order(recording, said, there)
    doubts += _out_of_order(recording, astray, thresholds.meter_lost_ratio)
    t_ns = device.to_there(here_ns)
    trace = Trace(
        collector=COLLECTOR,
        t_ns=t_ns,
        columns=dict(
            zip((s.name for s in streams_of(noted.facts, noted.covers)), _columns(recording, values), strict=True)
        ),
        streams=streams_of(noted.facts, noted.covers),
    )
    backwards = _backwards(trace, noted.facts.name, measured)
    if backwards is not None:
        return Metered(reasons=(*doubts, *_cut_short(recording, t_ns, measured), backwards))
    uncertainty_ns = _uncertainty_ns(there, device, here_ns, measured)
    signatures = _signatures(trace, recording, uncertainty_ns)
    disagreed, off_ns = _disagreement(signatures, uncertainty_ns)
    grade = Grade(
        gain_ratio=UNKNOWN_CLASS if noted.facts.accuracy is None else noted.facts.accuracy,
        clock_ns=max(uncertainty_ns, off_ns),
        drift=there.drift_uncertainty + device.drift_uncertainty,
    )
    return Metered(
        trace=trace,
        grade=grade,
        reasons=(*doubts, *_cut_short(recording, t_ns, measured), *disagreed),
        clock_uncertainty_ns=uncertainty_ns,
        drift=None if there.after is None or device.after is None else there.drift - device.drift,
        signatures=signatures,
    )


def _plausible(readings: Sequence[ClockReading]) -> list[ClockReading]:
    """Leave out readings whose time was garbled on its way."""
    if not readings:
        return []
    offsets = np.array([one.received_ns - one.there_ns for one in readings], np.float64)
    middle = float(np.median(offsets))
    return [one for one, offset in zip(readings, offsets, strict=True) if abs(offset - middle) <= _ASTRAY_NS]


def _without_absurd(recording: Recording) -> tuple[Values, int]:
    """Return the values without those of a power that no device takes, and how many those were."""
    columns = dict(zip(recording.noted.facts.columns, recording.values.T, strict=True))
    power = columns.get(WATTS)
    if power is None and {VOLTS, AMPS} <= {*columns}:
        power = columns[VOLTS] * columns[AMPS]
    if power is None:
        return recording.values, 0
    absurd = np.abs(power) > MOST_W
    return np.where(absurd[:, np.newaxis], np.nan, recording.values), int(absurd.sum())


def _in_order(recording: Recording, values: Values, there: ClockMap) -> tuple[Times, Values, int]:
    """Return the samples on this computer's clock, without those whose time is not after all times before them."""
    here_ns = there.to_here(recording.t_ns)
    first_ns = recording.clock[0].received_ns - 10 * _ASTRAY_NS
    last_ns = recording.clock[-1].received_ns + _ASTRAY_NS
    kept = (here_ns >= first_ns) & (here_ns <= last_ns)
    here_ns, values = here_ns[kept], values[kept]
    latest = np.maximum.accumulate(here_ns) if len(here_ns) else here_ns
    later = np.concatenate(([True], here_ns[1:] > latest[:-1]))[: len(here_ns)]
    return here_ns[later], values[later], len(recording.t_ns) - int(later.sum())


def _columns(recording: Recording, values: Values) -> list[Values]:
    columns = [np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])]
    named = dict(zip(recording.noted.facts.columns, columns, strict=True))
    if WATTS not in named and VOLTS in named and AMPS in named:
        columns.append(named[VOLTS] * named[AMPS])
    return columns


def _uncertainty_ns(there: ClockMap, device: ClockMap, here_ns: Times, measured: Span | None) -> int:
    """Return the largest uncertainty of the whole way in the measured span, else in the whole recording."""
    if measured is not None:
        ends = device.to_here(np.array(measured, np.int64))
    elif len(here_ns):
        ends = here_ns[[0, -1]]
    else:
        return 0
    looks = np.linspace(int(ends[0]), int(ends[1]), _LOOKS)
    return round(max(there.uncertainty_ns(int(at)) + device.uncertainty_ns(int(at)) for at in looks))


def _signatures(trace: Trace, recording: Recording, uncertainty_ns: int) -> tuple[Signature, ...]:
    power = _power(trace)
    if power is None:
        return ()
    within_ns = _SEARCH_NS + 2 * uncertainty_ns
    found = (find_signature(power, one.busy_ns, within_ns) for one in recording.noted.played)
    return tuple(one for one in found if one is not None)


def _power(trace: Trace) -> Series | None:
    """Return a trace's power; of one that counts energy the mean power from each count to the next."""
    powers = find([trace], lambda stream: stream.quantity == "power")
    if powers:
        return powers[0]
    counts = find([trace], lambda stream: stream.cumulative)
    growths = counts[0].steps(counts[0].values) if counts else None
    if growths is None:
        return None
    t_ns = counts[0].t_ns
    return Series(counts[0].stream, t_ns[:-1] + np.diff(t_ns) // 2, growths / (np.diff(t_ns) / 1e9))


def _backwards(trace: Trace, name: str, measured: Span | None) -> Reason | None:
    """Say that the device seems to give power instead of taking it."""
    power = _power(trace)
    values = np.empty(0) if power is None or measured is None else power.inside(measured)
    mean_w = float(values.mean()) if len(values) else 0.0
    if mean_w >= 0:
        return None
    message = (
        f"{name} says that the device gives {-mean_w:.3g} W: are its leads, or the sign of its column, turned round?"
    )
    return Reason(code="energy_misread", message=message, figures={"power_w": mean_w})


def _disagreement(signatures: Sequence[Signature], uncertainty_ns: int) -> tuple[tuple[Reason, ...], int]:
    """Return the doubt where the bursts lie elsewhere than the clocks say, and by how much they may be off then."""
    if not signatures:
        return (), 0
    worst = max(signatures, key=lambda one: abs(one.lag_ns) - one.uncertainty_ns)
    if abs(worst.lag_ns) <= uncertainty_ns + worst.uncertainty_ns:
        return (), 0
    message = (
        f"the device's bursts show in the meter's power {worst.lag_ns / 1e6:.3g} ms from where the clocks put them, "
        f"known to ±{(uncertainty_ns + worst.uncertainty_ns) / 1e6:.3g} ms"
    )
    figures = {
        "lag_s": worst.lag_ns / 1e9,
        "clock_uncertainty_s": uncertainty_ns / 1e9,
        "signature_uncertainty_s": worst.uncertainty_ns / 1e9,
        "quality": worst.quality,
    }
    return (Reason(code="meter_clock", message=message, figures=figures),), abs(worst.lag_ns) + worst.uncertainty_ns


def _delivered(recording: Recording, absurd: int, thresholds: Thresholds) -> tuple[Reason, ...]:
    """Say what the meter, or the way from it, lost."""
    name, n = recording.noted.facts.name, len(recording.t_ns)
    doubts = []
    if recording.lost > thresholds.meter_lost_ratio * (n + recording.lost):
        message = f"{name} says that it lost {recording.lost} of {n + recording.lost} samples"
        doubts.append(Reason(code="meter_dropped", message=message, figures={"lost": float(recording.lost)}))
    unread = recording.unread + absurd
    if unread > thresholds.meter_unread_ratio * (n + recording.unread):
        message = f"{unread} of {n + recording.unread} readings of {name} could not be read"
        if absurd:
            message += f", {absurd} of them because they say over {MOST_W / 1000:.0f} kW: is its unit right?"
        figures = {"unread": float(unread), "absurd": float(absurd)}
        doubts.append(Reason(code="meter_unreadable", message=message, figures=figures))
    return tuple(doubts)


def _out_of_order(recording: Recording, astray: int, most: float) -> tuple[Reason, ...]:
    n = len(recording.t_ns)
    if astray <= most * n:
        return ()
    message = f"{astray} of {n} samples of {recording.noted.facts.name} are not later than those before them"
    return (Reason(code="meter_out_of_order", message=message, figures={"samples": float(astray)}),)


def _cut_short(recording: Recording, t_ns: Times | None, measured: Span | None) -> tuple[Reason, ...]:
    """Say that the meter did not see the whole of what was measured, and why."""
    noted = recording.noted
    if measured is None or measured[1] <= measured[0]:
        return ()
    seen_ns = 0 if t_ns is None or not len(t_ns) else min(measured[1], t_ns[-1]) - max(measured[0], t_ns[0])
    coverage = min(1.0, max(0.0, float(seen_ns) / (measured[1] - measured[0])))
    if coverage == 1.0 or (t_ns is None and noted.end == "stopped"):
        return ()
    why = {
        "stopped": "",
        "lost": f": {noted.complaint}",
        None: ": nobody was there to read it, melt had ended",
    }[noted.end]
    message = f"{noted.facts.name} saw {100 * coverage:.0f} % of what was measured{why}"
    return (Reason(code="meter_stopped", message=message, figures={"coverage": coverage}),)
