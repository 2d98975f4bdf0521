"""From one clock to another: offset and drift out of bounds taken before and after, with an uncertainty that grows.

A reading says that the other clock stood at a moment somewhere between two moments of ours. Many round trips within two
seconds are an epoch: the offset lies where all of them overlap, which is no wider than half of the shortest of them to
either side. Of samples that only come, the soonest count. Two epochs give the drift. Between them the uncertainty is
that of the epochs and what a crystal may wander; outside it grows with what is not known of the drift. Pure.
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
_ASTRAY_NS, _ON_END = 250_000_000, 10
"""A busy computer reads late for a while, and garbled times come alone; a clock that was set stays so far away."""
EPOCH_NS = 2_000_000_000
"""How long the readings of one epoch may be apart: MAX_DRIFT moves them by 0.4 ms meanwhile, which is allowed for."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The offset at one time: our clock less the other one, `uncertainty_ns` to either side, at `here_ns` of ours."""

    here_ns: int
    offset_ns: float
    uncertainty_ns: float


_NEVER = "the clocks were never compared"


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
        return (self.before.uncertainty_ns + self.after.uncertainty_ns) / apart_ns + WANDER

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


def map_of(readings: Sequence[ClockReading]) -> ClockMap:
    """Return the map that readings in the order of time give. Raises ClockMismatch."""
    trips = [one for one in readings if not one.one_way]
    return clock_map(epochs(trips)) if trips else _map_of_arrivals(readings)


def epoch(trips: Iterable[ClockReading]) -> Epoch:
    """Return the offset that all round trips of an epoch allow. Raises ClockMismatch where they allow none.

    A round trip allows any offset for which the other clock was read between question and answer.
    """
    trips = tuple(trips)
    if not trips:
        raise ClockMismatch(_NEVER)
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


def epochs(trips: Sequence[ClockReading]) -> tuple[Epoch, ...]:
    """Cut round trips in the order of time into epochs. Raises ClockMismatch."""
    parts: list[list[ClockReading]] = []
    for one in trips:
        if not parts or one.received_ns - parts[-1][0].received_ns > EPOCH_NS:
            parts.append([])
        parts[-1].append(one)
    return tuple(map(epoch, parts))


def see_that_it_held(found: ClockMap, readings: Sequence[ClockReading]) -> None:
    """Raise ClockMismatch where all of the first or of the last readings are far from where the map puts them."""
    there_ns, sent_ns, received_ns = (
        np.array([getattr(one, name) for one in readings], np.int64) for name in ("there_ns", "sent_ns", "received_ns")
    )
    here_ns = found.to_here(there_ns)
    off_ns = np.maximum(sent_ns - here_ns, here_ns - received_ns)
    for end_ns in (off_ns[:_ON_END], off_ns[-_ON_END:]):
        if len(end_ns) == _ON_END and end_ns.min() > _ASTRAY_NS:
            raise ClockMismatch(f"one of them was {end_ns.min() / 1e9:.3g} s off for a while: it was set meanwhile")


def _map_of_arrivals(readings: Sequence[ClockReading]) -> ClockMap:
    """Return the map of samples that only come: late they may be, early never.

    All of them lie on or above the line of the offset: it is an edge of their lower convex hull, that which spans the
    middle, less what the soonest may be late (Moon, Skelly and Towsley, INFOCOM 1999). A busy computer that comes late
    to reading does not move it.
    """
    if not readings:
        raise ClockMismatch(_NEVER)
    t0_ns, offset0_ns = readings[0].received_ns, readings[0].received_ns - readings[0].there_ns
    hull: list[tuple[int, int, int]] = []
    for one in readings:
        point = (one.received_ns - t0_ns, one.received_ns - one.there_ns - offset0_ns, one.received_ns - one.sent_ns)
        while hull and hull[-1][0] >= point[0] and hull[-1][1] > point[1]:
            hull.pop()
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], point):
            hull.pop()
        if not hull or point[0] > hull[-1][0]:
            hull.append(point)
    middle_ns = hull[-1][0] / 2
    after = next((k for k, (at_ns, _, _) in enumerate(hull) if at_ns >= middle_ns), len(hull) - 1)
    ends = [hull[max(0, after - 1)], hull[after]]
    return clock_map([Epoch(t0_ns + at, offset0_ns + late - most / 2, most / 2) for at, late, most in ends])


def _is_above(first: tuple[int, int, int], middle: tuple[int, int, int], last: tuple[int, int, int]) -> bool:
    """Whether the middle one of three points lies on or above the line between the others."""
    return (middle[1] - first[1]) * (last[0] - first[0]) >= (last[1] - first[1]) * (middle[0] - first[0])


def clock_map(known: Sequence[Epoch]) -> ClockMap:
    """Return the map that the first and the last epoch give. Raises ClockMismatch where another one contradicts it.

    Only one epoch, or two so near each other that they tell less of the drift than is known of all crystals: the
    better one counts, and the uncertainty grows by all that crystals drift.
    """
    if not known:
        raise ClockMismatch(_NEVER)
    first, last = known[0], known[-1]
    if last.here_ns <= first.here_ns:
        return ClockMap(first)
    found = ClockMap(first, last)
    if abs(found.drift) - found.drift_uncertainty > MAX_DRIFT:
        raise ClockMismatch(f"one clock gained {found.drift * 1e6:.0f} ppm on the other: it was set, or stood still")
    if found.drift_uncertainty > MAX_DRIFT:
        return ClockMap(min((first, last), key=lambda one: one.uncertainty_ns))
    for one in known[1:-1]:
        expected_ns = first.offset_ns + found.drift * (one.here_ns - first.here_ns)
        beyond_ns = abs(one.offset_ns - expected_ns) - one.uncertainty_ns - found.uncertainty_ns(one.here_ns)
        if beyond_ns > 0:
            raise ClockMismatch(f"a clock was {beyond_ns / 1e6:.3g} ms off in between: it was set, or stood still")
    return found
