"""A device without hardware: it answers as a Jetson with melt's agent on it, and its runs last as long as one wants.

What it says is real: facts and files of a captured board, a journal in the agent's format. Only time is made up.
"""

from __future__ import annotations

import errno
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Self

from skipping_clock import SkippingClock

from melt.targets.agent import AgentBinaries
from melt.targets.jobfile import decode_field
from melt.targets.probe import load_snapshot
from melt.telemetry.journal import JournalWriter
from melt.transports.base import Completed, Progress

BOARD = Path(__file__).parents[1] / "tests" / "data" / "snapshots" / "jetson-orin-nano-jp6.json"
_HOME = "/home/lab"
_ID = "/proc/device-tree/serial-number"
_S = 1_000_000_000
_BEGAN_NS = 1000 * _S
_FLUSH_NS = _S // 10
"""The agent writes out what it has ten times a second."""
_REPETITIONS = 5
_LOAD_S, _WARMUP_S = 1.0, 9.0
_STATUS = b"""\
VmHWM:\t  281000 kB
VmRSS:\t  280000 kB
RssAnon:\t  120000 kB
RssFile:\t  160000 kB
RssShmem:\t       0 kB
VmSwap:\t       0 kB
Threads:\t6
Cpus_allowed_list:\t0-5
voluntary_ctxt_switches:\t1200
nonvoluntary_ctxt_switches:\t3400
"""
_STAT = b"4242 (python3) R 1 4242 4242 0 -1 4194304 51000 0 120 0 90000 900 0 0 20 0 6 0 100000 900000000 70000 0\n"
_NUMBER = re.compile(rb"\d{4,15}")

Write = Callable[[JournalWriter, int], object]
"""Writes one record of what happened at a time in ns."""


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
    """Write the journal of a run of pp512+tg128 that lasts `run_s`; `sampling` are the lines of its job on files.

    Every number of four digits or more grows a little at each tick, so that nothing is the same as before.
    """
    out = io.BytesIO()
    writer = JournalWriter(out, b"fixed...")
    writer.meta({"run": "simulated", "agent": "", "protocol": 1, "t_ns": _BEGAN_NS, "pid": 1, "os": "linux"})
    ends: list[int] = []
    happened = [*_ticks(sampling, run_s), *_lines(run_s), *_events(run_s)]
    for t_ns, write in sorted(happened, key=lambda one: one[0]):
        while t_ns >= (len(ends) + 1) * _FLUSH_NS:
            ends.append(out.tell())
        write(writer, _BEGAN_NS + t_ns)
    return Recording(out.getvalue(), (*ends, out.tell()))


