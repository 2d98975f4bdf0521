"""The job file: what the host asks of the agent. The language is in agents/PROTOCOL.md, its encoding here alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from melt.errors import AgentError, UsageError

_MUST_ENCODE = re.compile(rb"[^!-~]|%")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")


def encode_field(value: str | bytes) -> bytes:
    """Write one field: bytes outside `!`..`~`, and `%`, as %XX; nothing as `%-`.

    Raises UsageError on a zero byte and on text that has no bytes.
    """
    try:
        data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    except UnicodeEncodeError as error:
        raise UsageError(f"a job cannot hold this text: {value!r}") from error
    if b"\0" in data:
        raise UsageError(f"a job cannot hold a zero byte: {value!r}")
    return _MUST_ENCODE.sub(lambda m: b"%%%02X" % m[0][0], data) or b"%-"


def decode_field(value: bytes) -> str:
    """Read one field. Raises AgentError when it is none."""
    if value == b"%-":
        return ""
    data = _ENCODED.sub(lambda m: bytes((int(m[1], 16),)), value)
    if encode_field(data) != _ENCODED.sub(lambda m: m[0].upper(), value):
        raise AgentError(f"not a field of a job: {value!r}")
    return data.decode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class File:
    """A file to read at each tick of its group, at most `max_bytes` of it. `{pid}` in it is the runner's process."""

    cid: int
    path: str
    max_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class Group:
    """Files read one after the other every `period_ns`."""

    gid: int
    period_ns: int
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class StreamCommand:
    """A program whose stdout lines are stamped; `sid` from 2, because 0 and 1 are the runner's."""

    sid: int
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PollTrip:
    """End the runner when a printed integer exceeds `limit`: the one behind `before`, on the last line with both texts.

    An empty `besides` is on every line.
    """

    limit: int
    before: str
    besides: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """A program run anew every `period_ns`; all that it prints is one stamped record."""

    sid: int
    period_ns: int
    argv: tuple[str, ...]
    trips: tuple[PollTrip, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepare:
    """A program run before the runner starts; what it prints is kept in the journal under `name`."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trip:
    """End the runner when the integer in file `cid` exceeds `limit`, in the file's own unit."""

    cid: int
    limit: int


@dataclass(frozen=True, slots=True)
class RestoreWrite:
    """Write `value` into `path` when the job is over."""

    path: str
    value: str


@dataclass(frozen=True, slots=True)
class RestoreExec:
    """Run a program when the job is over."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything the agent needs for one run. Without a runner it samples for `linger_s`.

    `affinity` is a CPU list such as `0-3,6`; `linger_s` is sampled before the runner starts and after it ended, or
    after it `recovery_s` where that is longer.
    """

    run_id: str
    runner: tuple[str, ...] = ()
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    affinity: str | None = None
    timeout_s: float | None = None
    linger_s: float = 0.0
    recovery_s: float = 0.0
    groups: tuple[Group, ...] = ()
    streams: tuple[StreamCommand, ...] = ()
    polls: tuple[Poll, ...] = ()
    prepares: tuple[Prepare, ...] = ()
    trips: tuple[Trip, ...] = ()
    restores: tuple[RestoreWrite | RestoreExec, ...] = ()

    def render(self) -> bytes:
        """Write the job as the agent reads it. Raises UsageError on a value that it could not take."""
        lines = ["melt-job 1", _line("run", self.run_id)]
        if self.runner:
            lines.append(_line("runner", *self.runner))
        if self.cwd is not None:
            lines.append(_line("cwd", self.cwd))
        lines += [_line("env", name, value) for name, value in self.env.items()]
        if self.affinity is not None:
            lines.append(_line("affinity", self.affinity))
        lines += _milliseconds("timeout_ms", self.timeout_s)
        lines += _milliseconds("linger_ms", self.linger_s)
        lines += _milliseconds("recovery_ms", self.recovery_s)
        for group in self.groups:
            lines.append(_line("group", group.gid, group.period_ns))
            lines += [_line("file", group.gid, f.cid, f.max_bytes, f.path) for f in group.files]
        lines += [_line("stream", stream.sid, *stream.argv) for stream in self.streams]
        for poll in self.polls:
            lines.append(_line("poll", poll.sid, poll.period_ns, *poll.argv))
            lines += [_line("poll_trip", poll.sid, trip.limit, trip.before, trip.besides) for trip in poll.trips]
        lines += [_line("prepare", prepare.name, *prepare.argv) for prepare in self.prepares]
        lines += [_line("trip", trip.cid, trip.limit) for trip in self.trips]
        for restore in self.restores:
            if isinstance(restore, RestoreWrite):
                lines.append(_line("restore_write", restore.path, restore.value))
            else:
                lines.append(_line("restore_exec", *restore.argv))
        return "".join(f"{line}\n" for line in lines).encode()


def _line(name: str, *fields: str | int) -> str:
    return " ".join((name, *(encode_field(str(f)).decode() for f in fields)))


def _milliseconds(name: str, seconds: float | None) -> list[str]:
    """Round up: a time of less than a millisecond that was asked for is not none."""
    if not seconds:
        return []
    if not 0 < seconds <= 30 * 86400:
        raise UsageError(f"{name[:-3]}: {seconds:g} s is not between 0 and 30 days")
    return [f"{name} {-int(-seconds * 1000 // 1)}"]
