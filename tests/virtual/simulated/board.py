"""A Jetson without hardware that outlives every host: melt's agent on it, its disk, its knobs, and a link that breaks.

Time passes for it only when somebody says so: whoever waits for it lets it live on (`advance`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from random import Random

from melt.errors import Gone, NoSpace, Offline, TransportError, TransportTimeout
from melt.targets import jetson, jetson_knobs
from melt.targets.agent import AgentBinaries
from virtual.simulated import recording
from virtual.simulated.job import Asked, Job, Ran
from virtual.simulated.recording import Script

HOME = "/home/lab"
_S = 1_000_000_000
_FLUSH_NS = _S // 4
_CALL_S = 0.002
_MODES = {"15W": 0, "25W": 1, "MAXN_SUPER": 2}
_CONFIG = "".join(f"< POWER_MODEL ID={number} NAME={name} >\n" for name, number in _MODES.items())
_FULL = "No space left on device"
_MODE, _CLOCKS = "nvpmodel", "jetson_clocks"

_KEPT = re.compile(r"/(etc|proc)/|/sys/devices/system/cpu/(cpu[01]/|online)|/sys/class/thermal/thermal_zone0/")
"""Which files of the captured board it has: a thermometer, two CPUs, no rails. Each channel costs every run time."""

Answer = tuple[int, bytes, bytes]
"""A program's exit code, stdout and stderr."""


