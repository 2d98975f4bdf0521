"""What an external power meter is: a stream of samples on a clock of its own, and how they are declared.

A meter measures a device from outside, so it hangs on the computer that melt runs on, not on the device. It has its own
crystal. Each batch of samples therefore says between which two moments of this computer's clock one moment of the
meter's lay; `melt.analysis.clockmap` makes a map of many of those.

Nothing is filled in here: what a meter lost is counted, what it did not measure is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from melt.errors import DeviceError
from melt.records import Stream
from melt.telemetry.sites import METER
from melt.traces import Times, Values

COLLECTOR = "meter"
"""The trace of an external meter."""
READ_S = 0.2
"""How long a meter waits for more before it says that there is nothing new."""

VOLTS, AMPS, WATTS, JOULES = "volts", "amps", "watts", "joules"
_DECLARED = {
    VOLTS: ("voltage", "v", "meter_v"),
    AMPS: ("current", "a", "meter_a"),
    WATTS: ("power", "w", "meter_w"),
    JOULES: ("energy", "j", "meter_j"),
}


_Answer = TypeVar("_Answer")


class MeterError(DeviceError):
    """An external power meter does not answer, or stopped to: it is unplugged, in use, or its program ended."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Another clock stood at `there_ns` at some moment between `sent_ns` and `received_ns` of this computer's.

    This computer's clock is `time.monotonic_ns`. A meter that only sends is read `one_way`: `sent_ns` is the arrival
    less the longest time that the fastest of many samples may have been on its way; others may have taken longer.
    """

    sent_ns: int
    there_ns: int
    received_ns: int
    one_way: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """What a meter is. `columns` are among VOLTS, AMPS, WATTS and JOULES, in the order of its samples.

    `accuracy` is its class, the share of the reading by which it may be wrong; `calibration` a sentence on what its
    numbers were calibrated with. None: nobody said. `wraps_at_j` is where its count of joules begins anew.
    """

    name: str
    columns: tuple[str, ...]
    rate_hz: float
    accuracy: float | None = None
    calibration: str | None = None
    wraps_at_j: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples in the order in which they came: `t_ns` (n,) on the meter's clock, `values` (n, columns) in SI units.

    `lost` samples were dropped since the last batch, as far as the meter tells; `unread` is what could not be read as
    samples. `clock` is a moment of the meter's clock, None where there is none to tell.
    """

    t_ns: Times
    values: Values
    clock: ClockReading | None = None
    lost: int = 0
    unread: int = 0


class PowerMeter(Protocol):
    """An external power meter. It is opened once, read by one thread, and closed in every way out."""

    def open(self) -> MeterFacts:
        """Reach the meter and say what it is. Raises MeterError, and UsageError where a package of it is missing."""
        ...

    def start(self) -> None:
        """Begin to sample. Raises MeterError."""
        ...

    def read(self) -> Batch | None:
        """Return what came, None where nothing did within READ_S. Raises MeterError where nothing will any more."""
        ...

    def switch(self, on: bool) -> None:
        """Give the device its power, or take it. Raises UsageError where the meter cannot, MeterError."""
        ...

    def close(self) -> None:
        """Stop sampling and let go of the meter; what it feeds keeps its power. Never raises."""
        ...


def attempt(act: Callable[[], _Answer], trouble: str) -> _Answer:
    """Do what a meter's driver may fail at in ways of its own. Raises MeterError: the trouble, and what it said."""
    try:
        return act()
    except Exception as error:
        raise MeterError(f"{trouble}: {error}") from error


def let_go(*ends: Callable[[], object]) -> None:
    """End what a driver has begun, one after the other, whatever fails of it."""
    for end in ends:
        with suppress(Exception):
            end()


def streams_of(facts: MeterFacts, covers: str) -> tuple[Stream, ...]:
    """Declare a meter's columns, and the power where it follows from volts and amps. `covers` is what it measures."""
    columns = [*facts.columns]
    if WATTS not in columns and {VOLTS, AMPS} <= {*columns}:
        columns.append(WATTS)
    streams = []
    for column in columns:
        quantity, unit, name = _DECLARED[column]
        streams.append(
            Stream(
                collector=COLLECTOR,
                name=name,
                quantity=quantity,
                unit=unit,
                site=f"{METER}{covers}",
                source=facts.name if column in facts.columns else f"{facts.name}, volts times amps",
                rate_hz=facts.rate_hz,
                cumulative=column == JOULES,
                wraps_at=facts.wraps_at_j if column == JOULES else None,
            )
        )
    return tuple(streams)
