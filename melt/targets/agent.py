"""The agent on a device, seen from the host: put it there, speak its verbs. The contract is agents/PROTOCOL.md."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from melt import _layout
from melt.errors import AgentError, NoSpace, TransportTimeout
from melt.records import Compute
from melt.targets.jobfile import decode_field
from melt.transports.base import Channel, Completed, Progress, Transport

PROTOCOL = 1
_ARGUMENT_BYTES = 32768
"""How much of a command line one call fills: adb takes 64 KiB, quotes for the shell included."""

_SILENCE_S = 60.0
"""An agent that works on something long says so every five seconds; after so long without a word it is not there."""
_BUILDING = Lock()
"""A shelf of devices is reached at once."""
_FULL = ("No space left on device", "uota exceeded")
"""What the C libraries of our agents say of ENOSPC and EDQUOT."""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """What an agent says of itself. Two agents are the same when `agent` is."""

    agent: str
    os: str
    arch: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a job stands. `state` is running, ended, dead (started, not ended, nobody there) or absent."""

    state: str
    pid: int | None
    journal_bytes: int
    t_ns: int
    end: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a folder of the store; `used_s` is how long ago it was received or last asked for."""

    path: str
    size: int
    used_s: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in a store, parts of files (`….part`) too, and the room on its file system."""

    files: tuple[StoredFile, ...]
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class AgentBinaries:
    """The agents this melt brings along, one per kind of device."""

    version: str
    folder: Path
    targets: dict[str, dict[str, object]] = field(default_factory=dict)

    @classmethod
    def find(cls) -> AgentBinaries:
        """Find them; in a checkout build them first where they are missing or old. Raises AgentError."""
        folder = _layout.agents_dir() / "bin"
        root = _layout.checkout_root()
        if root is not None:
            with _BUILDING:
                _build(root / "agents")
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            return cls(manifest["version"], folder, manifest["targets"])
        except (OSError, ValueError, KeyError) as error:
            raise AgentError(f"{folder}/manifest.json: no agents lie here ({error}): install melt anew") from error

    def path(self, system: str, arch: str) -> Path:
        """Return the binary for a device by what `uname -s` and `uname -m` say there. Raises AgentError."""
        arch = {"arm64": "aarch64", "amd64": "x86_64"}.get(arch.lower(), arch.lower())
        target = f"{arch}-macos" if system.lower() in ("darwin", "macos") else f"{arch}-{system.lower()}-musl"
        entry = self.targets.get(target)
        if target == "x86_64-macos":
            raise AgentError("this is an Intel Mac: melt measures Macs with Apple silicon only")
        if entry is None:
            raise AgentError(f"there is no agent for {system} on {arch}, only for {', '.join(sorted(self.targets))}")
        return self.folder / str(entry["file"])


