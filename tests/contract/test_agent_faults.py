"""What goes wrong on real devices: processes killed, disks full, machines rebooted. Nothing collected is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import Agent, JobFolder, group_exists, is_alive, wait_for

from melt.targets.jobfile import File, Group, Job, Poll, Prepare, RestoreExec, RestoreWrite, StreamCommand
from melt.telemetry.journal import Meta

pytestmark = pytest.mark.slow

FAST = (Group(1, 5_000_000, (File(0, "/proc/uptime"), File(1, "/proc/stat"))),)


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    path = tmp_path / "knob"
    path.write_text("changed")
    return path


def long_job(knob: Path) -> Job:
    return Job(
        run_id="r",
        runner=("/bin/sh", "-c", "sleep 60 & echo $!; sleep 61"),
        groups=FAST,
        streams=(StreamCommand(2, ("sleep", "62")),),
        restores=(RestoreWrite(str(knob), "as before"),),
    )


def under_way(folder: JobFolder) -> tuple[int, ...]:
    """Wait until everything runs; return the processes that must not survive the job."""
    wait_for(lambda: folder.lines(0) and len(folder.ticks()) > 10, "the runner and some ticks")
    runner, stream = folder.pid("runner"), folder.pid("program")
    assert runner
    assert stream
    return runner, stream, int(folder.lines(0)[0].data)


def assert_all_gone(pids: tuple[int, ...]) -> None:
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "the end of the runner, its child and the stream")


def test_worker_killed_the_guardian_sees_to_the_end(agent: Agent, knob: Path) -> None:
    folder = agent.started(long_job(knob))
    pids = under_way(folder)
    seen = folder.journal().records
    worker = folder.pid("worker")
    assert worker
    os.kill(worker, signal.SIGKILL)
    end = folder.end()
    assert (end["reason"], end["rebooted"]) == ("agent_killed", False)
    assert end["restored"] == [{"what": f"{knob} as before", "ok": True}]
    assert knob.read_text() == "as before"
    assert_all_gone(pids)
    assert folder.status()["state"] == "ended"
    assert folder.journal().records[: len(seen)] == seen, "what was there once stays"


def test_guardian_killed_the_worker_goes_on(agent: Agent, knob: Path) -> None:
    folder = agent.started(long_job(knob))
    pids = under_way(folder)
    folder.kill("guardian")
    assert folder.status()["state"] == "running"
    ticks = len(folder.ticks())
    wait_for(lambda: len(folder.ticks()) > ticks + 10, "further ticks")
    answer = agent.json("stop", folder.path)
    assert (answer["end"]["reason"], knob.read_text()) == ("stopped", "as before")
    assert_all_gone(pids)


def test_both_killed_and_recovered(agent: Agent, knob: Path) -> None:
    folder = agent.started(long_job(knob))
    pids = under_way(folder)
    seen = folder.journal().records
    folder.kill("guardian", "worker")
    assert folder.status()["state"] == "dead"
    assert knob.read_text() == "changed"
    answer = agent.json("recover", folder.path)
    assert (answer["state"], answer["end"]["reason"], answer["end"]["rebooted"]) == ("ended", "recovered", False)
    assert knob.read_text() == "as before"
    assert_all_gone(pids)
    journal = folder.journal()
    assert isinstance(journal.records[0], Meta)
    assert journal.records[: len(seen)] == seen
    knob.write_text("changed by somebody later")
    assert agent.json("recover", folder.path)["end"] == answer["end"]
    assert knob.read_text() == "changed by somebody later", "a job that has its end is left alone"


def test_after_a_reboot_nobody_is_killed_by_his_number(agent: Agent, knob: Path) -> None:
    folder = agent.started(long_job(knob))
    under_way(folder)
    folder.kill("guardian", "worker")
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    start = Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[19]
    lines = f"boot_id of-another-boot\nworker {bystander.pid} {start}\nrunner {bystander.pid} {start}\n"
    (folder.path / "pid").write_text(lines)
    assert folder.status()["state"] == "dead"
    end = agent.json("recover", folder.path)["end"]
    assert (end["reason"], end["rebooted"]) == ("recovered", True)
    assert bystander.poll() is None
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (folder.path / "end").unlink()
    (folder.path / "pid").write_text(f"boot_id {boot_id}\nrunner {bystander.pid} {int(start) + 1}\n")
    end = agent.json("recover", folder.path)["end"]
    assert (end["reason"], end["rebooted"]) == ("recovered", False)
    assert bystander.poll() is None, "the number is the same, the process is not"
    bystander.kill()
    bystander.wait()
    (folder.path / "end").unlink()
    (folder.path / "pid").unlink()
    assert agent.json("recover", folder.path)["end"]["rebooted"] is None, "a power cut took the file"


def test_runner_killed_by_somebody_is_not_an_oom(agent: Agent) -> None:
    folder = agent.started(Job(run_id="r", runner=("sleep", "60")))
    runner = wait_for(lambda: folder.pid("runner"), "the runner")
    wait_for(lambda: folder.events("runner_started"), "its start")
    os.kill(runner, signal.SIGKILL)
    end = folder.end()
    assert (end["reason"], end["exit_code"], end["signal"]) == ("completed", None, signal.SIGKILL)
    assert folder.events("runner_exited")[0].data["oom_kill"] in (False, None)


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A memory cgroup of 64 MiB; needs root and a writable hierarchy."""
    old = Path("/sys/fs/cgroup/memory")
    parent, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = parent / f"melt-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(64 << 20))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text(), "an empty cgroup")
    group.rmdir()


