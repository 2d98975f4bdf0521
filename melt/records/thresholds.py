"""From where on what was seen speaks against a run: every number that decides a verdict, with what defends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a run is judged by: a value beyond any of these is a reason. Ratios are 0 to 1. docs/energy.md lists them.

    A document without them was judged by these defaults: who changes one needs an upgrader in `codec.py`.
    """

    repetitions_min: int = 3
    """Of two repetitions there is no telling which was disturbed."""

    unstable_cv: float = 0.05
    """Repetitions inside one process differ by 1 to 2 % on a quiet machine; more than twice that has a cause."""

    drift_ratio: float = 0.03
    """A steady change of 3 % moves a run's median by half of that: as much as chance does on a quiet machine."""

    order_effect_ratio: float = 0.07
    """A steady change over a sweep spreads the sessions of a cell by 2 % then (its size / root of 12), as much as all
    else on a quiet device does: a figure tells more of when its session was made than of luck."""

    cold_resident_ratio: float = 0.05
    """A load that finds more of its file in memory was not cold. The last pages of a file may stay."""

    missed_ticks_ratio: float = 0.01
    """One tick of a hundred is lost when the kernel is busy; with more, means of samples lean towards quiet moments."""

    gap_periods: float = 5.0
    """Two or three samples late happen on any busy system; five in a row are a moment that nobody watched."""

    clock_uncertainty_s: float = 0.010
    """What a meter measures on the host's clock is cut into phases no finer than this; a token takes 10 to 100 ms."""

    frequency_drop_ratio: float = 0.10
    """Frequencies wander by a few per cent with the governor; a tenth less at the end than at the start is a limit."""

    background_load_ratio: float = 0.10
    """Other programs with more than a tenth of all CPUs take turns, caches and bandwidth that show in the result."""

    cpu_stolen_ratio: float = 0.02
    """A virtual machine that is denied a fiftieth of its time measures its neighbours."""

    swap_bytes: int = 1 << 20
    """Some idle pages of any process may be swapped; weights would be far more."""

    major_faults_hz: float = 20.0
    """After a warm-up a model that fits into memory is not read from the disk again."""

    battery_low_ratio: float = 0.15
    """Android's own limit for its low-battery warning; makers lower clocks from about there."""

    energy_gap_ratio: float = 0.05
    """Up to a twentieth of a window may lie in holes of the samples: with more, its energy is about other moments."""

    baseline_unsteady_ratio: float = 0.10
    """Of the power above rest. Half of the difference is what net energy may be off by: a twentieth of it."""

    wrong_way_ratio: float = 0.05
    """A battery's state lags behind a plug by a second or two; more charge than that on the wrong way is not chance."""

    charge_factor: float = 5.0
    """Units are a factor of 1000 apart. Counters move in steps and gauges average: a factor of 2 proves nothing."""

    meter_lost_ratio: float = 0.001
    """A sample in a thousand that a meter lost, or sent out of order, moves no mean; a hole is a hole all the same."""

    meter_unread_ratio: float = 0.01
    """A reading in a hundred may be garbled on its way; with more, nobody knows what else is."""

    invalid: tuple[str, ...] = ()
    """Codes of reasons that make a run invalid where they would only leave it suspect. None is ever made milder."""
