"""Programs that a job runs beside the runner: what prepares the device before it, and what is polled meanwhile."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from agent_rig import Agent, JobFolder, group_exists, is_alive, wait_for

from melt.targets.jobfile import File, Group, Job, Poll, Prepare, RestoreWrite, StreamCommand, Trip

pytestmark = pytest.mark.slow

MS = 1_000_000
SLEEP = ("sleep", "60")


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def programs(folder: JobFolder) -> list[int]:
    lines = (folder.path / "pid").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("program ")]


class TestPoll:
    def test_all_that_one_run_prints_is_one_record_on_the_grid(self, agent: Agent) -> None:
        polls = (Poll(2, 100 * MS, shell("echo one; echo; printf two")),)
        groups = (Group(0, 100 * MS, (File(0, "/proc/uptime"),)),)
        folder = agent.started(Job(run_id="r", runner=shell("sleep 1"), groups=groups, polls=polls))
        folder.end()
        lines = folder.lines(2)
        assert {line.data for line in lines} == {b"one\n\ntwo"}
        assert not any(line.cut for line in lines)
        assert len(lines) >= 8
        first_ns = folder.ticks()[0].t_ns
        off_ns = [abs((line.t_ns - first_ns + 50 * MS) % (100 * MS) - 50 * MS) for line in lines]
        assert sorted(off_ns)[len(off_ns) // 2] < 20 * MS
        assert not folder.events("poll_failed")

    def test_one_that_overruns_is_not_run_twice_at_once(self, agent: Agent, tmp_path: Path) -> None:
        lock = f"mkdir {tmp_path}/here || echo twice; sleep 0.13; rmdir {tmp_path}/here"
        folder = agent.started(Job(run_id="r", runner=shell("sleep 1.2"), polls=(Poll(2, 100 * MS, shell(lock)),)))
        folder.end()
        lines = folder.lines(2)
        assert {line.data for line in lines} == {b""}
        assert 3 <= len(lines) <= 7
        assert all(b.t_ns - a.t_ns > 130 * MS for a, b in pairwise(lines))

    def test_a_failing_streak_is_said_once(self, agent: Agent, tmp_path: Path) -> None:
        good = tmp_path / "good"
        script = f"echo kept; test -e {good} || {{ echo why >&2; exit 3; }}"
        polls = (Poll(2, 100 * MS, shell(script)), Poll(3, 100 * MS, ("/no/program",)))
        folder = agent.started(Job(run_id="r", runner=SLEEP, polls=polls))

        def failed(sid: int) -> list[dict[str, object]]:
            return [e.data for e in folder.events("poll_failed") if e.data["sid"] == sid]

        wait_for(lambda: len(folder.lines(2)) >= 3, "some runs that fail")
        assert failed(2) == [{"sid": 2, "exit_code": 3, "signal": None, "stderr": "why\n"}]
        good.touch()
        n = len(folder.lines(2))
        wait_for(lambda: len(folder.lines(2)) >= n + 2, "runs that work")
        good.unlink()
        wait_for(lambda: len(failed(2)) == 2, "the next streak")
        agent.json("stop", folder.path)
        stderr = "/no/program: No such file or directory"
        assert failed(3) == [{"sid": 3, "exit_code": None, "signal": None, "stderr": stderr}]
        assert not folder.lines(3)

    def test_more_than_a_mebibyte_is_cut_and_not_waited_for(self, agent: Agent) -> None:
        polls = (Poll(2, 100 * MS, shell("head -c 3000000 /dev/zero | tr '\\0' x")),)
        folder = agent.started(Job(run_id="r", runner=SLEEP, polls=polls))
        line = wait_for(lambda: folder.lines(2), "a run")[0]
        agent.json("stop", folder.path)
        assert (len(line.data), line.cut) == (1 << 20, True)

    def test_one_that_ran_its_last_is_gone_with_the_job(self, agent: Agent) -> None:
        polls = (Poll(2, 100 * MS, shell("echo $$; sleep 61 & sleep 62")),)
        folder = agent.started(Job(run_id="r", runner=SLEEP, polls=polls))
        (poll,) = wait_for(lambda: programs(folder), "the poll's process")
        agent.json("stop", folder.path)
        wait_for(lambda: not group_exists(poll), "the end of what it started")
        assert not folder.lines(2)
        assert not folder.events("poll_failed")

    @pytest.mark.slow
    def test_one_that_hangs_is_killed_after_ten_seconds(self, agent: Agent) -> None:
        folder = agent.started(Job(run_id="r", runner=SLEEP, polls=(Poll(2, 100 * MS, shell("echo half; sleep 60")),)))
        (failed,) = wait_for(lambda: folder.events("poll_failed"), "the end of the patience")
        agent.json("stop", folder.path)
        assert (failed.data["exit_code"], failed.data["signal"]) == (None, signal.SIGKILL)
        assert not folder.lines(2), "half an output is none"


class TestPrepare:
    def test_each_is_waited_for_in_order_before_the_runner(self, agent: Agent, tmp_path: Path) -> None:
        told = tmp_path / "told"
        prepares = (
            Prepare("first", shell(f"sleep 0.1; echo first >> {told}; echo 'was: \"on\"'")),
            Prepare("fails", shell(f"echo fails >> {told}; echo no >&2; exit 5")),
            Prepare("is not there", ("/no/program",)),
            Prepare("long", shell("head -c 9000 /dev/zero | tr '\\0' x")),
        )
        job = Job(run_id="r", runner=shell(f"echo runner >> {told}"), prepares=prepares, linger_s=0.1)
        folder = agent.started(job)
        assert folder.end()["reason"] == "completed"
        assert told.read_text().split() == ["first", "fails", "runner"]
        prepared = folder.events("prepared")
        (started,) = folder.events("runner_started")
        assert started.t_ns - prepared[-1].t_ns >= 100 * MS, "they come before the lingering"
        missing = "/no/program: No such file or directory"
        assert [tuple(e.data.values()) for e in prepared] == [
            ("first", 0, None, 'was: "on"\n', ""),
            ("fails", 5, None, "", "no\n"),
            ("is not there", None, None, "", missing),
            ("long", 0, None, "x" * 4096, ""),
        ]

    def test_a_job_without_a_runner_is_prepared_too(self, agent: Agent) -> None:
        folder = agent.started(Job(run_id="r", linger_s=0.05, prepares=(Prepare("p", ("true",)),)))
        assert folder.end()["reason"] == "completed"
        assert len(folder.events("prepared")) == 1

    def test_a_stop_ends_it_in_order(self, agent: Agent, tmp_path: Path) -> None:
        folder, knob = changing_a_knob(agent, tmp_path)
        answer = agent.json("stop", folder.path)
        assert (answer["end"]["reason"], answer["end"]["exit_code"]) == ("stopped", None)
        assert knob.read_text() == "as before"
        (prepared,) = folder.events("prepared")
        assert (prepared.data["name"], prepared.data["signal"]) == ("changes", signal.SIGKILL)
        assert not folder.events("runner_started")

    def test_a_trip_ends_it_in_order(self, agent: Agent, tmp_path: Path) -> None:
        hot = tmp_path / "hot"
        hot.write_text("1")
        groups = (Group(0, 10 * MS, (File(0, str(hot)),)),)
        folder, knob = changing_a_knob(agent, tmp_path, groups=groups, trips=(Trip(0, 90),))
        hot.write_text("91")
        assert folder.end()["reason"] == "tripped"
        assert knob.read_text() == "as before"
        assert not folder.events("runner_started")

    @pytest.mark.parametrize("killed", [("worker",), ("guardian", "worker"), ("guardian",)], ids="+".join)
    def test_knobs_are_restored_after_every_kind_of_death(
        self, agent: Agent, tmp_path: Path, killed: tuple[str, ...]
    ) -> None:
        folder, knob = changing_a_knob(agent, tmp_path)
        running = programs(folder)
        folder.kill(*killed)
        if killed == ("guardian", "worker"):
            agent.json("recover", folder.path)
        elif killed == ("guardian",):
            agent.json("stop", folder.path)
        end = folder.end()
        assert end["restored"] == [{"what": f"{knob} as before", "ok": True}]
        assert knob.read_text() == "as before"
        wait_for(lambda: not any(is_alive(pid) or group_exists(pid) for pid in running), "the end of the programs")

    @pytest.mark.slow
    def test_one_that_hangs_is_killed_and_the_runner_started(self, agent: Agent) -> None:
        folder = agent.started(Job(run_id="r", runner=("true",), prepares=(Prepare("hangs", SLEEP),)))
        assert folder.end()["reason"] == "completed"
        assert folder.events("prepared")[0].data["signal"] == signal.SIGKILL


def changing_a_knob(agent: Agent, tmp_path: Path, **more: object) -> tuple[JobFolder, Path]:
    """Return a job that has set a knob and hangs in the middle of its preparing, beside a stream and a poll."""
    knob = tmp_path / "knob"
    knob.write_text("as before")
    prepares = (Prepare("changes", shell(f"printf new > {knob}; sleep 63 & sleep 64")), Prepare("later", ("true",)))
    job = Job(
        run_id="r",
        runner=SLEEP,
        prepares=prepares,
        streams=(StreamCommand(2, SLEEP),),
        polls=(Poll(3, 100 * MS, SLEEP),),
        restores=(RestoreWrite(str(knob), "as before"),),
        **more,  # type: ignore[arg-type]
    )
    folder = agent.started(job)
    wait_for(lambda: knob.read_text() == "new" and len(programs(folder)) == 3, "the knob to be set")
    assert all(os.getpgid(pid) == pid for pid in programs(folder))
    return folder, knob
