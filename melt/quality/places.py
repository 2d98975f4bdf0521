"""Where models are evaluated: on this machine in a process of its own, or on a device through its agent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Protocol

from melt.errors import DeviceError, EngineError
from melt.models.files import Progress
from melt.quality import worker
from melt.records import DeviceFacts
from melt.session.connect import Reached, reach
from melt.session.scoring import Program, Work, find_program, score_there
from melt.targets.cpus import default_threads
from melt.targets.readers import OwnFiles
from melt.targets.system import identify, read_facts
from melt.transports.local import LocalTransport


class Place(Protocol):
    """A machine that scores. `threads` is what it has at most for one program."""

    device: DeviceFacts
    engine_version: str
    threads: int

    def score(self, work: Work, see: Callable[[worker.Event], None]) -> None:
        """Do the work; `see` gets the worker's events as they come. Returns when all is scored.

        Raises UsageError or ModelError where text, task or model are to blame, else EngineError; of a device also
        DeviceError.
        """
        ...


class Here:
    """The machine that melt runs on. Raises EngineError where llama-cpp-python is not installed."""

    def __init__(self) -> None:
        self.engine_version = worker.engine_version()
        self.threads = os.cpu_count() or 1
        self.device = this_machine()

    def score(self, work: Work, see: Callable[[worker.Event], None]) -> None:
        """Run the worker."""
        job = dict(work.job())
        paths = [artifact.path for artifact in work.artifacts]
        job["models"] = [{**model, "path": path} for model, path in zip(job["models"], paths, strict=True)]
        for event in worker.score(job, work.data):
            see(event)


def this_machine() -> DeviceFacts:
    """Return the facts of the machine that melt runs on, under the id that its runs have."""
    transport = LocalTransport()
    try:
        return read_facts(identify(transport), transport, OwnFiles(), "local")[0]
    finally:
        transport.close()


class There:
    """A device that was reached. What was begun there outlives this process, and is followed by whoever asks again."""

    def __init__(
        self, device: Reached, facts: DeviceFacts, program: Program, progress: Progress | None, stop: Event
    ) -> None:
        self.device = facts
        self.engine_version = program.engine_version
        self.threads = default_threads(facts)
        self._reached = device
        self._program = program
        self._progress: Progress = progress or (lambda *_: None)
        self._stop = stop

    def score(self, work: Work, see: Callable[[worker.Event], None]) -> None:
        """Have the agent run the program for this device."""
        said: list[worker.Event] = []

        def look(event: worker.Event) -> None:
            if event["event"] == "error":
                said.append(event)
            elif event["event"] == "hello" and event["engine_version"] != self.engine_version:
                found = event["engine_version"]
                said.append({"code": "internal", "message": f"{self.device.name} scores with {found}"})
            else:
                see(event)

        why = score_there(
            self._reached,
            self._program,
            work,
            see=look,
            stop=self._stop,
            say=lambda text: self._progress(f"{self.device.name}: {text}", 0, 0),
            pushed=self._progress,
        )
        if said:
            raise worker.explained(said[0]["code"], said[0]["message"])
        if why is not None:
            # What the user stopped is no failure of one model, after which the others are tried.
            died = DeviceError if self._stop.is_set() else EngineError
            raise died(f"the evaluation on {self.device.name} {why}; {worker.GOES_ON}")


@contextmanager
def reached_place(selector: str, progress: Progress | None, stop: Event) -> Iterator[There]:
    """Reach a device and find out what scores there. `stop` ends what goes on there.

    Raises UsageError, EngineError, DeviceError, TransportError.
    """
    device = reach(selector)
    try:
        facts = read_facts(device.system, device.transport, device.agent, selector)[0]
        say = progress or (lambda *_: None)
        program = find_program(device, facts, lambda text: say(text, 0, 0))
        yield There(device, facts, program, progress, stop)
    finally:
        device.transport.close()
