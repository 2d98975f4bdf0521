"""A journal comes home whole over a link that breaks, stalls and returns: the real agent behind a faulty transport."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from melt.errors import StoreError, TransportError
from melt.session.collect import collect
from melt.targets.agent import AgentClient
from melt.targets.jobfile import File, Group, Job
from melt.telemetry.journal import Record, read_journal
from melt.transports.base import Channel, Completed
from melt.transports.local import LocalTransport


class Faulty(LocalTransport):
    """Breaks after so many reads of a channel, and for a while lets nothing start."""

    def __init__(self, reads_before_break: int, refusals: int) -> None:
        super().__init__()
        self._reads = reads_before_break
        self._refusals = refusals
        self._refusing = 0
        self.breaks = 0
        self.armed = False

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        self._maybe_refuse()
        return super().run(argv, timeout_s=timeout_s, stdin=stdin)

    def open(self, argv: Sequence[str]) -> Channel:
        self._maybe_refuse()
        channel = super().open(argv)
        if self.armed:
            reads = itertools.count()
            read = channel.read

            def breaking(size: int, timeout_s: float) -> bytes | None:
                if next(reads) >= self._reads:
                    self.breaks += 1
                    self._refusing = self._refusals
                    raise TransportError("the link broke")
                return read(min(size, 200), timeout_s)

            channel.read = breaking  # type: ignore[method-assign]
        return channel

    def _maybe_refuse(self) -> None:
        if self._refusing:
            self._refusing -= 1
            raise TransportError("the link is down")


def _job(path: Path, seconds: float) -> Job:
    file = path / "value"
    file.write_text("1\n")
    return Job(run_id="r", runner=("sleep", str(seconds)), groups=(Group(0, 5_000_000, (File(0, str(file)),)),))


@pytest.fixture
def agent(tmp_path: Path) -> tuple[AgentClient, Faulty]:
    transport = Faulty(reads_before_break=4, refusals=3)
    client = AgentClient(transport, str(tmp_path / "device"))
    client.deploy()
    return client, transport


def _start(client: AgentClient, tmp_path: Path, seconds: float) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "job").write_bytes(_job(tmp_path, seconds).render())
    client.start(str(folder))
    return folder


@pytest.mark.slow
def test_a_link_that_keeps_breaking_loses_nothing(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, transport = agent
    folder = _start(client, tmp_path, 1.0)
    transport.armed = True
    seen: list[Record] = []
    said: list[str] = []
    collected = collect(client, str(folder), tmp_path / "home", see=seen.extend, stop=Event(), say=said.append)
    assert transport.breaks > 3
    assert said[0].startswith("the device is out of reach, the run goes on there; waiting up to 5 min (the link ")
    assert said[1].startswith("the device is back")
    assert collected.state == "ended"
    assert (tmp_path / "home").read_bytes() == (folder / "journal").read_bytes()
    assert seen == read_journal(folder / "journal").records


def test_a_device_that_is_back_at_another_address_is_followed_there(
    agent: tuple[AgentClient, Faulty], tmp_path: Path
) -> None:
    client, transport = agent
    folder = _start(client, tmp_path, 1.0)
    transport.armed, transport._refusals = True, 10**9
    other = AgentClient(LocalTransport(), str(tmp_path / "device"))
    attempts = itertools.count()

    def reconnect() -> AgentClient:
        if next(attempts) == 0:
            raise TransportError("not there yet either")
        other.deploy()
        return other

    collected = collect(client, str(folder), tmp_path / "home", see=lambda _: None, stop=Event(), reconnect=reconnect)
    assert collected.state == "ended"
    assert (tmp_path / "home").read_bytes() == (folder / "journal").read_bytes()


def test_a_half_collected_journal_is_gone_on_with(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, _ = agent
    folder = _start(client, tmp_path, 0.2)
    collect(client, str(folder), tmp_path / "whole", see=lambda _: None, stop=Event())
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    seen: list[Record] = []
    collect(client, str(folder), tmp_path / "half", see=seen.extend, stop=Event())
    assert (tmp_path / "half").read_bytes() == whole
    assert seen == read_journal(whole).records


def test_a_device_that_stays_away_is_given_up(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, transport = agent
    folder = _start(client, tmp_path, 0.2)
    transport.armed, transport._reads, transport._refusals = True, 0, 10**9
    left_s: list[float] = []
    with pytest.raises(TransportError, match="link"):
        collect(
            client,
            str(folder),
            tmp_path / "home",
            see=lambda _: None,
            stop=Event(),
            lost_after_s=0.5,
            out_of_reach=left_s.append,
        )
    assert left_s == sorted(left_s, reverse=True)
    assert 0.0 <= left_s[-1] <= left_s[0] <= 0.5


@pytest.mark.slow
def test_the_patience_counts_from_the_break_and_not_from_the_beginning(
    agent: tuple[AgentClient, Faulty], tmp_path: Path
) -> None:
    client, transport = agent
    folder = _start(client, tmp_path, 2.5)
    never, patience_s = 10**9, 1.0
    transport.armed, transport._reads, transport._refusals = True, never, 1
    begun = time.monotonic()

    def see(_: Sequence[Record]) -> None:
        if not transport.breaks and time.monotonic() > begun + patience_s + 0.5:
            transport._reads = 0

    def say(text: str) -> None:
        if "out of reach" in text:
            transport._reads = never

    collected = collect(client, str(folder), tmp_path / "home", see=see, stop=Event(), lost_after_s=patience_s, say=say)
    assert (transport.breaks, collected.state) == (1, "ended")


def test_a_link_that_freezes_over_the_end_of_a_run_loses_nothing(
    agent: tuple[AgentClient, Faulty], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, transport = agent
    folder = _start(client, tmp_path, 0.3)
    opened, first = transport.open, Event()

    def freezing(argv: Sequence[str]) -> Channel:
        channel = opened(argv)
        if not first.is_set():
            first.set()
            reads, read = itertools.count(), channel.read

            def silent(size: int, timeout_s: float) -> bytes | None:
                if next(reads) < 2:
                    return read(min(size, 200), timeout_s)
                Event().wait(timeout_s)
                return None

            channel.read = silent  # type: ignore[method-assign]
        return channel

    monkeypatch.setattr(transport, "open", freezing)
    home = tmp_path / "home"
    collected = collect(client, str(folder), home, see=lambda _: None, stop=Event(), stalled_after_s=1.0)
    assert collected.state == "ended"
    assert home.read_bytes() == (folder / "journal").read_bytes()


@pytest.mark.slow
def test_an_agent_that_hangs_is_told_to_stop(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, _ = agent
    folder = _start(client, tmp_path, 600)
    worker = client.status(str(folder)).pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(worker, signal.SIGCONT)

    collected = collect(
        client, str(folder), tmp_path / "home", see=lambda _: None, stop=Event(), say=say, stalled_after_s=1.5
    )
    assert said == ["the agent has written nothing for 2 s: the run is ended"]
    assert not collected.interrupted
    assert collected.end is not None
    assert collected.end["reason"] == "stopped"
    assert (tmp_path / "home").read_bytes() == (folder / "journal").read_bytes()


def test_stop_ends_the_run_in_order(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, _ = agent
    folder = _start(client, tmp_path, 600)
    stop = Event()

    def see(records: Sequence[Record]) -> None:
        if records:
            stop.set()

    collected = collect(client, str(folder), tmp_path / "home", see=see, stop=stop)
    assert collected.interrupted
    assert collected.end is not None
    assert collected.end["reason"] == "stopped"
    assert (tmp_path / "home").read_bytes() == (folder / "journal").read_bytes()


def test_a_host_that_cannot_write_says_so(agent: tuple[AgentClient, Faulty], tmp_path: Path) -> None:
    client, _ = agent
    folder = _start(client, tmp_path, 0.2)
    with pytest.raises(StoreError, match="nowhere"):
        collect(client, str(folder), tmp_path / "nowhere" / "home", see=lambda _: None, stop=Event())
