"""Jobs from start to end, on the real binary: what is sampled, supervised, restored and written down."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from agent_rig import Agent, group_exists, is_alive, wait_for

from melt.targets.jobfile import File, Group, Job, Poll, PollTrip, RestoreExec, RestoreWrite, StreamCommand, Trip
from melt.telemetry.journal import Event, read_journal

MS = 1_000_000
SLEEP = ("sleep", "60")


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def reading(*paths: str | Path, every_ms: int = 10) -> tuple[Group, ...]:
    return (Group(1, every_ms * MS, tuple(File(i, str(p)) for i, p in enumerate(paths))),)


def test_a_job_that_completes(agent: Agent) -> None:
    script = "echo out; echo err >&2; printf unfinished; exit 3"
    folder = agent.folder(Job(run_id="run 1", runner=shell(script), timeout_s=20))
    answer = folder.start()
    assert (answer["started"], answer["pid"]) == (True, folder.pid("worker"))
    end = folder.end()
    assert {k: end[k] for k in ("reason", "exit_code", "signal", "journal_errno", "restored")} == {
        "reason": "completed",
        "exit_code": 3,
        "signal": None,
        "journal_errno": None,
        "restored": [],
    }
    journal = folder.journal()
    assert not journal.torn
    assert journal.meta
    assert (journal.meta.data["run"], journal.meta.data["boot_id"]) == ("run 1", answer["boot_id"])
    assert [line.data for line in folder.lines(0)] == [b"out", b"unfinished"]
    assert [line.data for line in folder.lines(1)] == [b"err"]
    (exited,) = folder.events("runner_exited")
    assert exited.data["exit_code"] == 3
    assert exited.data["oom_kill"] in (False, None)
    assert isinstance(exited.data["max_rss_bytes"], int)
    assert exited.data["max_rss_bytes"] > 100_000
    (said,) = folder.events("end")
    assert {"t_ns": said.t_ns, **said.data} == end
    status = folder.status()
    assert (status["state"], status["end"]) == ("ended", end)
    assert status["journal_bytes"] == journal.valid_bytes == (folder.path / "journal").stat().st_size
    assert sorted(p.name for p in folder.path.iterdir()) == ["end", "job", "journal", "pid"]


def test_start_answers_quickly_and_refuses_to_start_twice(agent: Agent) -> None:
    folder = agent.folder(Job(run_id="r", runner=SLEEP))
    started = time.monotonic()
    folder.start()
    assert time.monotonic() - started < 5
    done = agent.run("start", folder.path)
    assert done.returncode == 1
    assert b"started before" in done.stderr
    assert folder.status()["state"] == "running"


def test_status_of_nothing(agent: Agent, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", agent.folder(b"").path):
        answer = agent.json("status", path)
        assert (answer["state"], answer["pid"], answer["end"]) == ("absent", None, None)


def test_the_runner_gets_its_folder_environment_and_cpus(agent: Agent, tmp_path: Path) -> None:
    script = (
        "pwd; echo $A; echo $HOME; grep Cpus_allowed_list /proc/self/status; readlink /proc/self/fd/0; ls /proc/self/fd"
    )
    env = {"A": "x y%=z", "HOME": "/h"}
    folder = agent.started(Job(run_id="r", runner=shell(script), cwd=str(tmp_path), env=env, affinity="0"))
    assert folder.end()["exit_code"] == 0
    said = [line.data for line in folder.lines(0)]
    assert said[:5] == [os.fsencode(tmp_path.resolve()), b"x y%=z", b"/h", b"Cpus_allowed_list:\t0", b"/dev/null"]
    assert len(said[5:]) <= 4, "no descriptor of the agent is handed on"
    (started,) = folder.events("runner_started")
    assert (started.data["affinity_asked"], started.data["affinity"]) == ("0", "0")


def test_an_affinity_that_cannot_be_is_seen_in_the_journal(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=("true",), affinity="1000-1001"))
    folder.end()
    (started,) = folder.events("runner_started")
    assert started.data["affinity_asked"] == "1000-1001"
    assert started.data["affinity"] != "1000-1001"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(run_id="r", runner=("/no/such program",)), "/no/such program: No such file or directory"),
        (Job(run_id="r", runner=("/etc/passwd",)), "/etc/passwd: Permission denied"),
        (Job(run_id="r", runner=("true",), cwd="/no/dir"), "cwd /no/dir: No such file or directory"),
    ],
)
def test_a_runner_that_cannot_start(agent: Agent, job: Job, message: str) -> None:
    folder = agent.started(job)
    end = folder.end()
    assert (end["reason"], end["exit_code"], end["signal"]) == ("runner_not_started", None, None)
    (event,) = folder.events("runner_not_started")
    assert event.data["message"] == message


@pytest.mark.slow
def test_timeout_ends_the_whole_group_even_if_it_ignores_sigterm(agent: Agent) -> None:
    script = "trap '' TERM; (trap '' TERM; echo child $$; sleep 61) & echo ready; sleep 61; sleep 61"
    folder = agent.started(Job(run_id="r", runner=shell(script), timeout_s=0.2))
    runner = wait_for(lambda: folder.pid("runner"), "the runner")
    end = folder.end()
    assert (end["reason"], end["exit_code"], end["signal"]) == ("timeout", None, signal.SIGKILL)
    assert len(folder.events("timeout")) == 1
    wait_for(lambda: not group_exists(runner), "the end of the runner's group")


def test_a_child_that_outlives_the_runner_is_ended(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("sleep 61 & echo $!")))
    assert folder.end()["reason"] == "completed"
    assert not is_alive(int(folder.lines(0)[0].data))


def test_stop_ends_in_order_and_restores(agent: Agent, tmp_path: Path) -> None:
    knob = tmp_path / "a knob"
    knob.write_text("performance and more")
    restores = (RestoreWrite(str(knob), "schedutil"), RestoreExec(("false",)), RestoreWrite("/no/knob", "1"))
    folder = agent.started(Job(run_id="r", runner=SLEEP, linger_s=0.01, restores=restores))
    wait_for(lambda: folder.events("runner_started"), "the runner")
    answer = agent.json("stop", folder.path)
    assert answer["state"] == "ended"
    assert (answer["end"]["reason"], answer["end"]["signal"]) == ("stopped", signal.SIGTERM)
    assert answer["end"]["restored"] == [
        {"what": f"{knob} schedutil", "ok": True},
        {"what": "false", "ok": False},
        {"what": "/no/knob 1", "ok": False},
    ]
    assert knob.read_text() == "schedutil"
    assert len(folder.events("stop_requested")) == 1


def test_a_temperature_trips_after_three_ticks(agent: Agent, tmp_path: Path) -> None:
    heat = tmp_path / "temp"
    heat.write_text("40000\n")
    folder = agent.started(Job(run_id="r", runner=SLEEP, groups=reading(heat), trips=(Trip(0, 90000),)))
    wait_for(lambda: len(folder.ticks()) > 5, "ticks")
    assert not folder.events("tripped")
    heat.write_text("90001\n")
    assert folder.end()["reason"] == "tripped"
    (tripped,) = folder.events("tripped")
    assert tripped.data == {"cid": 0, "value": 90001, "limit": 90000}


def test_what_a_program_prints_trips_after_three_runs(agent: Agent, tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("cached: {value=99, name=cpu,}\nnow: {value=40.5, name=cpu,} {value=99, name=skin}\nstatus: 0\n")
    trips = (PollTrip(3, "status: "), PollTrip(45, "{value=", "name=cpu,"))
    poll = Poll(2, 100 * MS, ("cat", str(said)), trips)
    folder = agent.started(Job(run_id="r", runner=SLEEP, polls=(poll,)))
    wait_for(lambda: len(folder.lines(2)) > 3, "runs of the poll")
    assert not folder.events("tripped")
    said.write_text("now: {value=46.0, name=cpu,}\nstatus: 3\n")
    assert folder.end()["reason"] == "tripped"
    (tripped,) = folder.events("tripped")
    assert tripped.data == {"sid": 2, "poll_trip": 1, "value": 46, "limit": 45}


def test_contents_equal_the_files_and_unchanged_ones_cost_nothing(agent: Agent, tmp_path: Path) -> None:
    fixed, moving, empty = (tmp_path / name for name in ("fixed", "moving", "empty"))
    fixed.write_bytes(b"x" * 3000)
    moving.write_bytes(b"0")
    empty.write_bytes(b"")
    groups = reading(fixed, moving, empty, tmp_path / "none", "/proc/{pid}/comm")
    folder = agent.started(Job(run_id="r", runner=SLEEP, groups=groups))
    wait_for(lambda: len(folder.ticks()) > 20, "ticks")
    moving.write_bytes(b"12")
    wait_for(lambda: folder.ticks()[-1].contents[1] == b"12", "the change")
    agent.json("stop", folder.path)
    ticks = folder.ticks()
    assert {t.contents[0] for t in ticks} == {b"x" * 3000}
    assert {t.contents[2] for t in ticks} == {b""}
    assert {t.errnos[3] for t in ticks} == {2}
    assert [t.errnos.get(4) for t in ticks if t.contents[4] is None] == [3] * sum(t.contents[4] is None for t in ticks)
    assert b"sleep\n" in {t.contents[4] for t in ticks}
    assert folder.journal().valid_bytes < 3000 * 2 + 200 * len(ticks) + 10_000
    gaps = [b.t_ns - a.t_ns for a, b in pairwise(ticks)]
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(10 * MS, rel=0.2)


def test_a_long_file_is_cut_and_a_paged_one_is_whole(agent: Agent) -> None:
    files = (File(1, "/proc/kallsyms", 60000), File(2, "/proc/version", 10))
    folder = agent.started(Job(run_id="r", linger_s=0.1, groups=(Group(9, 50 * MS, files),)))
    folder.end()
    tick = folder.ticks()[0]
    assert tick.contents == (Path("/proc/kallsyms").read_bytes()[:60000], Path("/proc/version").read_bytes()[:10])


def test_groups_have_their_own_rates(agent: Agent) -> None:
    groups = (Group(7, 10 * MS, (File(1, "/proc/uptime"),)), Group(300, 100 * MS, (File(2, "/proc/uptime"),)))
    folder = agent.started(Job(run_id="r", linger_s=1.0, groups=groups))
    folder.end()
    counts = {gid: sum(t.gid == gid for t in folder.ticks()) for gid in (7, 300)}
    last = folder.events("self")[-1].data
    assert last["ticks"] == {"7": counts[7], "300": counts[300]}
    assert counts[7] + last["missed"]["7"] in range(98, 104)  # type: ignore[index]
    assert counts[300] + last["missed"]["300"] in range(10, 13)  # type: ignore[index]


def test_ticks_missed_while_the_agent_was_stopped_are_counted_not_piled_up(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=SLEEP, groups=reading("/proc/uptime")))
    wait_for(lambda: len(folder.ticks()) > 5, "ticks")
    worker = folder.pid("worker")
    assert worker
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(worker, signal.SIGCONT)
    seen = len(folder.ticks())
    wait_for(lambda: len(folder.ticks()) > seen + 20, "further ticks")
    agent.json("stop", folder.path)
    ticks = folder.ticks()
    missed = folder.events("self")[-1].data["missed"]["1"]  # type: ignore[index]
    widest = max(b.t_ns - a.t_ns for a, b in pairwise(ticks))
    assert missed >= widest // (10 * MS) - 2 >= 45
    # What was missed before the first tick, where the machine was busy, is counted too: from the job's begin at most.
    meta = folder.journal().meta
    assert meta
    begun_ns = meta.data["t_ns"]
    assert isinstance(begun_ns, int)
    spans = [(ticks[-1].t_ns - first_ns) / (10 * MS) + 1 for first_ns in (ticks[0].t_ns, begun_ns)]
    assert spans[0] - 1.01 <= len(ticks) + missed <= spans[1] + 1.01


def test_five_hundred_files(agent: Agent, tmp_path: Path) -> None:
    for i in range(500):
        (tmp_path / f"f{i}").write_text(f"{i}\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        groups = reading(*(tmp_path / f"f{i}" for i in range(500)), every_ms=100)
        folder = agent.started(Job(run_id="r", runner=shell("ulimit -n"), linger_s=0.2, groups=groups))
        folder.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert folder.ticks()[0].contents == tuple(f"{i}\n".encode() for i in range(500))
    assert folder.lines(0)[0].data == b"256", "the runner has the limit that the host had"


def test_ten_megabytes_without_a_newline_come_in_pieces(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("head -c 10485770 /dev/zero | tr '\\0' x; echo; echo next")))
    folder.end()
    *cut, last, after = folder.lines(0)
    assert [(line.cut, len(line.data)) for line in cut] == [(True, 1 << 20)] * 10
    assert (last.cut, last.data, after.data) == (False, b"x" * 10, b"next")


def test_a_runner_that_closes_its_output_is_still_waited_for(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("exec >&- 2>&-; sleep 0.3; exit 4")))
    assert folder.end()["exit_code"] == 4


def test_many_lines_arrive_whole_and_in_order(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("seq 200000")))
    folder.end()
    assert [line.data for line in folder.lines(0)] == [b"%d" % i for i in range(1, 200001)]


def test_a_stream_is_stamped_and_ended_with_the_job(agent: Agent) -> None:
    streams = (StreamCommand(2, shell("while :; do echo tick; sleep 0.05; done")),)
    folder = agent.started(Job(run_id="r", runner=shell("sleep 0.4"), streams=streams))
    folder.end()
    lines = folder.lines(2)
    assert len(lines) >= 3
    assert [line.t_ns for line in lines] == sorted(line.t_ns for line in lines)
    assert not folder.events("stream_ended")
    stream = folder.pid("program")
    assert stream
    assert not is_alive(stream)


@pytest.mark.slow
def test_a_stream_that_dies_is_started_three_times_more(agent: Agent) -> None:
    streams = (
        StreamCommand(2, shell("echo once; echo why >&2; exit 5")),
        StreamCommand(3, ("/no/stream",)),
    )
    folder = agent.started(Job(run_id="r", runner=SLEEP, streams=streams))
    wait_for(lambda: len(folder.events("stream_ended")) == 8, "all restarts")
    agent.json("stop", folder.path)
    dead = [e.data for e in folder.events("stream_ended") if e.data["sid"] == 2]
    assert [e["restarts"] for e in dead] == [0, 1, 2, 3]
    assert {(e["exit_code"], e["signal"], e["stderr"]) for e in dead} == {(5, None, "why\n")}
    never = next(e.data for e in folder.events("stream_ended") if e.data["sid"] == 3)
    assert (never["exit_code"], never["stderr"]) == (None, "/no/stream: No such file or directory")
    assert [line.data for line in folder.lines(2)] == [b"once"] * 4


def test_linger_samples_before_and_after(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("sleep 0.1"), linger_s=0.2, groups=reading("/proc/uptime")))
    folder.end()
    (started,), (exited,) = folder.events("runner_started"), folder.events("runner_exited")
    times = [t.t_ns for t in folder.ticks()]
    assert started.t_ns - times[0] > 180 * MS
    assert times[-1] - exited.t_ns > 170 * MS


def test_a_recovery_is_watched_after_the_runner_alone(agent: Agent) -> None:
    job = Job(run_id="r", runner=shell("true"), linger_s=0.05, recovery_s=0.4, groups=reading("/proc/uptime"))
    folder = agent.started(job)
    folder.end()
    (started,), (exited,) = folder.events("runner_started"), folder.events("runner_exited")
    times = [t.t_ns for t in folder.ticks()]
    assert 40 * MS < started.t_ns - times[0] < 300 * MS
    assert times[-1] - exited.t_ns > 370 * MS


def test_heat_in_the_rest_is_told_and_a_stop_ends_the_rest_alone(agent: Agent, tmp_path: Path) -> None:
    heat, knob = tmp_path / "heat", tmp_path / "knob"
    heat.write_text("40\n")
    knob.write_text("changed")
    folder = agent.started(
        Job(
            run_id="r",
            runner=shell("true"),
            recovery_s=3600.0,
            groups=reading(heat),
            trips=(Trip(0, 90),),
            restores=(RestoreWrite(str(knob), "before"),),
        )
    )
    wait_for(lambda: folder.events("runner_exited"), "the end of the runner")
    heat.write_text("91\n")
    wait_for(lambda: folder.events("tripped"), "the trip")
    wait_for(lambda: folder.ticks()[-1].t_ns > folder.events("tripped")[0].t_ns, "sampling that goes on")
    assert knob.read_text() == "changed"
    agent.json("stop", folder.path)
    end = folder.end()
    assert (end["reason"], end["exit_code"]) == ("completed", 0)
    assert knob.read_text() == "before"


@pytest.mark.parametrize(
    "said",
    [
        b"\0status: 9",
        b"status: ",
        b"status: x9\nstatus:9\n",
        b"status: -99999999999999999999999999999999999999999\n",
        b"\xff" * 2_000_000 + b"status: 9\n",
        b"status: 9\nstatus: 1 besides",
    ],
)
def test_what_is_no_number_over_the_limit_trips_nothing(agent: Agent, tmp_path: Path, said: bytes) -> None:
    (tmp_path / "said").write_bytes(said)
    poll = Poll(2, 100 * MS, ("cat", str(tmp_path / "said")), (PollTrip(10, "status: "), PollTrip(3, "status: ", "be")))
    folder = agent.started(Job(run_id="r", runner=SLEEP, polls=(poll,)))
    wait_for(lambda: len(folder.lines(2)) > 4, "runs of the poll")
    assert not folder.events("tripped")
    agent.json("stop", folder.path)


def test_tail_follows_to_the_end(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=shell("echo a; sleep 0.3; echo b"), groups=reading("/proc/uptime")))
    done = agent.run("tail", folder.path, "0", "--follow")
    assert done.stdout == (folder.path / "journal").read_bytes()
    assert isinstance(read_journal(done.stdout).records[-1], Event)
    assert agent.run("tail", folder.path, "20").stdout == done.stdout[20:]
    assert agent.run("tail", folder.path, str(10**9)).stdout == b""
    missing = agent.run("tail", folder.path / "x", "0")
    assert (missing.returncode, missing.stderr.count(b"\n")) == (1, 1)


def test_the_observer_is_measured(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", linger_s=1.2, groups=reading("/proc/uptime")))
    folder.end()
    own = folder.events("self")
    assert len(own) >= 3
    for event in own:
        assert event.data["cpu_ns"] > 0  # type: ignore[operator]
        assert event.data["rss_bytes"] > 0  # type: ignore[operator]
        assert event.data["journal_bytes"] >= 16  # type: ignore[operator]


def test_the_caller_is_not_kept_waiting_by_open_pipes(agent: Agent) -> None:
    """A shell over adb or SSH returns only when nobody holds its output any more."""
    folder = agent.folder(Job(run_id="r", runner=SLEEP))
    read_end, write_end = os.pipe()
    subprocess.run(
        [agent.binary, "start", folder.path],
        stdout=write_end,
        stderr=write_end,
        pass_fds=[write_end],
        env=agent.env,
        check=True,
    )
    os.close(write_end)
    assert os.read(read_end, 1000)
    assert os.read(read_end, 1000) == b""
    os.close(read_end)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_job_has_a_session_of_its_own(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=SLEEP))
    worker = folder.pid("worker")
    assert worker
    assert os.getsid(worker) not in (os.getsid(0), worker)
