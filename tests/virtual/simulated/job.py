"""A detached run on a simulated board, by the contract of agents/PROTOCOL.md: it goes on by itself as time passes."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from melt.targets.jobfile import decode_field
from melt.telemetry.journal import HEADER_BYTES, JournalWriter
from virtual.simulated import recording
from virtual.simulated.recording import BEGAN_NS, Entry, Script

_S = 1_000_000_000
_SYNC_NS = _S
"""The agent makes its journal durable once a second: a power cut costs no more."""
_PREPARE_S = 0.3
"""How long a program takes that sets or reads a knob."""

Ran = tuple[int, str, str]
"""A program's exit code, stdout and stderr."""
Do = Callable[[Sequence[str]], Ran]
"""Runs a program on the board."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job file asks for, as far as a simulated board does it."""

    run_id: str
    sampling: bytes
    prepares: tuple[tuple[str, tuple[str, ...]], ...] = ()
    restores: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, job: bytes) -> Asked:
        lines = [line.split(b" ") for line in job.splitlines()]
        words = [(line[0].decode(), [decode_field(field) for field in line[1:]]) for line in lines]
        return cls(
            run_id=next(fields[0] for word, fields in words if word == "run"),
            sampling=recording.sampling_of(job),
            prepares=tuple((fields[0], tuple(fields[1:])) for word, fields in words if word == "prepare"),
            restores=tuple(tuple(fields) for word, fields in words if word == "restore_exec"),
        )


class Job:
    """A job that was started: its journal, and its last word once it has one. `boot` is the board's when it began."""

    def __init__(self, asked: Asked, script: Script, began_ns: int, boot: str, do: Do, nonce: bytes) -> None:
        self.asked = asked
        self.boot = boot
        self.alive = True
        self.end: dict[str, object] | None = None
        self._do = do
        self._began_ns = began_ns
        self._out = io.BytesIO()
        self._writer = JournalWriter(self._out, nonce)
        self._writer.frame(recording.meta(asked.run_id, boot_id=boot))
        self._synced_bytes, self._synced_ns = self._out.tell(), 0
        self._full = False
        script = replace(script, starts_s=_PREPARE_S * (len(asked.prepares) + 1))
        self._ends_ns = int((script.starts_s + script.run_s) * _S)
        self._prepares = list(enumerate(asked.prepares))
        self._entries = list(reversed(recording.entries(asked.sampling, script)))
        self.runs_ns = int(script.starts_s * _S)

    @property
    def journal(self) -> bytes:
        """What lies on the disk."""
        return self._out.getvalue()

    @property
    def state(self) -> str:
        """What the agent's `status` calls it."""
        return "ended" if self.end else "running" if self.alive else "dead"

    def live_until(self, now_ns: int, *, disk_full: bool) -> None:
        """Do what there was to do until a moment of the board's time."""
        if not self.alive or self.end:
            return
        age_ns = now_ns - self._began_ns
        if disk_full and not self._full:
            self._full = True
            self._write([recording.event(self._age_of_last_ns(), "journal_full", errno=errno.ENOSPC)])
            # Sampling ends; what the runner says is kept in the reserve.
            self._entries = [entry for entry in self._entries if entry.payload[:1] != b"T"]
        while self._prepares and (self._prepares[0][0] + 1) * int(_PREPARE_S * _S) <= age_ns:
            number, (name, argv) = self._prepares.pop(0)
            exit_code, stdout, stderr = self._do(argv)
            t_ns = (number + 1) * int(_PREPARE_S * _S)
            self._write_until(t_ns)
            said = {"exit_code": exit_code, "signal": None, "stdout": stdout, "stderr": stderr}
            self._write([recording.event(t_ns, "prepared", name=name, **said)])
        self._write_until(age_ns)
        if age_ns >= self._ends_ns:
            self._finish(self._ends_ns, "completed")

    def stop(self, now_ns: int) -> None:
        """End in order, before its time."""
        if self.end or not self.alive:
            return
        t_ns = now_ns - self._began_ns
        said = [recording.event(t_ns, "stop_requested")]
        if t_ns >= self.runs_ns:
            exited = {"max_rss_bytes": 290_000_000, "major_faults": 120, "oom_kill": False}
            said.append(recording.event(t_ns, "runner_exited", exit_code=None, signal=15, **exited))
        self._write(said)
        self._finish(t_ns, "stopped")

    def die(self, random: Random, *, power_cut: bool) -> None:
        """Lose the agent's processes in the middle of whatever they do; a power cut takes what was not synced."""
        if self.end or not self.alive:
            return
        self.alive = False
        kept = random.randint(self._synced_bytes, self._out.tell()) if power_cut else self._out.tell()
        self._out.truncate(max(kept, HEADER_BYTES))
        self._out.seek(0, io.SEEK_END)

    def recover(self, now_ns: int, boot: str) -> None:
        """Give a dead job its end, and put back what it had set."""
        if self.state == "dead":
            self._conclude(now_ns - self._began_ns, "recovered", {"exit_code": None, "rebooted": boot != self.boot})

    def _finish(self, t_ns: int, reason: str) -> None:
        ended = {"exit_code": 0} if reason == "completed" else {"exit_code": None, "signal": 15}
        last = self._conclude(t_ns, reason, ended)
        self._write([recording.event(t_ns, "end", **last)])

    def _conclude(self, t_ns: int, reason: str, more: Mapping[str, object]) -> dict[str, object]:
        restored = [{"what": " ".join(argv), "ok": self._do(argv)[0] == 0} for argv in self.asked.restores]
        last = recording.end(
            reason, journal_errno=errno.ENOSPC if self._full else None, **{"restored": restored, **more}
        )
        self.end = {**last, "t_ns": BEGAN_NS + t_ns}
        self.alive = False
        return last

    def _write_until(self, age_ns: int) -> None:
        while self._entries and self._entries[-1].t_ns <= age_ns:
            entry = self._entries.pop()
            self._write([entry])
            if entry.t_ns - self._synced_ns >= _SYNC_NS:
                self._synced_bytes, self._synced_ns = self._out.tell(), entry.t_ns

    def _write(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._writer.frame(entry.payload)

    def _age_of_last_ns(self) -> int:
        return self._synced_ns
