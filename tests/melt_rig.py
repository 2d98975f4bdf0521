"""The command line as a user has it, a process with its own state, models and store: what every test of it needs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from melt.cli.main import main

TINY = ("--model", "tiny-pydoc")
SMALL = (*TINY, "-p", "32", "-n", "16", "-r", "2", "-t", "1")
"""One thread: the tests share two cores, and threads of llama.cpp wait for each other by spinning."""

LONG = (*TINY, "--workload", "tg128 for 600s", "-t", "1")
"""A run that goes on for minutes unless something ends it."""

_WITHOUT_STORE = ("models", "build", "devices", "doctor", "selftest")


@dataclass(frozen=True)
class Melt:
    """Runs melt in a world of its own."""

    env: dict[str, str]
    store: Path
    state: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *words: str, check: int | None = 0, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.argv(words), env=self.env, capture_output=True, text=True, timeout=timeout_s)
        assert "Traceback" not in done.stderr, done.stderr
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def here(self, *words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
        """Run it in this process: a second quicker, for what it says before it measures anything."""
        # What is written to is what a process would have: it is asked for its encoding.
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
        argv = self.argv(words)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.env.items():
                patch.setenv(name, value)
            try:
                status = main(argv[argv.index("melt") + 1 :])
            except SystemExit as stopped:
                status = stopped.code
        said, told = (stream.buffer.getvalue().decode() for stream in (out, err))
        assert status == check, f"exit {status}\n{said}\n{told}"
        return subprocess.CompletedProcess(argv, status, said, told)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.start_program(*self.argv(words))

    def start_program(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program of the tests that is melt under other circumstances."""
        process = subprocess.Popen(
            argv,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def runs(self) -> list[dict[str, object]]:
        out = self.here("runs", "-o", "json").stdout
        return list(json.loads(out))

    def job_dirs(self) -> list[Path]:
        return list((self.state / "melt" / "device" / "jobs").glob("*"))

    def clean_up(self) -> None:
        """Leave no process behind, also when a test failed half-way."""
        for process in self.started:
            process.kill()
            process.communicate()
        for agent in (self.state / "melt" / "device" / "agents").glob("*/melt-agent"):
            for job in self.job_dirs():
                subprocess.run([agent, "stop", job], capture_output=True, timeout=60)

    def argv(self, words: tuple[str, ...]) -> list[str]:
        """Return the command line of its process."""
        verb, *rest = words
        store = [] if verb in _WITHOUT_STORE or verb.startswith("-") else ["--store", str(self.store)]
        # `store` takes its folder after its own verb.
        return [sys.executable, "-m", "melt", verb, *rest, *store]


class RunsOnADevice:
    """What a test asks of a melt that measures on one device, whichever that is."""

    melt: Melt
    ends_s: ClassVar[float] = 120.0

    def end(self, process: subprocess.Popen[str], exit_code: int) -> str:
        """Wait for melt's end and return its stderr."""
        out, err = process.communicate(timeout=self.ends_s)
        assert "Traceback" not in err, err
        assert process.returncode == exit_code, out + err
        return err

    def shown(self, run: str = "last") -> dict[str, Any]:
        return dict(json.loads(self.melt.here("show", run, "-o", "json").stdout))

    def outcomes(self) -> list[str]:
        """In the order in which they were measured."""
        return [str(run["outcome"]) for run in reversed(self.melt.runs())]
