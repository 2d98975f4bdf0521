"""What happens while a sweep runs, as small facts that anyone may watch; nothing that watches can change the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from melt.records import DeviceFacts, RunSpec
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
class SweepPlanned:
    """It is known which runs a sweep has, and which of them, `todo`, are still to be done, in order."""

    specs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]


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
class Waiting:
    """A run is held back until `what` has come from `now` to `goal`, both in `unit`, for `left_s` more at most.

    `now` None: not known yet. Unit `1`: yes or no. `device` is the selector of the device that is looked at.
    """

    device: str
    what: str
    now: float | None
    goal: float
    unit: str
    left_s: float


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """A device does not answer: its link is broken, or it starts anew. It is waited for, `left_s` more at most.

    `device` is its selector. Whatever is told of it next says that it is back.
    """

    device: str
    left_s: float


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run is about to start."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A device was looked at for its next run. `device` is its selector."""

    device: str
    facts: DeviceFacts


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run has come further: `done` of `total` requests, warm-ups included, or seconds of a sustained workload.

    `phase` is what goes on now: load, warm-up, what the workload measures (prefill, decode, prefill+decode) or
    collecting. Rates are of the last request.
    """

    run_id: str
    phase: str
    done: int
    total: int
    prefill_tps: float | None = None
    decode_tps: float | None = None
    inferences_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read just now on the device: the hottest plausible temperature, and how full its battery is, 0 to 1.

    None: not read now, or there is no such thing. `device` is its selector.
    """

    device: str
    temperature_c: float | None
    battery_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is in the store."""

    bundle: RunBundle


@dataclass(frozen=True, slots=True)
class RunSpared:
    """A run that was planned is not made, since what it was to tell is known; `why` is a short phrase."""

    spec: RunSpec
    why: str


@dataclass(frozen=True, slots=True)
class RunsMoved:
    """Runs that were planned for `device`, which failed, will be done by `to`; `specs` are what they are now.

    `instead_of` are the ids that they had, in the same order. Some of those may have ended: a cell moves whole.
    """

    device: str
    to: str
    specs: tuple[RunSpec, ...]
    instead_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceDone:
    """A device's part of the sweep is over, whole or not. `device` is its selector."""

    device: str


Event = (
    Note
    | SweepPlanned
    | Preparing
    | Waiting
    | OutOfReach
    | RunBegan
    | DeviceSeen
    | RunProgress
    | Reading
    | RunEnded
    | RunSpared
    | RunsMoved
    | DeviceDone
)
Observer = Callable[[Event], None]
