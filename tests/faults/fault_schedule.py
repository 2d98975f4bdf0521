"""What befalls a sweep, drawn from a seed: the same seed gives the same faults, in words that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from fault_host import HostFault

DEVICES = 8
_CALLS = 260
"""About how many questions a device is asked in an undisturbed sweep of five runs."""
_QUESTIONS = _CALLS * DEVICES
_OPERATIONS = 1500
"""About how many durable operations a host does in an undisturbed sweep."""
_LIVES = 4
"""How many hosts faults may befall; those after them go on in peace."""

_KINDS: Mapping[str, tuple[int, tuple[float, ...]]] = {
    "cable pulled": (5, (1.0, 20.0, 200.0, 3000.0)),
    "adb server killed": (4, (0.5, 3.0)),
    "rebooted": (5, (30.0, 90.0)),
    "battery empty": (3, (900.0, 6000.0)),
    "agent killed": (3, (0.0,)),
    "link frozen": (2, (5.0, 60.0)),
    "disk full": (3, (10.0, 400.0, 4000.0)),
    "clock jumps": (2, (-86_400.0, 3_600.0)),
    "host killed": (7, (0.0,)),
}
"""How often each kind is drawn, and the seconds that it may last, or by which a clock jumps."""

_HOST_KINDS = ("kill", "kill", "kill", "full", "clock", "interrupt")
_JUMPS_S = (-200_000.0, -3.0, 4_000.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens when a device is asked its `call`th question, counted from the sweep's begin.

    `following`: only questions for a journal count, so that a run goes on then. `answered`: the question was done on
    the device, and its answer is lost.
    """

    device: int
    call: int
    kind: str
    for_s: float
    following: bool
    answered: bool

    def __str__(self) -> str:
        lasts = f" ({self.for_s:g} s)" if self.for_s else ""
        when = f"{'after' if self.answered else 'before'} its {'look at a journal' if self.following else 'question'}"
        return f"board-{self.device}: {self.kind}{lasts} {when} {self.call}"


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment in a host's life, wherever it is then: some time after its questions to all devices were so many."""

    questions: int
    after_s: float

    def __str__(self) -> str:
        return f"{self.after_s * 1000:.0f} ms after its question {self.questions}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that befalls one sweep. `killed` are the instants at which hosts are killed, by their number.

    `nights_s` is how long nobody is there after each host. `pooled`: the first so many devices stand in for each other.
    `precise`: cells are measured until they are known well enough.
    """

    seed: int
    faults: tuple[Fault, ...]
    hosts: tuple[tuple[HostFault, ...], ...]
    killed: Mapping[int, Instant]
    nights_s: tuple[float, ...]
    pooled: int = 0
    precise: bool = False

    def __str__(self) -> str:
        until = ", cells are measured until they are known well enough" if self.precise else ""
        lines = [f"seed {self.seed}, {self.pooled or 'no'} devices stand in for each other{until}"]
        lines += map(str, self.faults)
        for number, faults in enumerate(self.hosts):
            lines += [f"{fault} (host {number})" for fault in faults]
        lines += [f"host: killed {instant} (host {number})" for number, instant in self.killed.items()]
        return "\n".join(lines)


def draw(seed: int) -> Schedule:
    """Draw what befalls the sweep of a seed."""
    random = Random(seed)
    names = list(_KINDS)
    faults = []
    for _ in range(random.randint(6, 36)):
        kind = random.choices(names, [_KINDS[name][0] for name in names])[0]
        following = random.random() < 0.5
        faults.append(
            Fault(
                device=random.randrange(DEVICES),
                call=random.randint(1, _CALLS // (3 if following else 1)),
                kind=kind,
                for_s=random.choice(_KINDS[kind][1]) * random.uniform(0.5, 1.5),
                following=following,
                answered=random.random() < 0.4,
            )
        )
    hosts = tuple(tuple(_host_fault(random) for _ in range(random.choice((0, 1, 1, 2)))) for _ in range(_LIVES))
    killed = {
        number: Instant(random.randint(0, random.choice((50, _QUESTIONS))), random.uniform(0.0, 0.05))
        for number in range(_LIVES)
        if random.random() < 0.5
    }
    nights = tuple(random.choice((0.0, 2.0, 5.0, 600.0, 8000.0)) for _ in range(_LIVES))
    pooled, precise = random.choice((0, 0, 3, DEVICES)), random.random() < 0.25
    return Schedule(seed, tuple(faults), hosts, killed, nights, pooled, precise)


def _host_fault(random: Random) -> HostFault:
    return HostFault(
        operation=random.randint(1, random.choice((100, _OPERATIONS))),
        kind=random.choice(_HOST_KINDS),
        after=random.random() < 0.5,
        amount=random.choice(_JUMPS_S),
    )
