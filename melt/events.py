"""What happens while a sweep runs, as small facts that anyone may watch; nothing that watches can change the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from melt.records import RunSpec
from melt.traces import RunBundle


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence worth saying once: a missing sensor, a recovered run. `run_id` None: about the whole sweep.

    `device` is the selector of the device it is about, None where it is about none.
    """

    text: str
    run_id: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Preparing:
    """Something takes time before runs can start. `total` 0: nobody knows how much there is.

    `device` is the selector of the device that waits, None where it is the host's own work.
    """

    what: str
    done: int
    total: int
    device: str | None = None


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run is about to start."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run has come further: `done` of `total` requests, warm-ups included, or seconds of a sustained workload.

    Rates are of the last request.
    """

    run_id: str
    phase: str
    done: int
    total: int
    prefill_tps: float | None = None
    decode_tps: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The hottest plausible temperature seen just now on the device, in degrees Celsius."""

    run_id: str
    temperature_c: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is in the store."""

    bundle: RunBundle


Event = Note | Preparing | RunBegan | RunProgress | Reading | RunEnded
Observer = Callable[[Event], None]
