"""What is done to an adb daemon, through adb and through the server's socket, and what came of it, made comparable."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REMOTE = "/data/local/tmp/probe"
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Step:
    """One call. `{local}` and `{remote}` stand for folders that are made anew for each probe.

    `adb`: arguments of the client. Without them `service` is opened on the phone through the server's socket.
    """

    adb: tuple[str, ...] = ()
    service: str = ""
    send: bytes = b""
    answer_bytes: int | None = None
    """How much of a service's answer is awaited; None: all, until the daemon closes."""


@dataclass(frozen=True)
class Probe:
    """Steps that belong together. `files`: what lies in the local folder at first."""

    name: str
    steps: tuple[Step, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One phone on one adb server."""

    adb: Path
    environment: Mapping[str, str]
    serial: str
    server_port: int

    def run(self, *arguments: str, send: bytes = b"") -> tuple[bytes, bytes, int]:
        """Run adb on this phone; return stdout, stderr and the exit status."""
        done = subprocess.run(
            [self.adb, "-s", self.serial, *arguments],
            env=self.environment,
            input=send,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return done.stdout, done.stderr, done.returncode

    def open(self, service: str, send: bytes, answer_bytes: int | None) -> bytes:
        """Open a service as adbutils does; return how the server answers, and then what the service says."""
        with socket.create_connection(("127.0.0.1", self.server_port), timeout=_TIMEOUT_S) as link:
            stream = link.makefile("rwb")
            for request in (f"host:transport:{self.serial}", service):
                stream.write(f"{len(request):04x}{request}".encode())
                stream.flush()
                status = stream.read(4)
                if status != b"OKAY":
                    return status + stream.read()
            stream.write(send)
            stream.flush()
            try:
                return status + (stream.read() if answer_bytes is None else stream.read(answer_bytes))
            except ConnectionResetError:
                return status + b"(reset)"


def observe(target: Target, probe: Probe, local: Path) -> list[object]:
    """Run a probe; return what each step gave and what then lay in the local folder, without what always varies."""
    for name, data in probe.files.items():
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    target.run("shell", f"rm -rf {REMOTE}; mkdir -p {REMOTE}")
    seen: list[object] = []
    for step in probe.steps:
        if step.adb:
            arguments = [text.replace("{local}", str(local)).replace("{remote}", REMOTE) for text in step.adb]
            out, err, status = target.run(*arguments, send=step.send)
            # How far a push came and why it failed are said by two threads of adb, in any order.
            complaints = sorted(_plain(err, target, local).splitlines())
            seen.append((_plain(out, target, local), complaints, status))
        else:
            answer = target.open(step.service.replace("{remote}", REMOTE), step.send, step.answer_bytes)
            if step.service.startswith("shell,v2"):
                seen.append({kind: _plain(said, target, local) for kind, said in _by_stream(answer).items()})
            else:
                seen.append(_plain(answer, target, local))
    seen.append(
        {
            str(path.relative_to(local)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(local.rglob("*"))
            if path.is_file()
        }
    )
    return seen


def _by_stream(answer: bytes) -> dict[int, bytes]:
    """Join the packets of the shell protocol by stream; in how many pieces output comes is chance. -1: the status."""
    streams = {-1: answer[:4]}
    at = 4
    while at < len(answer):
        kind, size = struct.unpack_from("<BI", answer, at)
        at += 5 + size
        streams[kind] = streams.get(kind, b"") + answer[at - size : at]
    return streams


_VARYING = (
    (rb"\d+\.\d+ [kMG]?B/s", b"SPEED"),
    (rb"\(\d+ bytes in [\d.]+s\)", b"(SIZE)"),
    (rb"in [\d.]+s\b", b"in TIME"),
    (rb"^\d{4,5}$", b"PORT"),
    (rb"/dev/pts/\d+", b"/dev/pts/N"),
    (rb"\[ *\d+%\] [^\r\n]*\r?\n?", b""),  # progress, which depends on how fast it goes
    (rb"^host-\d+ ", b"host-N "),
    (rb"\b1[67]\d{8}\b|\b\d{4}-\d\d-\d\d \d\d:\d\d\b", b"WHEN"),
)


def _plain(text: bytes, target: Target, local: Path) -> bytes:
    text = text.replace(target.serial.encode(), b"SERIAL").replace(str(local).encode(), b"LOCAL")
    for pattern, instead in _VARYING:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text if len(text) < 4000 else hashlib.sha256(text).hexdigest().encode()


def adb(*arguments: str, send: bytes = b"") -> Step:
    """A call of the client."""
    return Step(adb=arguments, send=send)


def shell(command: str, send: bytes = b"") -> Step:
    """A command for the phone's shell, through the client."""
    return Step(adb=("shell", command), send=send)


def service(name: str, send: bytes = b"", answer_bytes: int | None = None) -> Step:
    """A service, opened without the client."""
    return Step(service=name, send=send, answer_bytes=answer_bytes)


def sync(request: bytes, argument: bytes, more: bytes = b"", answer_bytes: int | None = None) -> Step:
    """One request to the sync service, then QUIT."""
    packet = request + struct.pack("<I", len(argument)) + argument + more
    return service("sync:", packet + b"QUIT\0\0\0\0", answer_bytes)


def shell_packet(kind: int, data: bytes = b"") -> bytes:
    """A packet of the shell protocol: kind 0 is input, 3 an exit status, 4 the end of the input."""
    return struct.pack("<BI", kind, len(data)) + data
