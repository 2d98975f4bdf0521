"""What a run leaves on a board: the facts of a captured Jetson, and a journal as melt's agent writes it.

Everything is as real ones say it; only time is made up, so that a run lasts as long as one wants.
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

from melt.targets.jobfile import decode_field
from melt.targets.probe import load_snapshot
from melt.telemetry.journal import JournalWriter

BOARD = Path(__file__).parents[2] / "data" / "snapshots" / "jetson-orin-nano-jp6.json"
SERIAL_NUMBER = "/proc/device-tree/serial-number"
BEGAN_NS = 1_000_000_000_000
"""The device's monotonic clock when a job begins."""
_S = 1_000_000_000
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

_Write = Callable[[JournalWriter, int], object]
"""Writes one record of what happened at a time in ns."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a runner does: it starts, loads, warms up, and shares the rest of `run_s` out to its repetitions."""

    run_s: float
    starts_s: float = 0.0
    load_s: float = 1.0
    warmup_s: float = 9.0
    repetitions: int = 5
    n_prompt: int = 512
    n_gen: int = 128
    threads: int = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a journal before it is framed, and when it is written, in ns after the job's begin."""

    t_ns: int
    payload: bytes


@cache
def files() -> dict[str, bytes]:
    """Return the files of the board, and those of a runner's process."""
    snapshot = load_snapshot(BOARD.read_bytes())
    read = {path: content for path, content in snapshot.items() if not path.startswith("$")}
    return {**read, "/proc/{pid}/status": _STATUS, "/proc/{pid}/stat": _STAT}


def sampling_of(job: bytes) -> bytes:
    """Return the lines of a job that say which files are read."""
    return b"\n".join(line for line in job.splitlines() if line.startswith((b"group ", b"file ")))


@cache
def entries(sampling: bytes, script: Script) -> tuple[Entry, ...]:
    """Return what the agent writes of a run, in order, up to the runner's exit; `sampling` as of `sampling_of`.

    Every number of four digits or more in a file grows a little at each tick, so that nothing is the same as before.
    """
    found: list[Entry] = []
    encoder = _Encoder()
    for t_ns, write in sorted([*_ticks(sampling, script), *_lines(script), *_events(script)], key=lambda one: one[0]):
        write(encoder, BEGAN_NS + t_ns)
        found.append(Entry(t_ns, encoder.taken))
    return tuple(found)


def event(t_ns: int, kind: str, /, **data: object) -> Entry:
    """Return an event of the agent, `t_ns` after the job's begin."""
    return Entry(t_ns, b"E" + json.dumps({"event": kind, "t_ns": BEGAN_NS + t_ns, **data}).encode())


def meta(run_id: str, **more: object) -> bytes:
    """Return the payload of a journal's first record."""
    encoder = _Encoder()
    encoder.meta({"run": run_id, "agent": "", "protocol": 1, "t_ns": BEGAN_NS, "pid": 1, "os": "linux", **more})
    return encoder.taken


def end(reason: str = "completed", **more: object) -> dict[str, object]:
    """Return the agent's last word, without its time."""
    ended = {"reason": reason, "exit_code": 0 if reason == "completed" else None, "signal": None}
    return {**ended, "journal_errno": None, "rebooted": False, "restored": [], **more}


class _Encoder(JournalWriter):
    """Keeps the payload of the last record, unframed."""

    def __init__(self) -> None:
        self.taken = b""
        super().__init__(io.BytesIO())

    def frame(self, payload: bytes) -> None:
        self.taken = payload


