"""Record the external power meter of a device while a run lasts: started before the agent, stopped after it.

The meter's samples come in on a thread of its own and lie in the run's folder as they came. Its clock is compared with
this computer's all the while, this computer's with the device's before the run and after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Event, Thread

from melt.errors import DeviceError, MeltError
from melt.session.folder import RunFolder
from melt.session.patience import patiently
from melt.targets.agent import AgentClient
from melt.targets.profiles import ExternalMeter
from melt.telemetry.meters import make_meter
from melt.telemetry.meters.base import MeterFacts, PowerMeter
from melt.telemetry.meters.recording import DOCUMENT, Noted, Played, Writer, dump_noted

_ROUND_TRIPS = 50
_BURST_MS = (60, 40, 20, 80, 100, 30, 40, 20, 80, 60, 20, 40, 120)
"""Shifted against itself it is like nothing: 0.7 s in which all CPUs work 0.4 s."""
_TAIL_S = 0.3
"""Samples of the last moment of a run are still on their way when it has ended."""


@dataclass(slots=True)
class _Reader:
    """Reads a meter on a thread of its own until it is told to end; `complaint` is why it ended before that."""

    meter: PowerMeter
    writer: Writer
    complaint: str | None = None
    _ending: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self, say: Callable[[str], None]) -> None:
        """Begin."""

        def read() -> None:
            try:
                while not self._ending.is_set():
                    batch = self.meter.read()
                    if batch is not None:
                        self.writer.append(batch)
            except MeltError as error:
                self._lose(str(error), say)
            except Exception as error:  # noqa: BLE001 - of whatever kind, it means that no more comes
                self._lose(f"{type(error).__name__}: {error}", say)

        self._thread = Thread(target=read, daemon=True)
        self._thread.start()

    def _lose(self, why: str, say: Callable[[str], None]) -> None:
        self.complaint = why
        say(f"the run goes on without its power meter: {why}")

    def end(self) -> None:
        """End, and wait for the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()


def answer(wanted: ExternalMeter) -> MeterFacts:
    """Return what a device's meter says of itself, and let go of it. Raises UsageError, MeterError."""
    meter = make_meter(wanted.kind, wanted.options, wanted.where)
    try:
        return meter.open()
    finally:
        meter.close()


@contextmanager
def metered(
    wanted: ExternalMeter | None,
    folder: RunFolder,
    agent: AgentClient,
    say: Callable[[str], None],
    *,
    stop: Event,
    out_of_reach: Callable[[float], None] = lambda _: None,
) -> Iterator[None]:
    """Record a device's meter into the run's folder. A meter that stops half-way ends no run.

    A device whose link breaks before its run is waited for until `stop` is set. Raises UsageError, MeterError where the
    meter does not answer before the run; TransportError, StoreError.
    """
    if wanted is None:
        yield
        return
    with ExitStack() as held:
        meter = make_meter(wanted.kind, wanted.options, wanted.where)
        held.callback(meter.close)
        facts = meter.open()
        meter.start()
        writer = Writer(folder.path)
        held.callback(writer.close)
        reader = _Reader(meter, writer)
        held.callback(reader.end)
        reader.start(say)
        fresh = Noted(facts=facts, covers=wanted.covers)
        noted = patiently(lambda: _compared(fresh, agent), stop=stop, say=say, out_of_reach=out_of_reach)
        # Who dies now leaves what tells the next melt how far the samples go.
        folder.write_document(DOCUMENT, dump_noted(noted))
        yield
        # Where the device is out of reach now, its clock stays as it was known before.
        with suppress(DeviceError):
            noted = _compared(noted, agent)
        time.sleep(_TAIL_S)
        reader.end()
        end = "stopped" if reader.complaint is None else "lost"
        folder.write_document(DOCUMENT, dump_noted(replace(noted, end=end, complaint=reader.complaint)))


def _compared(noted: Noted, agent: AgentClient) -> Noted:
    """Compare this computer's clock with the device's, and let the device play what the meter will see of it."""
    offset_ns, uncertainty_ns = agent.clock_offset(_ROUND_TRIPS)
    found = (time.monotonic_ns(), offset_ns, uncertainty_ns)
    played = Played(busy_ns=agent.burst(_BURST_MS))
    return replace(noted, device_clock=(*noted.device_clock, found), played=(*noted.played, played))