class AgentClient:
    """Speak with the agent of one device. `root` is melt's folder there; `call` is made after `deploy`."""

    def __init__(self, transport: Transport, root: str, binaries: AgentBinaries | None = None) -> None:
        self._transport = transport
        self._root = root.rstrip("/")
        self._binaries = binaries
        self._path: str | None = None

    @property
    def path(self) -> str:
        """Where the agent lies on the device. Raises AgentError before `deploy`."""
        if self._path is None:
            raise AgentError(f"{self._transport.name}: the agent was not deployed yet")
        return self._path

    @property
    def binaries(self) -> AgentBinaries:
        """The agents this melt has, found (or built, in a checkout) when first asked for. Raises AgentError."""
        if self._binaries is None:
            self._binaries = AgentBinaries.find()
        return self._binaries

    @property
    def expected_version(self) -> str:
        """The only version this melt works with."""
        return self.binaries.version

    def deploy(self) -> AgentVersion:
        """Put the agent there unless exactly this one is there already. Raises AgentError, TransportError, NoSpace."""
        binary = self.binaries.path(*self._system())
        folder = f"{self._root}/agents/{hashlib.sha256(binary.read_bytes()).hexdigest()[:12]}"
        self._path = f"{folder}/melt-agent"
        try:
            found = self.version()
        except AgentError:
            found = None
        if found is None or found.agent != self.expected_version:
            made = self._transport.run(("mkdir", "-p", folder))
            if made.exit_code:
                raise AgentError(f"{self._transport.name}: cannot make {folder}: {_complaint(made)}")
            self._transport.push(binary, self._path, mode=0o755)
            found = self.version()
        if found.agent != self.expected_version:
            raise AgentError(
                f"{self._transport.name}: the agent is {found.agent} after the push, expected {self.expected_version}"
            )
        return found

    def version(self) -> AgentVersion:
        """Ask the agent what it is. Raises AgentError."""
        data = self._json(self._call("version"))
        if data.get("protocol") != PROTOCOL:
            raise AgentError(
                f"{self._transport.name}: the agent speaks protocol {data.get('protocol')}, not {PROTOCOL}"
            )
        return AgentVersion(str(data["agent"]), str(data["os"]), str(data["arch"]))

    def start(self, jobdir: str) -> int:
        """Start the job in a folder on the device and return the worker's process number. Raises AgentError."""
        return int(self._json(self._call("start", jobdir))["pid"])

    def status(self, jobdir: str) -> Status:
        """Ask how a job stands."""
        return self._status(self._call("status", jobdir))

    def stop(self, jobdir: str, *, timeout_s: float = 90.0) -> Status:
        """End a job in order and wait for that."""
        return self._status(self._call("stop", jobdir, timeout_s=timeout_s))

    def recover(self, jobdir: str, *, timeout_s: float = 90.0) -> Status:
        """Give a dead job its end: kill what is left of it, restore the knobs."""
        return self._status(self._call("recover", jobdir, timeout_s=timeout_s))

    def tail(self, jobdir: str, offset: int = 0, *, follow: bool = False) -> Channel:
        """Open the journal's bytes from `offset` on; with `follow` they end when the job has ended."""
        follows = ("--follow",) if follow else ()
        return self._transport.open((self.path, "tail", jobdir, str(offset), *follows))

    def clock_offset(self, n: int = 20, *, timeout_s: float = 5.0) -> tuple[int, int]:
        """Measure the host's monotonic clock minus the device's, in ns, and its uncertainty (half a round trip).

        The shortest of `n` round trips counts: whatever makes one longer makes it less certain.
        """
        trips: list[tuple[int, int]] = []
        with self._transport.open((self.path, "clock")) as channel:
            lines = _Lines(channel, f"{self._transport.name}: agent clock", timeout_s)
            for _ in range(n):
                sent_ns = time.monotonic_ns()
                channel.write(b"\n")
                line = lines.next()
                received_ns = time.monotonic_ns()
                device_ns = int(self._object(line)["t_ns"])
                trips.append((received_ns - sent_ns, (sent_ns + received_ns) // 2 - device_ns))
        round_trip_ns, offset_ns = min(trips)
        return offset_ns, round_trip_ns // 2

    def hash(self, paths: Sequence[str], *, known: bool = False) -> dict[str, str]:
        """Return the sha256 of files on the device; what is not there or cannot be read is absent.

        With `known` a file that was not touched since its hash was taken is not read again, and counts as used now.
        """
        options = ("--known",) if known else ()
        found: dict[str, str] = {}
        for batch in _batches(paths):
            for data in self._answers(len(batch), "hash", *options, *batch):
                if "sha256" in data:
                    found[str(data["path"])] = str(data["sha256"])
        return found

    def receive(
        self, local: Path, remote: str, sha256: str, *, offset: int = 0, progress: Progress | None = None
    ) -> None:
        """Send a file, whose hash is checked there; `offset` says how much of its part is there already.

        A link that breaks leaves the part, which `stored` tells of. Raises NoSpace, AgentError, TransportError.
        """
        argv = (self.path, "receive", remote, str(local.stat().st_size), str(offset), sha256)
        done = self._transport.feed(argv, local, offset=offset, timeout_s=_SILENCE_S, progress=progress)
        if not done.exit_code:
            return
        complaint = _complaint(done)
        if any(words in complaint for words in _FULL):
            raise NoSpace(
                f"{self._transport.name}: no room for {remote}: make room on the device, or use a smaller model"
            )
        raise AgentError(f"{self._transport.name}: agent receive: {complaint}")

    def stored(self, folder: str) -> Stored:
        """Tell what lies in the folders right below `folder`; one that is not there yet is empty."""
        *files, room = [self._object(line) for line in self._call("stored", folder).splitlines()]
        return Stored(
            tuple(StoredFile(str(f["path"]), int(f["size"]), int(f["used_s"])) for f in files),
            int(room["free_bytes"]),
            int(room["total_bytes"]),
        )

    def read(self, globs: Sequence[str]) -> dict[str, bytes]:
        """Return the files that match, each up to 64 KiB; what cannot be read is absent."""
        files: dict[str, bytes] = {}
        for batch in _batches(globs):
            files.update(self._files(self._call("read", *batch)))
        return files

    def bandwidth(self, threads: int | None = None, *, seconds: int = 1) -> float:
        """Measure how fast `threads` (default: one per CPU) read memory together, in bytes per second."""
        count = () if threads is None else ("--threads", str(threads))
        answer = self._call("bandwidth", *count, "--seconds", str(seconds), timeout_s=30.0 + seconds)
        return float(self._json(answer)["bytes_per_s"])

    def compute(self, threads: int | None = None) -> Compute:
        """Measure how fast `threads` (default: one per CPU) multiply and add together. Raises AgentError."""
        count = () if threads is None else ("--threads", str(threads))
        said = self._json(self._call("compute", *count))
        return Compute(
            int8_ops_per_s=float(said["int8_ops_per_s"]),
            int8_path=str(said["int8_path"]),
            f32_ops_per_s=float(said["f32_ops_per_s"]),
            f32_path=str(said["f32_path"]),
            threads=int(said["threads"]),
        )

    def burst(self, steps_ms: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Keep all CPUs busy and idle in turn, in ms each, first and last busy; return when they were, in ns."""
        answer = self._json(self._call("burst", *map(str, steps_ms), timeout_s=30.0 + sum(steps_ms) / 1000))
        return tuple((int(first), int(last)) for first, last in answer["busy_ns"])

    def _system(self) -> tuple[str, str]:
        done = self._transport.run(("uname", "-sm"))
        words = done.stdout.decode(errors="replace").split()
        if done.exit_code or len(words) != 2:
            raise AgentError(f"{self._transport.name}: `uname -sm` did not say what kind of device this is")
        return words[0], words[1]

    def _call(self, *args: str, timeout_s: float = 30.0) -> bytes:
        done = self._transport.run((self.path, *args), timeout_s=timeout_s)
        if done.exit_code:
            raise AgentError(f"{self._transport.name}: agent {args[0]}: {_complaint(done)}")
        return done.stdout

    def _answers(self, count: int, *args: str) -> list[dict[str, Any]]:
        """Return the objects of a verb that may take long: only its silence is an error."""
        with self._transport.open((self.path, *args)) as channel:
            lines = _Lines(channel, f"{self._transport.name}: agent {args[0]}", _SILENCE_S)
            answers: list[dict[str, Any]] = []
            while len(answers) < count:
                if line := lines.next():
                    answers.append(self._object(line))
        return answers

    def _status(self, answer: bytes) -> Status:
        data = self._json(answer)
        return Status(str(data["state"]), data["pid"], int(data["journal_bytes"]), int(data["t_ns"]), data["end"])

    def _json(self, answer: bytes) -> dict[str, Any]:
        return self._object(answer.strip())

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise AgentError(f"{self._transport.name}: the agent answered {line[:200]!r}, which is no JSON object")
        return data

    def _files(self, answer: bytes) -> Iterable[tuple[str, bytes]]:
        position = 0
        while position < len(answer):
            end = answer.find(b"\n", position)
            name, _, length_text = answer[position : max(end, position)].partition(b" ")
            try:
                length = int(length_text)
            except ValueError as error:
                raise AgentError(f"{self._transport.name}: the agent's list of files is cut short") from error
            position = end + 1
            if length < 0:
                continue
            content = answer[position : position + length]
            position += length + 1
            if position > len(answer):
                raise AgentError(f"{self._transport.name}: the agent's list of files is cut short")
            yield decode_field(name), content


class _Lines:
    """A channel's output, line by line."""

    def __init__(self, channel: Channel, name: str, timeout_s: float) -> None:
        self._channel = channel
        self._name = name
        self._timeout_s = timeout_s
        self._pending = b""

    def next(self) -> bytes:
        """Return the next line. Raises TransportTimeout, and AgentError at the end of the output."""
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._pending:
            data = self._channel.read(65536, max(0.0, deadline - time.monotonic()))
            if data is None:
                raise TransportTimeout(f"{self._name} gave no answer within {self._timeout_s:g} s")
            if not data:
                raise AgentError(f"{self._name} ended before it answered")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def _batches(words: Sequence[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for word in words:
        size += len(word.encode(errors="surrogateescape")) + 1
        if batch and size > _ARGUMENT_BYTES:
            yield batch
            batch, size = [], len(word) + 1
        batch.append(word)
    if batch:
        yield batch


def _complaint(done: Completed) -> str:
    text = done.stderr.decode(errors="replace").strip().removeprefix("melt-agent: ")
    return text or f"exit code {done.exit_code}"


@cache
def _build(agents: Path) -> None:
    """Run agents/build.py, which says on stderr what it builds, and nothing when all is up to date: once a process."""
    done = subprocess.run((sys.executable, str(agents / "build.py")), capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        raise AgentError(said.strip() or "agents/build.py failed")
    sys.stderr.write(said)