def _ticks(sampling: bytes, script: Script) -> Iterator[tuple[int, _Write]]:
    there = files()
    groups: dict[int, tuple[int, list[bytes | int]]] = {}
    for line in sampling.splitlines():
        word, gid, *rest = line.split()
        if word == b"group":
            groups[int(gid)] = (int(rest[0]), [])
        else:
            groups[int(gid)][1].append(there.get(decode_field(rest[2]), errno.ENOENT))

    def tick(gid: int, number: int, writer: JournalWriter, t_ns: int) -> None:
        contents = [c if isinstance(c, int) else _grown(c, number) for c in groups[gid][1]]
        writer.tick(gid, t_ns, 300_000, contents)

    for gid, (period_ns, _) in groups.items():
        for number in range(int((script.starts_s + script.run_s) * _S) // period_ns):
            yield number * period_ns, partial(tick, gid, number)


def _grown(content: bytes, number: int) -> bytes:
    return _NUMBER.sub(lambda found: b"%d" % (int(found[0]) + number), content)


def _lines(script: Script) -> Iterator[tuple[int, _Write]]:
    def line(data: bytes, writer: JournalWriter, t_ns: int) -> None:
        writer.line(0, t_ns, data)

    for t_s, said in _said(script):
        yield int((script.starts_s + t_s) * _S), partial(line, json.dumps(said).encode())


def _events(script: Script) -> Iterator[tuple[int, _Write]]:
    def write(name: str, data: Mapping[str, object], writer: JournalWriter, t_ns: int) -> None:
        writer.event(name, t_ns, **data)

    starts_ns, whole_ns = int(script.starts_s * _S), int((script.starts_s + script.run_s) * _S)
    yield starts_ns, partial(write, "runner_started", {"pid": 4242, "affinity_asked": None, "affinity": "0-5"})
    own = {"rss_bytes": 900_000, "missed": {}, "ticks": {}, "journal_bytes": 0}
    for second in range(whole_ns // _S):
        yield second * _S, partial(write, "self", {"cpu_ns": second * 9_000_000, **own})
    exited = {"exit_code": 0, "signal": None, "max_rss_bytes": 290_000_000, "major_faults": 120, "oom_kill": False}
    yield whole_ns - 2, partial(write, "runner_exited", exited)


def _said(script: Script) -> Sequence[tuple[float, dict[str, object]]]:
    """Say what the runner prints, and when, in seconds after its start."""
    begun_s = script.load_s + script.warmup_s
    each_s = (script.run_s - begun_s - script.run_s / 60) / script.repetitions

    def at(seconds: float) -> int:
        return BEGAN_NS + int((script.starts_s + seconds) * _S)

    def generation(begun_s: float, lasts_s: float, number: int, *, warmup: bool) -> dict[str, object]:
        prefilled_s = begun_s + lasts_s / 2
        gap_s = lasts_s * 0.45 / script.n_gen
        return {
            "event": "generation",
            "repetition": number,
            "warmup": warmup,
            "submit_ns": at(begun_s + 0.01),
            "depth": 0,
            "n_prompt": script.n_prompt,
            "prefill": {"t0_ns": at(begun_s + 0.02), "t1_ns": at(prefilled_s), "batches": []},
            "token_ns": [at(prefilled_s + (i + 1) * gap_s) for i in range(script.n_gen)],
            "token_ids": list(range(script.n_gen)),
            "stop": "length",
            "text": None,
        }

    used = {
        "threads": script.threads,
        "n_gpu_layers": 0,
        "backend": "CPU",
        "cache_type_k": "f16",
        "cache_type_v": "f16",
    }
    memory = {"model_bytes": 90_000_000, "kv_cache_bytes": 15_000_000, "compute_bytes": None}
    loaded = {"event": "load", "t0_ns": at(script.load_s / 10), "t1_ns": at(script.load_s)}
    more = {"used": used, "memory": memory, "page_cache": {"asked": "warm", "resident_before": 1.0}}
    said: list[tuple[float, dict[str, object]]] = [
        (script.load_s / 20, {"event": "hello", "runner": "llama_cpp.py", "engine": "llama.cpp", "pid": 4242}),
        (script.load_s, {**loaded, **more}),
        (begun_s, generation(script.load_s, script.warmup_s, 0, warmup=True)),
    ]
    for number in range(script.repetitions):
        starts_s = begun_s + number * each_s
        said.append((starts_s + each_s, generation(starts_s, each_s, number, warmup=False)))
    finished_s = script.run_s - script.run_s / 120
    said.append((finished_s, {"event": "finish", "t_ns": at(finished_s), "peak_rss_bytes": 290_000_000}))
    return said
