"""The boards of the fault suite answer as the agent does: the same questions to one of them and to the real one."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest
from agent_rig import Agent, JobFolder, wait_for
from virtual.simulated.board import Board
from virtual.simulated.recording import Script

from melt.targets.jobfile import File, Group, Job, Prepare, RestoreExec
from melt.telemetry.journal import Event, Journal, Meta, Tick, read_journal

SH = ("sh", "-c", "exit 0")


def job(lasts_s: float) -> Job:
    return Job(
        run_id="r",
        runner=("sleep", str(lasts_s)),
        groups=(Group(1, 100_000_000, (File(0, "/proc/meminfo"), File(1, "/no/such/file"))),),
        prepares=(Prepare("set nvpmodel", SH),),
        restores=(RestoreExec(SH),),
    )


class Device(Protocol):
    """A device with one job folder on it, whose job was started unless `started` is called later."""

    def put(self, lasts_s: float) -> None: ...
    def ask(self, verb: str) -> tuple[int, bytes, bytes]: ...
    def tail(self, offset: int) -> bytes: ...
    def until(self, condition: Callable[[], Any], what: str) -> None: ...
    def kill_agent(self) -> None: ...


class Real:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._path = agent.root / "job"
        self._folder = JobFolder(agent, self._path)

    def put(self, lasts_s: float) -> None:
        self._folder = self._agent.folder(job(lasts_s), self._path)

    def ask(self, verb: str) -> tuple[int, bytes, bytes]:
        done = self._agent.run(verb, self._path)
        return done.returncode, done.stdout, done.stderr

    def tail(self, offset: int) -> bytes:
        return self._agent.run("tail", self._path, str(offset)).stdout

    def until(self, condition: Callable[[], Any], what: str) -> None:
        wait_for(condition, what)

    def kill_agent(self) -> None:
        self._folder.kill("guardian", "worker")


class Simulated:
    def __init__(self) -> None:
        self._lasts_s = 0.0
        self._board = Board("ssh:board", Script(run_s=0.0), Random(0))

    def put(self, lasts_s: float) -> None:
        script = Script(run_s=lasts_s, load_s=lasts_s / 8, warmup_s=lasts_s / 8, repetitions=1, n_gen=2)
        self._board = Board("ssh:board", script, Random(0))
        self._board.push("/jobs/job/job", job(lasts_s).render())

    def ask(self, verb: str) -> tuple[int, bytes, bytes]:
        return self._board.run(("/agents/melt-agent", verb, "/jobs/job"), 30.0)

    def tail(self, offset: int) -> bytes:
        channel = self._board.open(("/agents/melt-agent", "tail", "/jobs/job", str(offset)))
        data = b""
        while more := self._board.read(channel, 1000, 15.0)[0]:
            data += more
        return data

    def until(self, condition: Callable[[], Any], what: str) -> None:
        for _ in range(10_000):
            if condition():
                return
            self._board.advance(0.01)
        pytest.fail(what)

    def kill_agent(self) -> None:
        self._board.kill_agent()


@pytest.fixture(params=["agent", "simulated board"])
def device(request: pytest.FixtureRequest, shipped_agent: Path, tmp_path: Path) -> Any:
    if request.param != "agent":
        yield Simulated()
        return
    agent = Agent(shipped_agent, tmp_path)
    yield Real(agent)
    agent.close()


def answered(device: Device, verb: str) -> dict[str, Any]:
    exit_code, stdout, stderr = device.ask(verb)
    assert exit_code == 0, stderr.decode()
    found: dict[str, Any] = json.loads(stdout)
    return found


def refused(device: Device, verb: str) -> str:
    exit_code, stdout, stderr = device.ask(verb)
    assert exit_code == 1
    assert not stdout.strip()
    return stderr.decode()


def journal(device: Device) -> Journal:
    return read_journal(device.tail(0))


def names(found: Journal) -> list[str]:
    return [one.name for one in found.records if isinstance(one, Event) and one.name != "self"]


def under_way(device: Device) -> None:
    answered(device, "start")
    device.until(lambda: "runner_started" in names(journal(device)), "the runner")


END = {"reason", "t_ns", "exit_code", "signal", "journal_errno", "rebooted", "restored"}


def test_nothing_is_there_before_a_job_is_started(device: Device) -> None:
    for verb in ("status", "stop", "recover"):
        found = answered(device, verb)
        assert (found["state"], found["pid"], found["journal_bytes"], found["end"]) == ("absent", None, 0, None)
    assert "job" in refused(device, "start")
    device.put(60)
    assert answered(device, "status")["state"] == "absent"


def test_a_job_goes_to_its_end_and_is_not_started_twice(device: Device) -> None:
    device.put(0.5)
    started = answered(device, "start")
    assert started.keys() == {"started", "pid", "boot_id"}
    assert answered(device, "status")["state"] == "running"
    assert "this job was started before: use a new folder" in refused(device, "start")
    device.until(lambda: answered(device, "status")["state"] == "ended", "the end")
    assert "this job was started before: use a new folder" in refused(device, "start")
    found = answered(device, "status")
    assert found.keys() == {"state", "pid", "journal_bytes", "t_ns", "end"}
    assert found["end"].keys() == END
    end = found["end"]
    assert (end["reason"], end["exit_code"], end["signal"], end["journal_errno"]) == ("completed", 0, None, None)
    assert end["restored"] == [{"what": "sh -c exit 0", "ok": True}]
    # Nothing changes any more.
    assert [answered(device, verb)["end"] for verb in ("stop", "recover", "status")] == [end] * 3

    whole = device.tail(0)
    assert len(whole) == found["journal_bytes"]
    assert device.tail(100) == whole[100:]
    told = journal(device)
    assert not told.torn
    assert isinstance(told.records[0], Meta)
    assert told.records[0].data["run"] == "r"
    assert names(told) == ["prepared", "runner_started", "runner_exited", "end"]
    prepared = next(one for one in told.records if isinstance(one, Event) and one.name == "prepared")
    assert prepared.data == {"name": "set nvpmodel", "exit_code": 0, "signal": None, "stdout": "", "stderr": ""}
    tick = next(one for one in told.records if isinstance(one, Tick))
    assert tick.contents[0]
    assert (tick.contents[1], tick.errnos) == (None, {1: errno.ENOENT})


def test_a_job_is_stopped_in_order(device: Device) -> None:
    device.put(60)
    under_way(device)
    found = answered(device, "stop")
    assert found["state"] == "ended"
    assert (found["end"]["reason"], found["end"]["exit_code"], found["end"]["signal"]) == ("stopped", None, 15)
    assert found["end"]["restored"] == [{"what": "sh -c exit 0", "ok": True}]
    assert names(journal(device)) == ["prepared", "runner_started", "stop_requested", "runner_exited", "end"]


@pytest.mark.slow
def test_a_job_whose_agent_was_killed_is_dead_until_it_is_recovered(device: Device) -> None:
    device.put(60)
    under_way(device)
    device.kill_agent()
    found = answered(device, "status")
    assert (found["state"], found["end"]) == ("dead", None)
    assert answered(device, "stop")["state"] == "dead"
    assert "this job was started before: use a new folder" in refused(device, "start")
    found = answered(device, "recover")
    assert found["state"] == "ended"
    assert found["end"].keys() == END
    end = found["end"]
    assert (end["reason"], end["exit_code"], end["signal"], end["rebooted"]) == ("recovered", None, None, False)
    assert end["restored"] == [{"what": "sh -c exit 0", "ok": True}]
    assert names(journal(device)) == ["prepared", "runner_started"]