def _ticks(sampling: bytes, run_s: float) -> Iterator[tuple[int, Write]]:
    files = _files()
    groups: dict[int, tuple[int, list[bytes | int]]] = {}
    for line in sampling.splitlines():
        word, gid, *rest = line.split()
        if word == b"group":
            groups[int(gid)] = (int(rest[0]), [])
        else:
            groups[int(gid)][1].append(files.get(decode_field(rest[2]), errno.ENOENT))

    def tick(gid: int, number: int, writer: JournalWriter, t_ns: int) -> None:
        contents = [c if isinstance(c, int) else _grown(c, number) for c in groups[gid][1]]
        writer.tick(gid, t_ns, 300_000, contents)

    for gid, (period_ns, _) in groups.items():
        yield from ((n * period_ns, partial(tick, gid, n)) for n in range(int(run_s * _S) // period_ns))


def _lines(run_s: float) -> Iterator[tuple[int, Write]]:
    for t_ns, said in _said(run_s):
        yield t_ns, partial(_line, said)


def _line(said: bytes, writer: JournalWriter, t_ns: int) -> None:
    writer.line(0, t_ns, said)


def _events(run_s: float) -> Iterator[tuple[int, Write]]:
    whole_ns = int(run_s * _S)
    yield 0, partial(_event, "runner_started", {"pid": 4242, "affinity_asked": None, "affinity": "0-5"})
    own = {"rss_bytes": 900_000, "missed": {}, "ticks": {}, "journal_bytes": 0}
    for second in range(int(run_s)):
        yield second * _S, partial(_event, "self", {"cpu_ns": second * 9_000_000, **own})
    exited = {"exit_code": 0, "signal": None, "max_rss_bytes": 290_000_000, "major_faults": 120, "oom_kill": False}
    yield whole_ns - 2, partial(_event, "runner_exited", exited)
    yield whole_ns - 1, partial(_event, "end", _end())


def _event(name: str, data: Mapping[str, object], writer: JournalWriter, t_ns: int) -> None:
    writer.event(name, t_ns, **data)


class SimulatedDevice:
    """The transport to one device, and the device behind it. `runs` has the begin and the end of each of its runs."""

    def __init__(self, number: int, clock: SkippingClock, run_s: float) -> None:
        self.name = f"ssh:board-{number}"
        self.opened_ns = clock.now_ns()
        self.runs: list[tuple[int, int]] = []
        self._clock = clock
        self._run_s = run_s
        self._version = AgentBinaries.find().version
        self._files = {**_files(), _ID: f"simulated-{number}\0".encode()}
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
        began_ns, recording = self._jobs[argv[2]]
        return _Tail(self._clock, began_ns, recording, int(argv[3]))

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
            "stored": {"free_bytes": 1 << 36, "total_bytes": 1 << 37},
        }
        return json.dumps(answers[verb]).encode()

    def _start(self, folder: str) -> bytes:
        job = self._pushed[f"{folder}/job"]
        self._pushed.clear()
        recording = record(
            b"\n".join(ln for ln in job.splitlines() if ln.startswith((b"group ", b"file "))), self._run_s
        )
        began_ns = self._clock.now_ns()
        self._jobs[folder] = (began_ns, recording)
        self.runs.append((began_ns, began_ns + int(self._run_s * _S)))
        return b'{"pid": 1}'

    def _status(self, folder: str) -> dict[str, object]:
        began_ns, recording = self._jobs[folder]
        age_ns = self._clock.now_ns() - began_ns
        ended = age_ns >= self._run_s * _S
        size, end = recording.written(age_ns), {**_end(), "t_ns": _at(self._run_s)} if ended else None
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

    def __init__(self, clock: SkippingClock, began_ns: int, recording: Recording, offset: int) -> None:
        self._clock = clock
        self._began_ns = began_ns
        self._recording = recording
        self._offset = offset

    def read(self, size: int, timeout_s: float) -> bytes | None:
        until_ns = self._clock.now_ns() + int(timeout_s * _S)
        while True:
            age_ns = self._clock.now_ns() - self._began_ns
            there = self._recording.written(age_ns)
            if there > self._offset or there == len(self._recording.data):
                data = self._recording.data[self._offset : min(there, self._offset + size)]
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


@cache
def _files() -> dict[str, bytes]:
    snapshot = load_snapshot(BOARD.read_bytes())
    read = {path: content for path, content in snapshot.items() if not path.startswith("$")}
    return {**read, "/proc/{pid}/status": _STATUS, "/proc/{pid}/stat": _STAT}


def _grown(content: bytes, number: int) -> bytes:
    return _NUMBER.sub(lambda found: b"%d" % (int(found[0]) + number), content)


def _end() -> dict[str, object]:
    ended = {"reason": "completed", "exit_code": 0, "signal": None}
    return {**ended, "journal_errno": None, "rebooted": False, "restored": []}


def _said(run_s: float) -> list[tuple[int, bytes]]:
    """Say what the runner prints, and when: it loads, warms up, and shares the rest of the time out."""
    each_s = (run_s - _LOAD_S - _WARMUP_S - 1) / _REPETITIONS
    used = {"threads": 6, "n_gpu_layers": 0, "backend": "CPU", "cache_type_k": "f16", "cache_type_v": "f16"}
    memory = {"model_bytes": 90_000_000, "kv_cache_bytes": 15_000_000, "compute_bytes": None}
    loaded = {"event": "load", "t0_ns": _at(0.1), "t1_ns": _at(_LOAD_S), "used": used, "memory": memory}
    said: list[tuple[float, dict[str, object]]] = [
        (0.05, {"event": "hello", "runner": "llama_cpp.py", "engine": "llama.cpp", "pid": 4242}),
        (_LOAD_S, {**loaded, "page_cache": {"asked": "warm", "resident_before": 1.0}}),
        (_LOAD_S + _WARMUP_S, _generation(_LOAD_S, _WARMUP_S, 0, warmup=True)),
    ]
    for number in range(_REPETITIONS):
        begun_s = _LOAD_S + _WARMUP_S + number * each_s
        said.append((begun_s + each_s, _generation(begun_s, each_s, number, warmup=False)))
    said.append((run_s - 0.5, {"event": "finish", "t_ns": _at(run_s - 0.5), "peak_rss_bytes": 290_000_000}))
    return [(int(t_s * _S), json.dumps(event).encode()) for t_s, event in said]


def _generation(begun_s: float, lasts_s: float, number: int, *, warmup: bool) -> dict[str, object]:
    prefilled_s = begun_s + lasts_s / 2
    gap_s = lasts_s * 0.45 / 128
    return {
        "event": "generation",
        "repetition": number,
        "warmup": warmup,
        "submit_ns": _at(begun_s + 0.01),
        "depth": 0,
        "n_prompt": 512,
        "prefill": {"t0_ns": _at(begun_s + 0.02), "t1_ns": _at(prefilled_s), "batches": []},
        "token_ns": [_at(prefilled_s + (i + 1) * gap_s) for i in range(128)],
        "token_ids": list(range(128)),
        "stop": "length",
        "text": None,
    }


def _at(seconds: float) -> int:
    return _BEGAN_NS + int(seconds * _S)