class Board:
    """One simulated board. `name` is its selector; `script` what every run on it does; `random` its own luck."""

    def __init__(self, name: str, script: Script, random: Random) -> None:
        self.name = name
        self.t_ns = 1000 * _S
        self.wall_ns = 1_790_000_000 * _S
        self.completed: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._orphans: list[Job] = []
        self._script = script
        self._random = random
        self._version = AgentBinaries.find().version
        self._files = {path: content for path, content in recording.files().items() if _KEPT.match(path)}
        self._files[recording.SERIAL_NUMBER] = hashlib.sha256(name.encode()).hexdigest()[:12].encode() + b"\0"
        self._files["/sys/devices/system/cpu/online"] = b"0-1\n"
        self._knobs = {_MODE: "25W", _CLOCKS: jetson_knobs.FREE}
        self._blobs: dict[str, tuple[int, str]] = {}
        self._pushed: dict[str, bytes] = {}
        self._boots = 0
        self._booted_ns = 0
        self._off_until_ns = self._cut_until_ns = self._frozen_until_ns = self._full_until_ns = 0
        self._links = 0
        self._channels: dict[int, tuple[int, str, str, int]] = {}

    # Faults

    def unplug(self, for_s: float) -> None:
        """Break the link; what runs goes on."""
        self._links += 1
        self._cut_until_ns = max(self._cut_until_ns, self.t_ns + int(for_s * _S))

    def freeze(self, for_s: float) -> None:
        """Let the link be silent: nothing breaks, nothing comes."""
        self._frozen_until_ns = self.t_ns + int(for_s * _S)

    def fill_disk(self, for_s: float) -> None:
        """Leave no room on its disk."""
        self._full_until_ns = self.t_ns + int(for_s * _S)

    def switch_off(self, for_s: float) -> None:
        """Take its power away; it starts anew afterwards."""
        for job in self._all:
            job.die(self._random, power_cut=True)
        self._links += 1
        self._boots += 1
        self._booted_ns = self._off_until_ns = self.t_ns + int(for_s * _S)
        # A power mode is kept over a restart, fixed clocks are not.
        self._knobs[_CLOCKS] = jetson_knobs.FREE

    def kill_agent(self) -> None:
        """Kill every process of the agent."""
        for job in self._all:
            job.die(self._random, power_cut=False)

    def heal(self) -> None:
        """Switch on, plug in, make room."""
        self._off_until_ns = self._cut_until_ns = self._frozen_until_ns = self._full_until_ns = 0

    # As it is

    @property
    def knobs(self) -> dict[str, str]:
        """Its conditions as they are now."""
        return dict(self._knobs)

    @property
    def unended(self) -> tuple[str, ...]:
        """The jobs that go on, or died and got no end."""
        return tuple(job.asked.run_id for job in self._all if job.end is None)

    @property
    def disk_full(self) -> bool:
        """Whether there is no room on its disk."""
        return self._full_until_ns > self.t_ns

    @property
    def _all(self) -> list[Job]:
        return [*self._jobs.values(), *self._orphans]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.t_ns += int(seconds * _S)
        self.wall_ns += int(seconds * _S)
        for job in self._all:
            was = job.end
            job.live_until(self.t_ns, disk_full=self.disk_full)
            if was is None and job.end is not None and job.end["reason"] == "completed":
                self.completed.append(job.asked.run_id)

    # What a transport asks

    def run(self, argv: Sequence[str], timeout_s: float) -> Answer:
        """Run a program to its end. Raises TransportError."""
        self._reach(timeout_s)
        if argv[0].endswith("/melt-agent"):
            return self._agent(argv[1], argv[2:])
        if argv[:2] == ("sh", "-c") and argv[2:] == jetson.QUERY[2:]:
            return _said(f"NV Power Mode: {self._knobs[_MODE]}\n{_MODES[self._knobs[_MODE]]}\n")
        if argv[:2] == ("sh", "-c"):
            exit_code, stdout, stderr = self._shell(argv)
            return exit_code, stdout.encode(), stderr.encode()
        if argv[0] == "ls":
            names = {path.removeprefix(f"{argv[-1]}/").partition("/")[0] for path in self._under(argv[-1])}
            return _said("".join(f"{name}\n" for name in sorted(names)))
        if argv[0] == "rm":
            self._remove(argv[-1])
            return _said("")
        return self._other(argv)

    def open(self, argv: Sequence[str]) -> int:
        """Start a program to talk with; return the number by which it is called. Raises TransportError."""
        self._reach(30.0)
        number = len(self._channels) + 1
        self._channels[number] = (self._links, argv[1], argv[2] if len(argv) > 2 else "", 0)
        if argv[1] == "tail":
            self._channels[number] = (self._links, "follow" if "--follow" in argv else "tail", argv[2], int(argv[3]))
        return number

    def read(self, number: int, size: int, timeout_s: float) -> tuple[bytes | None, float]:
        """Return what a journal has that is new, and for how many seconds that was waited. Raises TransportError."""
        links, verb, folder, offset = self._channels[number]
        if self._frozen_until_ns > self.t_ns:
            self.advance(timeout_s)
            return None, timeout_s
        if links != self._links:
            raise TransportError(f"{self.name}: the link broke")
        job = self._jobs.get(folder)
        if job is None:
            return b"", 0.0
        waited_s = 0.0
        while verb == "follow" and len(job.journal) <= offset and job.state == "running" and waited_s < timeout_s:
            step_s = min(_FLUSH_NS / _S, timeout_s - waited_s)
            self.advance(step_s)
            waited_s += step_s
        data = job.journal[offset : offset + size]
        self._channels[number] = (links, verb, folder, offset + len(data))
        return (data if data or verb == "tail" or job.state != "running" else None), waited_s

    def clock(self, number: int) -> int:
        """Return the monotonic clock of this boot, in ns. Raises TransportError."""
        if self._channels[number][0] != self._links or self._frozen_until_ns > self.t_ns:
            raise TransportError(f"{self.name}: the link broke")
        return self.t_ns - self._booted_ns

    def hashes(self, paths: Sequence[str]) -> list[str | None]:
        """Return the sha256 of files, None for those that are not there. Raises TransportError."""
        self._reach(30.0)
        return [self._blobs[path][1] if path in self._blobs else None for path in paths]

    def push(self, remote: str, data: bytes) -> None:
        """Take a small file. Raises NoSpace, TransportError."""
        self._reach(30.0)
        if self.disk_full:
            raise NoSpace(f"{self.name}: no room for {remote}: make room on the device")
        self._pushed[remote] = data

    def receive(self, argv: Sequence[str], broken_off: bool) -> Answer:
        """Take a big file; where the link broke in its middle, a part stays. Raises TransportError."""
        self._reach(30.0)
        remote, size, offset, sha256 = argv[2], int(argv[3]), int(argv[4]), argv[5]
        if self.disk_full:
            return 1, b"", f"melt-agent: {remote}: {_FULL}".encode()
        if broken_off:
            self._blobs[remote + ".part"] = (self._random.randint(offset, size), "")
            raise TransportError(f"{self.name}: the link broke")
        self._blobs.pop(remote + ".part", None)
        self._blobs[remote] = (size, sha256)
        return _said(json.dumps({"path": remote, "size": size, "sha256": sha256}))

    def _reach(self, timeout_s: float) -> None:
        self.advance(_CALL_S)
        if self._off_until_ns > self.t_ns:
            raise Offline(f"{self.name}: no answer: is it switched off?")
        if self._cut_until_ns > self.t_ns:
            raise Gone(f"{self.name}: is not connected")
        if self._frozen_until_ns > self.t_ns:
            self.advance(timeout_s)
            raise TransportTimeout(f"{self.name}: no answer within {timeout_s:g} s")

    def _agent(self, verb: str, words: Sequence[str]) -> Answer:
        if verb == "read":
            found = {**self._files, "/proc/sys/kernel/random/boot_id": self._boot_id().encode() + b"\n"}
            return 0, b"".join(b"%s %d\n%s\n" % (path.encode(), len(c), c) for path, c in found.items()), b""
        if verb == "start":
            return self._start(words[0])
        if verb in ("status", "stop", "recover"):
            job = self._jobs.get(words[0])
            if job is not None and verb == "stop":
                job.stop(self.t_ns)
            elif job is not None and verb == "recover":
                job.recover(self.t_ns, self._boot_id())
            return _said(json.dumps(self._status(job)))
        if verb == "stored":
            stored = [
                {"path": path, "size": size, "used_s": 0} for path, (size, _) in self._blobs.items() if words[0] in path
            ]
            room = {"free_bytes": 0 if self.disk_full else 1 << 36, "total_bytes": 1 << 37}
            return _said("".join(json.dumps(one) + "\n" for one in (*stored, room)))
        answers: Mapping[str, object] = {
            "version": {"agent": self._version, "protocol": 1, "os": "linux", "arch": "aarch64"},
            "bandwidth": {"bytes_per_s": 60e9},
            "compute": {
                "int8_ops_per_s": 400e9,
                "int8_path": "asimddp",
                "f32_ops_per_s": 100e9,
                "f32_path": "asimd",
                "threads": 8,
            },
        }
        return _said(json.dumps(answers[verb]))

    def _start(self, folder: str) -> Answer:
        job = self._pushed.get(f"{folder}/job")
        if job is None:
            return 1, b"", f"melt-agent: {folder}/job: no such file".encode()
        if folder in self._jobs:
            return 1, b"", f"melt-agent: {folder}: this job was started before: use a new folder".encode()
        if self.disk_full:
            return 1, b"", f"melt-agent: {folder}: the journal cannot be opened: {_FULL}".encode()
        nonce = self._random.randbytes(8)
        self._jobs[folder] = Job(Asked.read(job), self._script, self.t_ns, self._boot_id(), self._shell, nonce)
        return _said(json.dumps({"started": True, "pid": 1, "boot_id": self._boot_id()}))

    def _status(self, job: Job | None) -> dict[str, object]:
        if job is None:
            return {"state": "absent", "pid": None, "journal_bytes": 0, "t_ns": self.t_ns, "end": None}
        size = len(job.journal)
        return {"state": job.state, "pid": 1, "journal_bytes": size, "t_ns": self.t_ns, "end": job.end}

    def _boot_id(self) -> str:
        return f"{self.name.partition(':')[2]}-{self._boots}"

    # Its programs

    def _shell(self, argv: Sequence[str]) -> Ran:
        """Do what a program of melt's knobs does, by its text; every other one succeeds and says nothing."""
        program, words = argv[2], argv[4:]
        if program == jetson_knobs._SET_MODE:
            self._knobs[_MODE] = words[0]
            # A mode sets the clocks anew.
            self._knobs[_CLOCKS] = jetson_knobs.FIXED if words[4] else jetson_knobs.FREE
        elif program == jetson_knobs._FIX:
            self._pushed[words[0]] = self._knobs[_CLOCKS].encode()
            self._knobs[_CLOCKS] = jetson_knobs.FIXED
        elif program == jetson_knobs._RELEASE and words[0] in self._pushed:
            self._knobs[_CLOCKS] = self._pushed[words[0]].decode()
        elif program == jetson_knobs._SBIN + jetson_knobs._PRINT_MODE:
            return 0, f"{self._knobs[_MODE]}\n", ""
        elif program == jetson_knobs._PRINT_CLOCKS:
            return 0, f"{self._knobs[_CLOCKS]}\n", ""
        elif "command -v" in program:
            return 0, f"/usr/sbin/{words[0]}\n" if words else "", ""
        elif "$HOME" in program:
            return 0, HOME, ""
        return 0, "", ""

    def _other(self, argv: Sequence[str]) -> Answer:
        if argv[0] == "mkdir":
            return (1, b"", _FULL.encode()) if self.disk_full else _said("")
        said = {"cat": _CONFIG, "id": "0\n"}.get(argv[0])
        if argv[0] == "uname":
            said = {"-s": "Linux", "-m": "aarch64", "-sm": "Linux aarch64"}[argv[1]]
        return (127, b"", b"") if said is None else _said(said)

    def _under(self, folder: str) -> list[str]:
        return [path for path in (*self._pushed, *self._jobs) if path.startswith(f"{folder}/")]

    def _remove(self, folder: str) -> None:
        for path in [path for path in self._pushed if path.startswith(f"{folder}/")]:
            del self._pushed[path]
        job = self._jobs.pop(folder, None)
        if job is not None and job.end is None:
            # A folder that is taken away from under a run ends nothing.
            self._orphans.append(job)


def _said(text: str) -> Answer:
    return 0, text.encode(), b""
