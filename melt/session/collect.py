"""Bring a journal home while, or long after, the agent writes it; the link may come and go.

The agent writes a `self` record every second, so a silent follow means a frozen link, not a quiet run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from threading import Event
from typing import BinaryIO

from melt.errors import AgentError, DeviceError, StoreError, TransportError, TransportTimeout
from melt.session.patience import BOOT_S
from melt.targets.agent import AgentClient, Status
from melt.telemetry.journal import JournalReader, Record

POLL_S = 0.2
SILENT_S = 15.0
STALLED_S = 60.0
"""How long an agent that answers may write nothing: it promises a record a second."""
_SYNC_EVERY_S = 1.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Collected:
    """What came home. `end` is the agent's last word, None when it had none. `state` is of the agent's `status`."""

    state: str
    end: dict[str, object] | None
    interrupted: bool


def collect(
    agent: AgentClient,
    job_dir: str,
    journal: Path,
    *,
    see: Callable[[Sequence[Record]], None],
    stop: Event,
    lost_after_s: float = BOOT_S,
    stalled_after_s: float = STALLED_S,
    say: Callable[[str], None] = lambda _: None,
    out_of_reach: Callable[[float], None] = lambda _: None,
    reconnect: Callable[[], AgentClient] | None = None,
) -> Collected:
    """Follow the journal of a job into a file, from where the file ends, until the job has ended.

    `stop` asks for an orderly end: the agent is told to stop, and the rest is still collected. While the device is out
    of reach, `out_of_reach` is told for how many seconds more it is waited for at most, and `reconnect` is asked for
    the same device at another address; what it raises means not yet. An agent that answers but has written nothing for
    `stalled_after_s` hangs: it is told to stop, and when that does not help the state is `stalled`.

    Raises TransportError when the device has been out of reach for `lost_after_s`: the run may be going on and can be
    collected later. Raises StoreError when the host cannot write what arrives.
    """
    reader = JournalReader()
    interrupted = away = False
    complaint = ""
    deadline = 0.0  # counts while the device is away
    with _open(journal) as out:
        see(reader.feed(out.read()))
        progress = _Progress(out.tell())
        while True:
            try:
                if away:
                    agent.status(job_dir)
                    say("the device is back; the run is collected from where it broke off")
                    away = False
                    progress = _Progress(out.tell())
                until = _Until.STOPPED
                if not interrupted:
                    until = _follow(agent, job_dir, out, reader, see, stop, min(SILENT_S, stalled_after_s))
                    interrupted = until is _Until.STOPPED
                if interrupted:
                    agent.stop(job_dir)
                    _drain(agent, job_dir, out, reader, see)
                status = agent.status(job_dir)
                if status.state == "dead":
                    status = agent.recover(job_dir)
                    _drain(agent, job_dir, out, reader, see)
                if status.state == "running" and progress.still_s(out.tell()) > stalled_after_s:
                    say(f"the agent has written nothing for {stalled_after_s:.0f} s: the run is ended")
                    status = _end_stalled(agent, job_dir, out, reader, see)
                if status.state != "running":
                    if until is _Until.SILENT:  # the link froze, and kept back the end of a job that ended meanwhile
                        _drain(agent, job_dir, out, reader, see)
                    _sync(out)
                    return Collected(status.state, status.end, interrupted)
            except TransportError as error:
                if not away:
                    deadline = time.monotonic() + lost_after_s
                if time.monotonic() > deadline or stop.wait(POLL_S):
                    raise
                out_of_reach(max(0.0, deadline - time.monotonic()))
                if not away:
                    wait = f"waiting up to {lost_after_s / 60:.0f} min"
                    say(f"the device is out of reach, the run goes on there; {wait} ({error})")
                elif not error.retryable and str(error) != complaint:
                    # Waiting alone will not help: another key of the host, a dialog on the phone.
                    say(str(error))
                away, complaint = True, str(error)
                if reconnect is not None:
                    with suppress(DeviceError):
                        agent = reconnect()


class _Until(Enum):
    """Why a journal is not followed any more."""

    END = auto()
    STOPPED = auto()
    SILENT = auto()


class _Progress:
    """How long a journal has not grown, while its device could be asked."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._since_s = time.monotonic()

    def still_s(self, size: int) -> float:
        """Return for how many seconds the journal has had this size."""
        if size != self._size:
            self._size, self._since_s = size, time.monotonic()
        return time.monotonic() - self._since_s


def _end_stalled(
    agent: AgentClient, job_dir: str, out: BinaryIO, reader: JournalReader, see: Callable[[Sequence[Record]], None]
) -> Status:
    """Tell a hanging agent to stop; where it does not hear that either, say so: `stalled`."""
    with suppress(AgentError):
        agent.stop(job_dir)
    _drain(agent, job_dir, out, reader, see)
    status = agent.status(job_dir)
    return replace(status, state="stalled") if status.state == "running" else status


def _follow(
    agent: AgentClient,
    job_dir: str,
    out: BinaryIO,
    reader: JournalReader,
    see: Callable[[Sequence[Record]], None],
    stop: Event,
    silent_s: float,
) -> _Until:
    """Copy until the job ends, the caller wants to stop or the link falls silent."""
    synced = heard = time.monotonic()
    with agent.tail(job_dir, out.tell(), follow=True) as channel:
        while not stop.is_set():
            data = channel.read(_CHUNK_BYTES, POLL_S)
            now = time.monotonic()
            if data == b"":
                return _Until.END
            if data is None:
                if now - heard > silent_s:
                    return _Until.SILENT
                continue
            heard = now
            _append(out, data)
            see(reader.feed(data))
            if now - synced > _SYNC_EVERY_S:
                _sync(out)
                synced = now
    return _Until.STOPPED


def _drain(
    agent: AgentClient, job_dir: str, out: BinaryIO, reader: JournalReader, see: Callable[[Sequence[Record]], None]
) -> None:
    """Copy what is there, to its end. Raises TransportTimeout where it does not come."""
    with agent.tail(job_dir, out.tell(), follow=False) as channel:
        while data := channel.read(_CHUNK_BYTES, SILENT_S):
            _append(out, data)
            see(reader.feed(data))
    if data is None:
        raise TransportTimeout(f"no more of the journal came within {SILENT_S:.0f} s: is the link frozen?")


def _open(journal: Path) -> BinaryIO:
    try:
        return journal.open("a+b" if not journal.exists() else "r+b", buffering=0)
    except OSError as error:
        raise StoreError(f"cannot write {journal}: {error.strerror}") from error


def _append(out: BinaryIO, data: bytes) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[out.write(view) :]
    except OSError as error:
        raise StoreError(
            f"cannot write {out.name}: {error.strerror}; the run goes on on the device: make room, then `melt resume`"
        ) from error


def _sync(out: BinaryIO) -> None:
    try:
        os.fdatasync(out.fileno())
    except OSError as error:
        raise StoreError(f"cannot write {out.name}: {error.strerror}; make room, then `melt resume`") from error
