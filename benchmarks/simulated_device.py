"""A device without hardware: it answers as a Jetson with melt's agent on it, and its runs last as long as one wants.

What it says is real (tests/virtual/simulated/recording.py). Only time is made up.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from skipping_clock import SkippingClock

from melt.targets.agent import AgentBinaries
from melt.telemetry.journal import JournalWriter
from melt.transports.base import Completed, Progress

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from virtual.simulated import recording

_HOME = "/home/lab"
_S = 1_000_000_000
_FLUSH_NS = _S // 10
"""The agent writes out what it has ten times a second."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A journal and how much of it is written out at each tenth of a second."""

    data: bytes
    ends: tuple[int, ...]

    def written(self, age_ns: int) -> int:
        """Return how many bytes lie on the device `age_ns` after the start."""
        tenths = age_ns // _FLUSH_NS
        return 0 if tenths <= 0 else self.ends[min(tenths, len(self.ends)) - 1]


@cache
def record(sampling: bytes, run_s: float) -> Recording:
    """Write the journal of a run of pp512+tg128 that lasts `run_s`; `sampling` are the lines of its job on files."""
    out = io.BytesIO()
    writer = JournalWriter(out, b"fixed...")
    writer.frame(recording.meta("simulated"))
    ends: list[int] = []
    last = recording.event(int(run_s * _S) - 1, "end", **recording.end())
    for entry in (*recording.entries(sampling, recording.Script(run_s)), last):
        while entry.t_ns >= (len(ends) + 1) * _FLUSH_NS:
            ends.append(out.tell())
        writer.frame(entry.payload)
    return Recording(out.getvalue(), (*ends, out.tell()))


class SimulatedDevice:
    """The transport to one device, and the device behind it. `runs` has the begin and the end of each of its runs."""

    def __init__(self, number: int, clock: SkippingClock, run_s: float) -> None:
        self.name = f"ssh:board-{number}"
        self.opened_ns = clock.now_ns()
        self.runs: list[tuple[int, int]] = []
        self._clock = clock
        self._run_s = run_s
        self._version = AgentBinaries.find().version
        self._files = {**recording.files(), recording.SERIAL_NUMBER: f"simulated-{number}\0".encode()}
        self._jobs: dict[str, tuple[int, Recording]] = {}
        self._pushed: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Answer a command."""
        said = self._agent(argv[1], argv[2:]) if argv[0].endswith("/melt-agent") else _SHELL.get(argv[0])
        if argv[0] == "ls":
            said = "\n".join(path.rpartition("/")[2] for path in self._jobs).encode()
        elif argv[0] == "uname":
            said = {"-s": b"Linux", "-m": b"aarch64", "-sm": b"Linux aarch64"}[argv[1]]
        elif argv[0] == "rm":
            self._jobs.pop(argv[-1], None)
        return Completed(tuple(argv), 127 if said is None else 0, said or b"", b"")

    def open(self, argv: Sequence[str]) -> _Clock | _Tail:
        """Open one of the agent's channels."""
        if argv[1] == "clock":
            return _Clock(self._clock)
        if argv[1] == "hash":
            return _Clock(self._clock, b"".join(b'{"path":"%s"}\n' % path.encode() for path in argv[3:]))
        return _Tail(self._clock, *self._jobs[argv[2]], int(argv[3]))

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Take a file of a job."""
        self._pushed[remote] = local.read_bytes()

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        """Take a file without looking at it."""
        return Completed(tuple(argv), 0, b"", b"")

    def close(self) -> None:
        """Nothing more will be asked of this device."""
        self._clock.leave()

    def _agent(self, verb: str, words: Sequence[str]) -> bytes | None:
        if verb == "read":
            return b"".join(b"%s %d\n%s\n" % (path.encode(), len(c), c) for path, c in self._files.items())
        if verb == "start":
            return self._start(words[0])
        if verb == "status":
            return json.dumps(self._status(words[0])).encode()
        answers: dict[str, object] = {
            "version": {"agent": self._version, "protocol": 1, "os": "linux", "arch": "aarch64"},
            "bandwidth": {"bytes_per_s": 60e9},
            "compute": {
                "int8_ops_per_s": 400e9,
                "int8_path": "asimddp",
                "f32_ops_per_s": 100e9,
                "f32_path": "asimd",
                "threads": 8,
            },
            "stored": {"free_bytes": 1 << 36, "total_bytes": 1 << 37},
        }
        return json.dumps(answers[verb]).encode()

    def _start(self, folder: str) -> bytes:
        job = self._pushed[f"{folder}/job"]
        self._pushed.clear()
        began_ns = self._clock.now_ns()
        self._jobs[folder] = (began_ns, record(recording.sampling_of(job), self._run_s))
        self.runs.append((began_ns, began_ns + int(self._run_s * _S)))
        return b'{"pid": 1}'

    def _status(self, folder: str) -> dict[str, object]:
        began_ns, journal = self._jobs[folder]
        age_ns = self._clock.now_ns() - began_ns
        ended = age_ns >= self._run_s * _S
        size, end = journal.written(age_ns), None
        if ended:
            end = {**recording.end(), "t_ns": recording.BEGAN_NS + int(self._run_s * _S)}
        return {"state": "ended" if ended else "running", "pid": 1, "journal_bytes": size, "t_ns": 0, "end": end}


class _Channel:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def close(self) -> int:
        return 0


class _Clock(_Channel):
    """Answers each line with the time, or says what it was made with."""

    def __init__(self, clock: SkippingClock, said: bytes = b"") -> None:
        self._clock = clock
        self._said = said

    def read(self, size: int, timeout_s: float) -> bytes:
        said, self._said = self._said, b""
        return said

    def write(self, data: bytes) -> None:
        self._said += b'{"t_ns": %d}\n' % self._clock.now_ns()


class _Tail(_Channel):
    """A journal as it grows."""

    def __init__(self, clock: SkippingClock, began_ns: int, journal: Recording, offset: int) -> None:
        self._clock = clock
        self._began_ns = began_ns
        self._journal = journal
        self._offset = offset

    def read(self, size: int, timeout_s: float) -> bytes | None:
        until_ns = self._clock.now_ns() + int(timeout_s * _S)
        while True:
            age_ns = self._clock.now_ns() - self._began_ns
            there = self._journal.written(age_ns)
            if there > self._offset or there == len(self._journal.data):
                data = self._journal.data[self._offset : min(there, self._offset + size)]
                self._offset += len(data)
                return data
            wake_ns = self._began_ns + (age_ns // _FLUSH_NS + 1) * _FLUSH_NS
            if wake_ns > until_ns:
                self._clock.sleep_until(until_ns)
                return None
            self._clock.sleep_until(wake_ns)

    def write(self, data: bytes) -> None:
        raise NotImplementedError("a journal is only read")


_SHELL: Mapping[str, bytes] = {"mkdir": b"", "rm": b"", "ls": b"", "uname": b"", "sh": _HOME.encode()}
