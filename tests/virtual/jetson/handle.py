"""A board as a test holds it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..phone.requirements import environment_for_children
from ..sshd import Sshd
from . import jtop as jtop_service
from .profiles import Profile, load
from .requirements import require
from .rootfs import HOME, USER
from .supervisor import FIRST_PROCESS, Options

_BOOT_S = 60.0
_ANSWER_S = 30.0
_STOP_S = 10.0
_FILLER = "filler"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What Ubuntu's /etc/environment gives every session. NVIDIA's tools lie in /usr/sbin."""


class BoardFailed(Exception):
    """The board did not boot, refused a command, or ended by itself; the sentence holds what it said."""


class VirtualJetson:
    """Plays a board while it is entered, reachable over SSH as `selector` with `environment`.

    `profile`: a name of profiles.py. `folder`: of its own, made where it is not there. `user_groups`: those of its
    user, of which `jtop` lets it speak to jtop's service. `sudo`: the commands that it may run as root without a
    password, ("ALL",) for all, None where the board has no sudo. `jtop`: the version of the service, None where jtop is
    not installed; clients are always of today's version. `home_mb`: the size of the user's home, in RAM. `noise`: a
    ~/.bashrc that prints. `locale`: what ~/.bashrc sets LANG and LC_ALL to. `provisioned`: whether
    ~/.melt/venv/bin/python has the engines of this machine's Python.

    Raises Unavailable, BadProfile, BoardFailed.
    """

    def __init__(
        self,
        profile: str,
        folder: Path,
        *,
        user_groups: Iterable[str] = ("jtop",),
        sudo: Iterable[str] | None = ("nvpmodel", "jetson_clocks"),
        jtop: str | None = jtop_service.SERVICE,
        home_mb: int = 512,
        noise: bool = False,
        locale: str | None = None,
        provisioned: bool = True,
        alias: str = "orin",
    ) -> None:
        require()
        self.profile: Profile = load(profile)
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "ssh").mkdir(exist_ok=True)
        client = None if jtop is None else jtop_service.environment(jtop_service.SERVICE)
        self._options = Options(
            profile=profile,
            folder=str(self._folder),
            groups=list(user_groups),
            sudo=None if sudo is None else list(sudo),
            client=None if client is None else str(client),
            service=None if jtop is None else str(jtop_service.environment(jtop)),
            home_mb=home_mb,
            noise=noise,
            locale=locale,
            provisioned=provisioned,
        )
        package = str(__package__)
        self._environment = environment_for_children()
        self.ssh = Sshd(
            self._folder / "ssh",
            user=USER,
            enter=(
                "/usr/bin/env",
                f"PYTHONPATH={self._environment['PYTHONPATH']}",
                *(sys.executable, "-m", package, "enter", str(self._folder / FIRST_PROCESS)),
            ),
            alias=alias,
            options=(f"SetEnv PATH={_PATH}",),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: threading.Thread | None = None
        self._events: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self._one_at_a_time = threading.Lock()
        self._gone = False

    @property
    def selector(self) -> str:
        """What melt's --device takes."""
        return f"ssh:{self.ssh.alias}"

    @property
    def environment(self) -> dict[str, str]:
        """What melt is run with so that it finds this board, and only this."""
        return self.ssh.environment

    @property
    def pid(self) -> int:
        """The board's first process, by this machine's number; another one after each boot."""
        return int((self._folder / FIRST_PROCESS).read_text())

    @property
    def root(self) -> Path:
        """The board's files, seen from outside, in this boot."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def home(self) -> Path:
        """The home of the board's user, seen from outside."""
        return self.root / HOME.relative_to("/")

    def read(self, path: str) -> str:
        """Return what a file on the board says, without the blanks and zero bytes around it."""
        return (self.root / path.lstrip("/")).read_text().strip("\n\0 ")

    def start(self) -> Self:
        """Boot, and return when it can be reached over SSH."""
        self._gone = False
        begun = len(self._events)
        self._process = subprocess.Popen(
            [sys.executable, "-m", str(__package__), "supervise", json.dumps(asdict(self._options))],
            stdin=subprocess.PIPE,  # its end tells the supervisor that nobody wants the board any more
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        self._listening = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listening.start()
        try:
            self.wait_event("reachable", after=begun, timeout_s=_BOOT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the board and everything that ran on it."""
        process, self._process = self._process, None
        if process is None or self._listening is None:
            return
        self.ssh.thaw()
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._listening.join()
        process.stdout.close()  # type: ignore[union-attr]
        self.ssh.stop()

    def set(self, **values: object) -> dict[str, Any]:
        """Fix `temperature_c`, `gpu_load` (0 to 1), `hold` (nothing moves); None frees one. Return the state."""
        return self._ask("set", **values)

    def heat(self, temperature_c: float | None) -> dict[str, Any]:
        """Let all zones be so warm, or again as warm as they come."""
        return self.set(temperature_c=temperature_c)

    def state(self) -> dict[str, Any]:
        """Return `nvpmodel` (number), `mode` (name), `jetson_clocks`, `temperature_c`, `power_w`, `load_cpus`, `jtop`.

        `sudo` lists what was asked to be run as root, allowed or not.
        """
        return self._ask("state")

    def stop_jtop(self) -> None:
        """Stop jtop's service, as `systemctl stop jtop` does."""
        self._ask("stop_jtop")

    def start_jtop(self) -> None:
        """Start jtop's service; it answers a moment later (`wait_jtop`)."""
        self._ask("start_jtop")

    def wait_jtop(self, timeout_s: float = 20.0) -> None:
        """Wait until jtop's service listens with the rights that it gives its socket. Raises BoardFailed."""
        deadline_s = time.monotonic() + timeout_s
        while not self._jtop_listens():
            if time.monotonic() > deadline_s:
                raise BoardFailed(f"jtop does not listen: {self.read('/var/log/jtop.log')[-2000:]}")
            time.sleep(0.02)

    def drop_link(self) -> None:
        """End every SSH session at once; what runs on the board goes on."""
        self.ssh.drop_links()

    def reboot(self) -> None:
        """Take the power away and boot: processes are gone, files stay. Return when it can be reached again."""
        begun = len(self._events)
        self._send("reboot")
        self.wait_event("reachable", after=begun, timeout_s=_BOOT_S)

    def fill_disk(self, leave_kb: int = 0) -> None:
        """Fill the user's home to all but so many KB."""
        self.free_disk()
        free = os.statvfs(self.home)
        n_bytes = free.f_bavail * free.f_frsize - leave_kb * 1024
        if n_bytes > 0:
            with (self.home / _FILLER).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes)

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        (self.home / _FILLER).unlink(missing_ok=True)

    def log(self) -> list[dict[str, Any]]:
        """Return what happened so far."""
        with self._said:
            return list(self._events)

    def wait_event(self, event: str, *, after: int = 0, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until something has happened: booted, reachable, down, answer, jtop_ended. Raises BoardFailed."""
        deadline_s = time.monotonic() + timeout_s
        with self._said:
            while True:
                for entry in self._events[after:]:
                    if entry["event"] == event:
                        return entry
                    if entry["event"] == "failed":
                        raise BoardFailed(str(entry["reason"]))
                left_s = deadline_s - time.monotonic()
                if self._gone or left_s <= 0:
                    said = "; ".join(json.dumps(entry) for entry in self._events[-5:])
                    raise BoardFailed(f"waiting for {event!r}: {'it ended' if self._gone else 'nothing'}. Last: {said}")
                self._said.wait(left_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _jtop_listens(self) -> bool:
        try:
            return (self.root / "run/jtop.sock").stat().st_mode & 0o777 == 0o660
        except FileNotFoundError:
            return False

    def _send(self, command: str, **arguments: object) -> None:
        if self._process is None or self._process.stdin is None:
            raise BoardFailed("the board is not started")
        self._process.stdin.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def _ask(self, command: str, **arguments: object) -> dict[str, Any]:
        with self._one_at_a_time:
            begun = len(self._events)
            self._send(command, **arguments)
            answer = dict(self.wait_event("answer", after=begun, timeout_s=_ANSWER_S))
        del answer["event"]
        if "error" in answer:
            raise BoardFailed(f"{command}: {answer['error']}")
        return answer

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            try:
                entry = json.loads(line)
            except ValueError:  # a complaint of the interpreter or of the kernel
                entry = {"event": "stderr", "text": line.decode(errors="replace").rstrip()}
            self._happened(entry)
            if entry["event"] == "booted":
                self._serve_ssh()
        self._happened(None)

    def _serve_ssh(self) -> None:
        """Start sshd, which ended with the boot before."""
        try:
            self.ssh.stop()
            self.ssh.start()
        except Exception as error:  # noqa: BLE001 - this thread has nobody to raise it to but who waits for the event
            self._happened({"event": "failed", "reason": f"sshd: {error}"})
        else:
            self._happened({"event": "reachable"})

    def _happened(self, entry: dict[str, Any] | None) -> None:
        with self._said:
            if entry is None:
                self._gone = True
            else:
                self._events.append(entry)
            self._said.notify_all()
