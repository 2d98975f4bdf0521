"""The steps of a self-test as they are taken: one that fails is told, and the next one is tried all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from melt.analysis.selftest import Finding, Status, Step, verdict
from melt.errors import MeltError

Say = Callable[[str], None]
_PAUSE_S = 0.05


class Course:
    """Takes steps one after the other and keeps what they found. `say` is told of each; `stop` ends the course."""

    def __init__(self, say: Say, stop: Event) -> None:
        self.steps: list[Step] = []
        self.say = say
        self.stop = stop

    def take(self, room: str, name: str, check: Callable[[], Finding]) -> Finding:
        """Take a step; an error of melt's is a failure with that sentence. Raises KeyboardInterrupt once stopped."""
        self._go_on()
        self.say(f"{room}: {name}")
        began = time.monotonic()
        try:
            finding = check()
        except MeltError as error:
            finding = verdict(False, str(error))
        # What was stopped is no finding.
        self._go_on()
        return self.found(room, name, finding, time.monotonic() - began)

    def found(self, room: str, name: str, finding: Finding, duration_s: float = 0.0) -> Finding:
        """Keep what another step's work showed as well."""
        if finding.status is Status.FAIL:
            self.say(f"{room}: {name} FAILED: {finding.said}")
        self.steps.append(Step(room=room, name=name, finding=finding, duration_s=duration_s))
        return finding

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt


def until(condition: Callable[[], object], within_s: float) -> bool:
    """Ask a device again and again until a condition holds; False when it did not in time. Raises what it raises."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)  # between two questions: nothing on the device could wake us
    return True
