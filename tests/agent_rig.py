"""A real agent and a folder to let it work in: what every test of the agent needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from melt.targets.jobfile import Job
from melt.telemetry.journal import Event, Journal, Line, Tick, read_journal

DEADLINE_S = 30.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; fail with `what` after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)
    return value


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


class JobFolder:
    """One job: its folder, its processes, its journal."""

    def __init__(self, agent: Agent, path: Path) -> None:
        self.agent = agent
        self.path = path

    def start(self) -> dict[str, Any]:
        return self.agent.json("start", self.path)

    def status(self) -> dict[str, Any]:
        return self.agent.json("status", self.path)

    def end(self) -> dict[str, Any]:
        """Wait until the job has ended and return what `end` says."""
        wait_for((self.path / "end").exists, "the job's end")
        end: dict[str, Any] = json.loads((self.path / "end").read_text())
        return end

    def pid(self, role: str) -> int | None:
        """Return the process of a role as the file `pid` has it now."""
        try:
            lines = (self.path / "pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return next((int(line.split()[1]) for line in lines if line.split()[0] == role), None)

    def kill(self, *roles: str) -> None:
        """Kill processes of the agent as nothing else can: at once, both in one go."""
        pids = [self.pid(role) for role in roles]
        for pid in pids:
            assert pid
            os.kill(pid, signal.SIGSTOP)  # so that none of them sees the other die
        for pid in pids:
            assert pid
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_alive(pid) for pid in pids if pid), "the end of what was killed")

    def journal(self) -> Journal:
        return read_journal(self.path / "journal")

    def events(self, name: str) -> list[Event]:
        return [r for r in self.journal().records if isinstance(r, Event) and r.name == name]

    def ticks(self) -> list[Tick]:
        return [r for r in self.journal().records if isinstance(r, Tick)]

    def lines(self, source: int) -> list[Line]:
        return [r for r in self.journal().records if isinstance(r, Line) and r.source == source]

    def until_said(self, text: bytes, source: int = 0) -> None:
        """Wait until the journal has a line."""
        wait_for(lambda: any(text in line.data for line in self.lines(source)), f"the line {text!r}")


class Agent:
    """A binary of the agent and the folder for its jobs."""

    def __init__(
        self, binary: Path, root: Path, env: dict[str, str] | None = None, emulator: tuple[str, ...] = ()
    ) -> None:
        self.binary = binary
        self.root = root
        self.env = {**os.environ, **(env or {})}
        self._emulator = emulator
        self._jobs: list[JobFolder] = []

    def run(self, *words: str | Path, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
        command = [*self._emulator, str(self.binary), *map(str, words)]
        return subprocess.run(
            command, input=stdin, capture_output=True, env=self.env, timeout=DEADLINE_S, check=False, **options
        )

    def json(self, *words: str | Path, **options: Any) -> dict[str, Any]:
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.count(b"\n") == 1
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def folder(self, job: Job | bytes, path: Path | None = None) -> JobFolder:
        path = path or self.root / f"job{len(self._jobs)}"
        path.mkdir(exist_ok=True)
        (path / "job").write_bytes(job if isinstance(job, bytes) else job.render())
        self._jobs.append(JobFolder(self, path))
        return self._jobs[-1]

    def started(self, job: Job) -> JobFolder:
        folder = self.folder(job)
        folder.start()
        return folder

    def close(self) -> None:
        """End whatever a failed test left running."""
        for folder in self._jobs:
            if folder.path.exists():
                self.run("stop", folder.path)
                self.run("recover", folder.path)