def test_an_out_of_memory_kill_is_told_from_a_crash(agent: Agent, small_cgroup: Path) -> None:
    eater = "x=x; while :; do x=$x$x; done"
    folder = agent.folder(Job(run_id="r", runner=("/bin/sh", "-c", eater), groups=FAST))
    enter = f'echo $$ > {small_cgroup}/cgroup.procs && exec "$0" start "$1"'
    subprocess.run(["/bin/sh", "-c", enter, agent.binary, folder.path], env=agent.env, check=True, capture_output=True)
    end = folder.end()
    assert (end["reason"], end["signal"]) == ("completed", signal.SIGKILL)
    assert folder.events("runner_exited")[0].data["oom_kill"] is True
    assert len(folder.ticks()) > 0, "the agent survives its runner"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "melt-test", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(path: Path) -> None:
    """Write until there is no room for one more byte."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(1024)):
            pass


def test_a_full_disk_ends_the_sampling_and_keeps_what_the_runner_says(agent: Agent, small_disk: Path) -> None:
    script = "until [ -e ../go ]; do sleep 0.05; done; echo the result; exit 7"
    job = Job(run_id="r", runner=("/bin/sh", "-c", script), cwd=str(small_disk), groups=FAST)
    folder = agent.folder(job, small_disk / "job")
    folder.start()
    wait_for(lambda: len(folder.ticks()) > 10, "ticks")
    fill(small_disk / "filler")
    (full,) = wait_for(lambda: folder.events("journal_full"), "the full disk to be noticed")
    assert full.data["errno"] == errno.ENOSPC
    (small_disk.parent / "go").touch()
    end = folder.end()
    assert (end["reason"], end["exit_code"], end["journal_errno"]) == ("completed", 7, errno.ENOSPC)
    journal = folder.journal()
    assert not journal.torn
    assert [line.data for line in folder.lines(0)] == [b"the result"]
    assert folder.ticks()[-1].t_ns <= full.t_ns
    assert folder.events("end")


def test_a_journal_that_cannot_grow_at_all_still_has_an_end(agent: Agent) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = agent.folder(Job(run_id="r", runner=("/bin/sh", "-c", "seq 100000; exit 7")))
    limit = 1 << 17
    done = agent.run("start", folder.path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)))
    assert done.returncode == 0, done.stderr
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_FSIZE)
    end = folder.end()
    assert (end["reason"], end["exit_code"], end["journal_errno"]) == ("completed", 7, errno.EFBIG)
    journal = folder.journal()
    assert not journal.torn
    said = [line.data for line in folder.lines(0)]
    assert said == [b"%d" % i for i in range(1, len(said) + 1)]
    assert len(said) > 1000


def test_a_journal_that_cannot_be_made_is_said_at_once(agent: Agent, small_disk: Path) -> None:
    folder = agent.folder(Job(run_id="r", runner=("true",)), small_disk / "job")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = agent.run("start", folder.path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the journal cannot be opened: Read-only file system" in done.stderr
    assert folder.status()["state"] == "absent"


def test_a_device_that_comes_back_is_read_again(agent: Agent, tmp_path: Path) -> None:
    """A missing file is looked for once a second."""
    sensor = tmp_path / "sensor"
    folder = agent.started(
        Job(run_id="r", runner=("sleep", "60"), groups=(Group(0, 10_000_000, (File(0, str(sensor)),)),))
    )
    wait_for(lambda: len(folder.ticks()) > 5, "ticks")
    sensor.write_text("5\n")
    wait_for(lambda: folder.ticks()[-1].contents == (b"5\n",), "the sensor")


DENY = """
set -e
mount -t proc -o hidepid=invisible proc /proc
mount -t tmpfs -o mode=0 none /sys/fs/cgroup
chmod 0 "$2/denied"
for file in stat vmstat sys/kernel/random/boot_id; do mount --bind "$2/denied" "/proc/$file"; done
ask() { setpriv --reuid 2000 --regid 2000 --clear-groups --bounding-set=-all "$@"; }
ask "$1" start "$2/job"
ask "$1" status "$2/job"
while [ ! -e "$2/job/end" ]; do sleep 0.05; done
ask "$1" status "$2/job"
"""


def test_a_system_that_denies_most_still_runs_a_job(shipped_agent: Path) -> None:
    """As on a phone: another user, no boot's identity, no counters, no cgroups, nobody else's processes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "job").mkdir()
        os.chown(root / "job", 2000, 2000)
        (root / "denied").touch()
        job = Job(
            run_id="r",
            runner=("/bin/sh", "-c", "sleep 0.5; kill -9 $$"),
            groups=(Group(1, 10_000_000, (File(0, "/proc/stat"), File(1, "/proc/{pid}/status"))),),
            polls=(Poll(2, 100_000_000, ("echo", "polled")),),
            prepares=(Prepare("p", ("echo", "prepared")),),
            restores=(RestoreExec(("true",)),),
        )
        folder = Agent(shipped_agent, root).folder(job, root / "job")
        shutil.copy(shipped_agent, root / "agent")
        words = ("unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", DENY, "-", f"{root}/agent", name)
        done = subprocess.run(words, capture_output=True, check=False, timeout=30)
        if b"unshare" in done.stderr or b"mount" in done.stderr:
            pytest.skip(f"needs namespaces: {done.stderr.decode().strip()}")
        assert done.returncode == 0, done.stderr.decode()
        started, running, ended = [json.loads(line) for line in done.stdout.splitlines()]
        assert (started["boot_id"], running["state"], ended["state"]) == (None, "running", "ended")
        assert (ended["end"]["reason"], ended["end"]["signal"]) == ("completed", signal.SIGKILL)
        assert ended["end"]["restored"] == [{"what": "true", "ok": True}]
        assert folder.events("runner_exited")[0].data["oom_kill"] is None
        assert folder.lines(2)[0].data == b"polled\n"
        ticks = folder.ticks()
        assert ticks[0].errnos[0] == errno.EACCES
        assert any(b"VmRSS" in (tick.contents[1] or b"") for tick in ticks)


@pytest.mark.slow
def test_the_group_of_a_runner_is_gone_after_recovery(agent: Agent) -> None:
    """The runner dies with its worker; its children, which it left behind, do not: they are found by their group."""
    folder = agent.started(Job(run_id="r", runner=("/bin/sh", "-c", "sleep 63 & echo $!; wait")))
    folder.until_said(b"")
    runner = folder.pid("runner")
    assert runner
    folder.kill("guardian", "worker")
    agent.json("recover", folder.path)
    wait_for(lambda: not group_exists(runner), "the end of the group")
