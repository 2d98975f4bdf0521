"""Steps about the link alone: what a transport promises, tried on the device without an agent."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from melt.analysis.selftest import Finding, verdict
from melt.errors import DeviceError, TransportTimeout
from melt.fleet.selftest.course import Course, until
from melt.transports.base import Transport

_TRIPS = 20
_FILE_BYTES = 8 << 20
_BYTES = bytes(range(256)) * 256
_DEADLINE_S = 1.0
_GONE_WITHIN_S = 5.0
_ANSWER_S = 10.0
_SLOW_TRIP_S = 1.0
_LEADER_AND_CHILD = 'echo $$ > "$1"; sleep 600 & echo $! >> "$1"; wait'


def check_link(course: Course, transport: Transport, folder: str, scratch: Path) -> None:
    """Try every promise of a transport. `folder` on the device and `scratch` here are empty, and may be filled."""
    steps: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("round trip", lambda: _round_trip(transport)),
        ("kept channel", lambda: _channel(transport)),
        ("raw bytes", lambda: _raw_bytes(transport)),
        ("streams and exit code", lambda: _streams(transport)),
        ("signal", lambda: _signal(transport)),
        ("deadline", lambda: _deadline(transport, folder)),
        ("push and pull", lambda: _files(transport, folder, scratch)),
    )
    for name, check in steps:
        course.take("link", name, check)


def _round_trip(transport: Transport) -> Finding:
    took_s = []
    for _ in range(_TRIPS):
        began = time.monotonic()
        done = transport.run(("true",))
        took_s.append(time.monotonic() - began)
        if done.exit_code or done.stdout or done.stderr:
            return verdict(False, f"`true` ended with {done.exit_code}", raw=_printed(done.stdout, done.stderr))
    median_s = statistics.median(took_s)
    figures = {"median_s": median_s, "best_s": min(took_s), "worst_s": max(took_s), "trips": float(_TRIPS)}
    return verdict(
        median_s < _SLOW_TRIP_S,
        f"a command takes {median_s * 1e3:.3g} ms, {max(took_s) * 1e3:.3g} ms at worst",
        figures,
    )


def _channel(transport: Transport) -> Finding:
    took_s = []
    with transport.open(("cat",)) as channel:
        for number in range(_TRIPS):
            word = b"%d\n" % number
            began = time.monotonic()
            channel.write(word)
            back = b""
            while len(back) < len(word) and (more := channel.read(64, _ANSWER_S)):
                back += more
            took_s.append(time.monotonic() - began)
            if back != word:
                return verdict(False, f"a line of {len(word)} bytes came back as {back!r}")
    median_s = statistics.median(took_s)
    figures = {"median_s": median_s, "worst_s": max(took_s)}
    return verdict(True, f"an open program answers within {median_s * 1e3:.3g} ms", figures)


def _raw_bytes(transport: Transport) -> Finding:
    done = transport.run(("cat",), stdin=_BYTES)
    if done.stdout == _BYTES:
        return verdict(True, f"all 256 bytes pass both ways unchanged ({len(_BYTES) >> 10} KiB)")
    differ = next((i for i, pair in enumerate(zip(done.stdout, _BYTES, strict=False)) if pair[0] != pair[1]), None)
    said = f"{len(_BYTES)} bytes became {len(done.stdout)}"
    said += "" if differ is None else f", byte {differ} differs: {done.stdout[differ]:#04x} for {_BYTES[differ]:#04x}"
    return verdict(False, said, raw=repr(done.stdout[:200]))


def _streams(transport: Transport) -> Finding:
    done = transport.run(("sh", "-c", "echo out; echo err >&2; exit 37"))
    missing = transport.run(("melt-has-no-such-program",))
    raw = _printed(done.stdout, done.stderr)
    if (done.stdout, done.stderr) != (b"out\n", b"err\n"):
        said = "stdout and stderr hold more than the program printed: does a shell start-up file print something?"
        return verdict(False, said, raw=raw)
    codes = {"exit_code": float(done.exit_code), "missing_program": float(missing.exit_code)}
    fine = (done.exit_code, missing.exit_code) == (37, 127)
    return verdict(
        fine, f"apart and clean; exit code 37 is {done.exit_code}, a missing program {missing.exit_code}", codes
    )


def _signal(transport: Transport) -> Finding:
    done = transport.run(("sh", "-c", "kill -TERM $$"))
    return verdict(done.exit_code == -15, f"a program that SIGTERM ended has exit code {done.exit_code}, expected -15")


def _deadline(transport: Transport, folder: str) -> Finding:
    note = f"{folder}/pids"
    began = time.monotonic()
    try:
        transport.run(("sh", "-c", _LEADER_AND_CHILD, "sh", note), timeout_s=_DEADLINE_S)
    except TransportTimeout:
        took_s = time.monotonic() - began
    else:
        return verdict(False, f"a program of 600 s ended within {_DEADLINE_S:g} s")
    pids = transport.run(("cat", note)).stdout.decode(errors="replace").split()
    gone = until(lambda: not _alive(transport, pids), within_s=_GONE_WITHIN_S)
    figures = {"asked_s": _DEADLINE_S, "took_s": took_s, "processes": float(len(pids))}
    if not gone or len(pids) != 2:
        left = ", ".join(_alive(transport, pids)) or "unknown"
        return verdict(False, f"of a program and its child, process {left} outlived the deadline", figures)
    return verdict(True, f"ended after {took_s:.2f} s, program and child are gone", figures)


def _alive(transport: Transport, pids: list[str]) -> list[str]:
    return [pid for pid in pids if pid.isdecimal() and transport.run(("kill", "-0", pid)).exit_code == 0]


def _files(transport: Transport, folder: str, scratch: Path) -> Finding:
    here, back, there = scratch / "sent", scratch / "back", f"{folder}/file"
    data = os.urandom(_FILE_BYTES)
    here.write_bytes(data)
    began = time.monotonic()
    transport.push(here, there)
    pushed_s = time.monotonic() - began
    began = time.monotonic()
    transport.pull(there, back)
    pulled_s = time.monotonic() - began
    same = hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(data).digest()
    figures = {
        "bytes": float(_FILE_BYTES),
        "push_bytes_per_s": _FILE_BYTES / pushed_s,
        "pull_bytes_per_s": _FILE_BYTES / pulled_s,
    }
    rates = f"{_FILE_BYTES / pushed_s / 1e6:.3g} MB/s there, {_FILE_BYTES / pulled_s / 1e6:.3g} MB/s back"
    return verdict(
        same, f"{_FILE_BYTES >> 20} MiB: {rates}" + ("" if same else ", but they came back changed"), figures
    )


def make_folder(transport: Transport, folder: str) -> None:
    """Make an empty folder on the device. Raises DeviceError, TransportError."""
    done = transport.run(("mkdir", "-p", folder))
    if done.exit_code:
        raise DeviceError(f"{transport.name}: cannot make {folder}: {done.stderr.decode(errors='replace').strip()}")


def _printed(stdout: bytes, stderr: bytes) -> str:
    return f"stdout: {stdout[:400]!r}\nstderr: {stderr[:400]!r}"
