"""How a run ended, from everything that was left of it: what the runner said, how it exited, what the agent saw."""

from __future__ import annotations

import errno
import math
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from melt.engines.base import RunnerReport
from melt.records import Outcome, Reason, TripLimit
from melt.telemetry.journal import Event
from melt.units import human

_FAILURES = {
    "out_of_memory": Outcome.OOM,
    "unsupported_cpu": Outcome.UNSUPPORTED,
    "unsupported_model": Outcome.UNSUPPORTED,
    "context_too_long": Outcome.UNSUPPORTED,
    "provider_missing": Outcome.UNSUPPORTED,
}
"""Outcome of a failure that the runner named itself; all others are `failed`."""

_ALLOCATION_FAILED = re.compile(
    r"out of memory|insufficient memory|bad_alloc|MemoryError|cannot allocate memory"
    r"|(failed|unable) to allocate|alloc\w*(\(\))? failed|cudaErrorMemoryAllocation",
    re.IGNORECASE,
)
_OLD_PYTHON = "future feature annotations is not defined"
"""What a Python before 3.7 says of a runner's first line."""
_NO_ENGINE = "engine_missing"
_MAX_QUOTE = 200


@dataclass(frozen=True, slots=True)
class Exit:
    """How the runner's process ended; None where nobody saw it. `oom_kill`: the kernel killed for memory meanwhile."""

    exit_code: int | None = None
    signal: int | None = None
    oom_kill: bool | None = None


def exit_of(events: Sequence[Event], end: Mapping[str, object] | None) -> Exit:
    """Read how the runner's process ended from `runner_exited`, else from the `end` document."""
    data = next((e.data for e in reversed(events) if e.name == "runner_exited"), end or {})
    oom_kill = data.get("oom_kill")
    return Exit(_int(data.get("exit_code")), _int(data.get("signal")), oom_kill if isinstance(oom_kill, bool) else None)


def outcome(
    report: RunnerReport,
    events: Sequence[Event],
    end: Mapping[str, object] | None,
    stderr: str,
    *,
    device: str = "local",
    trips: Sequence[TripLimit] = (),
) -> tuple[Outcome, Reason | None]:
    """Return how the run ended and, unless it is ok, why: one sentence. `device` is its selector.

    `trips` are the limits that were watched.

    A cause is preferred to its effect: what the runner named itself, then what the agent did to it, then its exit.
    """
    if end is None:
        end = next((e.data for e in reversed(events) if e.name == "end"), None)
    how = str(end.get("reason")) if end else None
    if report.failure is not None:
        return _FAILURES.get(report.failure.code, Outcome.FAILED), _with_remedy(report.failure, device)
    if how == "runner_not_started":
        return _not_started(events, device)
    if _OLD_PYTHON in stderr and not report.complete:
        old = Reason(code=_NO_ENGINE, message="the device's own Python is too old for the engine's runner")
        return Outcome.FAILED, _with_remedy(old, device)
    if how in _ENDED_BY_AGENT:
        kind, message = _ENDED_BY_AGENT[how]
        return kind, _tripped(events, trips, message) if how == "tripped" else Reason(code=how, message=message)
    if end is not None and end.get("rebooted") is True and not report.complete:
        message = "the device started anew in the middle of the run"
        return Outcome.DEVICE_LOST, Reason(code="rebooted", message=message)
    exited = exit_of(events, end)
    memory = _out_of_memory(exited, stderr)
    if memory is not None:
        return Outcome.OOM, memory
    if how is None and exited == Exit():
        message = "the journal ends in the middle of the run: the device went away, or its agent did"
        return Outcome.DEVICE_LOST, Reason(code="no_end", message=message)
    return _by_exit(report, exited, how, stderr)


_ENDED_BY_AGENT = {
    "timeout": (Outcome.TIMEOUT, "the runner took longer than the run's timeout and was ended"),
    "tripped": (Outcome.FAILED, "the device became hotter than a limit and the runner was ended"),
    "stopped": (Outcome.ABORTED, "the run was stopped before it was done"),
}


