"""What goes wrong in a lab at night, drawn from a seed; and melts, started again until their sweeps are done."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from melt_rig import Melt

from melt.fleet.sweep import Sweep, load, missing
from melt.records import Outcome, RunSpec
from melt.store.store import Store

_ENDED = re.compile(r"\d\d:\d\d:\d\d (\S+): \[\d+/\d+\] (.*?(?: #\d+| \(reference\))): (\w*)")
"""The line with which melt says that a run is in the store: on which device, which run, and the word after it."""
_TICK_S = 0.05
_TRIES = 6
_END_S = 240.0


@dataclass(frozen=True)
class Mishap:
    """Something that goes wrong. What does not pass by itself is ended after `lasts_s`."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object] | None = None
    lasts_s: float = 0.0


@dataclass(frozen=True)
class Due:
    """What happens, and when."""

    at_s: float
    name: str
    act: Callable[[], object]


def draw(rng: Random, mishaps: Sequence[Mishap], for_s: float, every_s: float) -> list[Due]:
    """Draw what happens within a time, about one thing each `every_s`; what has begun ends before it begins again."""
    plan: list[Due] = []
    free_s: dict[str, float] = {}
    at_s = rng.uniform(0.5, 1.5) * every_s
    while at_s < for_s:
        one = rng.choice(mishaps)
        if at_s >= free_s.get(one.name, 0.0):
            plan.append(Due(at_s, one.name, one.begin))
            free_s[one.name] = at_s
            if one.end is not None:
                free_s[one.name] = at_s + rng.uniform(0.3, 1.0) * one.lasts_s
                plan.append(Due(free_s[one.name], f"{one.name} ends", one.end))
        at_s += rng.uniform(0.2, 1.8) * every_s
    return sorted(plan, key=lambda due: due.at_s)


@dataclass
class Night:
    """One sweep, and the melts that work on it one after the other. `said` is what they printed on stderr."""

    melt: Melt
    name: str
    words: tuple[str, ...]
    said: list[str] = field(default_factory=list)
    asked: tuple[RunSpec, ...] = ()
    process: subprocess.Popen[str] | None = None

    def go_on(self) -> None:
        """Start a melt where none works and something is left to do."""
        if self.process is not None and self.process.poll() is None:
            return
        self._listen()
        sweep = self.sweep()
        if sweep is None:
            self.process = self.melt.start(*self.words)
        elif not self.is_done():
            self.process = self.melt.start("resume", sweep.sweep_id)

    def die(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Let the melt that works be killed."""
        if self.process is not None:
            self.process.send_signal(how)

    def finish(self) -> None:
        """Let melts go on, with nothing in their way any more, until the sweep is done."""
        for _ in range(_TRIES):
            if self.process is not None:
                self.process.wait(_END_S)
            self._listen()
            if self.sweep() is not None and self.is_done():
                return
            self.go_on()
        raise AssertionError(f"{self.name} is not done after {_TRIES} melts in peace:\n" + self.log())

    def sweep(self) -> Sweep | None:
        """Return the sweep as it is written down; None as long as it is not."""
        for path in sorted(self.melt.store.glob("sweeps/*.json")):
            found = load(self.melt.store, path.stem)
            if found.specs[0].plan == self.name:
                self.asked = self.asked or found.specs
                return found
        return None

    def is_done(self) -> bool:
        """Whether every run of the sweep has its end."""
        sweep = self.sweep()
        with Store.open(self.melt.store, create=False) as store:
            return sweep is not None and missing(sweep, store)[1] == ()

    def acknowledged(self) -> Counter[tuple[str, str, str]]:
        """Count the runs that were said to be in the store, by device, name and outcome."""
        outcomes = {outcome.value for outcome in Outcome} - {"ok"}
        said = (match for text in self.said for match in map(_ENDED.match, text.splitlines()) if match)
        return Counter((m[1], m[2], m[3] if m[3] in outcomes else "ok") for m in said)

    def log(self) -> str:
        """What was said, a part for each melt."""
        return "\n-- and the next melt --\n".join(self.said)

    def _listen(self) -> None:
        if self.process is not None:
            _, err = self.process.communicate(timeout=60)
            self.said.append(f"{err}(exit {self.process.returncode})\n")
            assert "Traceback" not in err, err
            assert self.process.returncode in (0, 1, -signal.SIGKILL), self.log()
            self.process = None


def live_through(nights: Sequence[Night], plan: Sequence[Due], diary: list[str]) -> None:
    """Let the melts work while what was drawn happens, in its order; then in peace until all is done."""
    began = time.monotonic()
    left = list(plan)
    while left:
        for night in nights:
            night.go_on()
        at_s = time.monotonic() - began
        while left and left[0].at_s <= at_s:
            due = left.pop(0)
            diary.append(f"{at_s:5.1f} s {due.name}")
            due.act()
        time.sleep(_TICK_S)  # What is waited for is the time itself.
    for night in nights:
        night.finish()
