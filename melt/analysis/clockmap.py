"""From one clock to another: offset and drift out of bounds taken before and after, with an uncertainty that grows.

A reading says that the other clock stood at a moment somewhere between two moments of ours. Many of them within two
seconds are an epoch: the offset lies where all of them overlap, which is no wider than half of the shortest round trip
to either side. Two epochs give the drift. Between them the uncertainty is that of the epochs and what a crystal may
wander; outside it grows with what is not known of the drift. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from melt.telemetry.meters.base import ClockReading
from melt.traces import Times

WANDER = 1e-6
"""How much the rates of two crystals change against each other while a run warms them: 1 ppm, for 10 °C and more."""
MAX_DRIFT = 200e-6
"""Crystals are cut to 20 to 100 ppm, and there are two of them: more is no drift, a clock was set or stood still."""
EPOCH_NS = 2_000_000_000
"""How long the readings of one epoch may be apart: MAX_DRIFT moves them by 0.4 ms meanwhile, which is allowed for."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The offset at one time: our clock less the other one, `uncertainty_ns` to either side, at `here_ns` of ours."""

    here_ns: int
    offset_ns: float
    uncertainty_ns: float


class ClockMismatch(ValueError):
    """The readings contradict each other: one of the clocks was set, stood still, or is another one by now."""


@dataclass(frozen=True, slots=True)
class ClockMap:
    """A straight line from the other clock to ours. `drift` is by how much the offset grows per second of ours."""

    before: Epoch
    after: Epoch | None = None

    @property
    def drift(self) -> float:
        """Return the growth of the offset, 50e-6 for 50 ppm; 0 where only one epoch is known."""
        if self.after is None:
            return 0.0
        return (self.after.offset_ns - self.before.offset_ns) / (self.after.here_ns - self.before.here_ns)

    @property
    def drift_uncertainty(self) -> float:
        """Return by how much the drift may be wrong; with one epoch it is all that crystals do."""
        if self.after is None:
            return MAX_DRIFT
        apart_ns = self.after.here_ns - self.before.here_ns
        return min(MAX_DRIFT, (self.before.uncertainty_ns + self.after.uncertainty_ns) / apart_ns + WANDER)

    def to_here(self, there_ns: Times) -> Times:
        """Map times of the other clock, (n,) int64 ns, to ours."""
        # Relative to the epoch: a float64 cannot hold nanoseconds since boot.
        at_there_ns = self.before.here_ns - round(self.before.offset_ns)
        since_ns = (there_ns - at_there_ns).astype(np.float64)
        return np.asarray(self.before.here_ns + np.rint(since_ns / (1.0 - self.drift)).astype(np.int64), np.int64)

    def to_there(self, here_ns: Times) -> Times:
        """Map times of our clock, (n,) int64 ns, to the other one."""
        at_there_ns = self.before.here_ns - round(self.before.offset_ns)
        since_ns = (here_ns - self.before.here_ns).astype(np.float64)
        return np.asarray(at_there_ns + np.rint(since_ns * (1.0 - self.drift)).astype(np.int64), np.int64)

    def uncertainty_ns(self, here_ns: int) -> float:
        """Return by how much a mapped time may be wrong at a time of our clock."""
        first, last = self.before, self.after
        if last is None:
            return first.uncertainty_ns + MAX_DRIFT * abs(here_ns - first.here_ns)
        if here_ns <= first.here_ns:
            return first.uncertainty_ns + self.drift_uncertainty * (first.here_ns - here_ns)
        if here_ns >= last.here_ns:
            return last.uncertainty_ns + self.drift_uncertainty * (here_ns - last.here_ns)
        apart_ns = last.here_ns - first.here_ns
        share = (here_ns - first.here_ns) / apart_ns
        # A rate that changes by WANDER somewhere in between bends the line by no more than this.
        bent_ns = WANDER * share * (1.0 - share) * apart_ns
        return (1.0 - share) * first.uncertainty_ns + share * last.uncertainty_ns + bent_ns


def epoch(readings: Iterable[ClockReading]) -> Epoch:
    """Return the offset that all readings of an epoch allow. Raises ClockMismatch where they allow none.

    A round trip allows any offset for which the other clock was read between question and answer. Of samples that only
    come, the one that came soonest counts: it cannot have come before it was taken.
    """
    readings = tuple(readings)
    trips = [one for one in readings if not one.one_way]
    arrivals = [one for one in readings if one.one_way]
    if arrivals:
        trips.append(min(arrivals, key=lambda one: one.received_ns - one.there_ns))
    if not trips:
        raise ClockMismatch("the clocks were never compared")
    shortest = min(trips, key=lambda one: one.received_ns - one.sent_ns)
    middle_ns = (shortest.sent_ns + shortest.received_ns) // 2
    reference_ns = middle_ns - shortest.there_ns
    low_ns, high_ns = -np.inf, np.inf
    for one in trips:
        apart_ns = MAX_DRIFT * max(abs(one.sent_ns - middle_ns), abs(one.received_ns - middle_ns))
        low_ns = max(low_ns, one.sent_ns - one.there_ns - reference_ns - apart_ns)
        high_ns = min(high_ns, one.received_ns - one.there_ns - reference_ns + apart_ns)
    if low_ns > high_ns:
        raise ClockMismatch(f"two comparisons of the clocks contradict each other by {(low_ns - high_ns) / 1e6:.3g} ms")
    return Epoch(middle_ns, float(reference_ns + (low_ns + high_ns) / 2), float((high_ns - low_ns) / 2))


def epochs(readings: Sequence[ClockReading]) -> tuple[Epoch, ...]:
    """Cut readings in the order of time into epochs. Raises ClockMismatch."""
    found: list[Epoch] = []
    part: list[ClockReading] = []
    for one in readings:
        if part and one.received_ns - part[0].received_ns > EPOCH_NS:
            found.append(epoch(part))
            part = []
        part.append(one)
    if part:
        found.append(epoch(part))
    return tuple(found)


def clock_map(known: Sequence[Epoch]) -> ClockMap:
    """Return the map that the first and the last epoch give. Raises ClockMismatch where another one contradicts it.

    Only one epoch: no drift is known, and the uncertainty grows by all that crystals drift.
    """
    if not known:
        raise ClockMismatch("the clocks were never compared")
    first, last = known[0], known[-1]
    if last.here_ns <= first.here_ns:
        return ClockMap(first)
    found = ClockMap(first, last)
    slack = (first.uncertainty_ns + last.uncertainty_ns) / (last.here_ns - first.here_ns)
    if abs(found.drift) - slack > MAX_DRIFT:
        raise ClockMismatch(f"one clock gained {found.drift * 1e6:.0f} ppm on the other: it was set, or stood still")
    for one in known[1:-1]:
        expected_ns = first.offset_ns + found.drift * (one.here_ns - first.here_ns)
        beyond_ns = abs(one.offset_ns - expected_ns) - one.uncertainty_ns - found.uncertainty_ns(one.here_ns)
        if beyond_ns > 0:
            raise ClockMismatch(f"a clock was {beyond_ns / 1e6:.3g} ms off in between: it was set, or stood still")
    return found