def _with_remedy(reason: Reason, device: str) -> Reason:
    """Say of an engine that is not there how it gets there."""
    if reason.code != _NO_ENGINE:
        return reason
    kind, _, host = device.partition(":")
    extra = "onnx" if "onnxruntime" in reason.message else "llama"
    way = f"`melt provision {host}`" if kind == "ssh" else f"`pip install 'melt[{extra}]'`"
    return replace(reason, message=f"{reason.message}: {way} installs the engine")


def _not_started(events: Sequence[Event], device: str) -> tuple[Outcome, Reason]:
    data = next((e.data for e in events if e.name == "runner_not_started"), {})
    why = str(data.get("message") or "the system gave no reason")
    if device.startswith("ssh:") and data.get("errno") == errno.ENOENT:
        lacking = Reason(code=_NO_ENGINE, message="the device has no Python for the engine's runner")
        return Outcome.FAILED, _with_remedy(lacking, device)
    return Outcome.FAILED, Reason(code="runner_not_started", message=f"the runner could not be started: {why}")


def _out_of_memory(exited: Exit, stderr: str) -> Reason | None:
    if exited.signal == signal.SIGKILL and exited.oom_kill:
        return Reason(code="killed_by_oom", message="the kernel killed the runner because memory ran out")
    if exited.exit_code == 0:
        return None
    line = next((ln for ln in reversed(stderr.splitlines()) if _ALLOCATION_FAILED.search(ln)), None)
    if line is None:
        return None
    return Reason(code="allocation_failed", message=f"the runner could not get the memory it needs: {_quote(line)}")


def _by_exit(report: RunnerReport, exited: Exit, how: str | None, stderr: str) -> tuple[Outcome, Reason | None]:
    # One that was killed in the rest after a run took nothing from it.
    if how == "agent_killed" and not (report.complete and exited.exit_code == 0):
        return Outcome.FAILED, Reason(code=how, message="the agent was killed on the device, and the runner with it")
    if exited.signal is not None:
        code, message = "runner_killed", f"the runner was ended by signal {exited.signal}{_name(exited.signal)}"
        if exited.signal == signal.SIGKILL and exited.oom_kill is None:
            message += "; whether memory had run out is not known"
        return Outcome.FAILED, Reason(code=code, message=_with_stderr(message, stderr))
    if exited.exit_code:
        message = f"the runner ended with exit code {exited.exit_code}"
        return Outcome.FAILED, Reason(code="runner_failed", message=_with_stderr(message, stderr))
    if how == "recovered" and not report.complete:
        message = "the agent was gone before the run had ended: it was killed on the device"
        return Outcome.FAILED, Reason(code=how, message=message)
    if not report.complete:
        message = "the runner ended without an error but before it was done"
        return Outcome.FAILED, Reason(code="incomplete", message=_with_stderr(message, stderr))
    return Outcome.OK, None


def _tripped(events: Sequence[Event], trips: Sequence[TripLimit], message: str) -> Reason:
    """Name the sensor, what it said, and its limit; `message` where the journal does not tell."""
    data = next((e.data for e in events if e.name == "tripped"), {})
    value, channel = data.get("value"), next((f"{key} {data[key]}" for key in ("cid", "sid") if key in data), None)
    found = [trip for trip in trips if trip.channel == channel]
    asked = [trip for trip in found if math.floor(trip.limit * trip.per_unit) == data.get("limit")]
    # Chips of one program may share a limit: there it tells which.
    told = data.get("poll_trip")
    trip = found[told] if isinstance(told, int) and 0 <= told < len(found) else next(iter(asked or found), None)
    if trip is None or not isinstance(value, (int, float)):
        return Reason(code="tripped", message=message)
    said = value / trip.per_unit
    over, limit = (f"{v:g}" if trip.unit == "1" else human(v, trip.unit) for v in (said, trip.limit))
    did = "ended" if any(e.name == "runner_started" for e in events) else "not started"
    message = f"{trip.site} said {over}, more than its limit of {limit} ({trip.basis}): the runner was {did}"
    return Reason(code="tripped", message=message, figures={"value": said, "limit": trip.limit})


def _with_stderr(message: str, stderr: str) -> str:
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), None)
    return message if last is None else f"{message}: {_quote(last)}"


def _quote(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _MAX_QUOTE else line[: _MAX_QUOTE - 1] + "…"


def _name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
