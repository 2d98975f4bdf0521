"""The board from the inside: its first process, which moves its values, holds the policy of sudo and keeps jtop."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..phone import linux
from .physics import Physics
from .profiles import Profile
from .rooted import Rooted
from .rootfs import JTOP_PATH, PROC, Owner, enter_root

REBOOT = 77
"""Exit status with which the board asks to be booted again."""

_TICK_S = 0.1
_JTOP_SOCKET = Path("/run/jtop.sock")
_STOP_S = 10.0


@dataclass(frozen=True)
class Outfit:
    """What one boot needs from outside. `service` is the environment of jtop's service, `link` leads outside."""

    profile: Profile
    owner: Owner
    folder: Path
    shared: tuple[Path, ...]
    service: Path | None
    link: socket.socket

    def note(self, event: str, **fields: object) -> None:
        """Say outside that something happened."""
        self.link.send(json.dumps({"event": event, **fields}).encode())


def first_process(outfit: Outfit) -> int:
    """Be process 1 of the board until it is killed, or asked to reboot."""
    linux.die_with_parent(0)
    os.umask(0o022)
    sysfs = enter_root(outfit.folder, outfit.profile, outfit.owner, outfit.shared)
    linux.set_process_name("init")
    subprocess.run(["/usr/sbin/nvpmodel", "--boot"], check=True)
    return _Board(outfit, Physics(outfit.profile, sysfs, PROC)).run()


class _Board:
    """What goes on while the board is up: one loop, in which nothing waits for anything but the next tick."""

    def __init__(self, outfit: Outfit, physics: Physics) -> None:
        self._outfit = outfit
        self._physics = physics
        self._rooted = Rooted(outfit.owner.sudo)
        self._jtop: subprocess.Popen[bytes] | None = None
        self._ended: int | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Turn until the board goes down; return the status to end with."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: self._bury(wake_read))
        self._selector.register(self._outfit.link, selectors.EVENT_READ, self._command)
        self._rooted.listen(self._selector)
        self._physics.tick()
        if self._outfit.service is not None:
            self._start_jtop()
        self._outfit.note("booted", boot_id=(PROC / "sys/kernel/random/boot_id").read_text().strip())
        due_s = time.monotonic()
        while self._ended is None and not self._rooted.reboot:
            for key, _ in self._selector.select(max(0.0, due_s - time.monotonic())):
                ready: Callable[[], None] = key.data
                ready()
            if time.monotonic() >= due_s:
                self._physics.tick()
                due_s = time.monotonic() + _TICK_S
        return REBOOT if self._ended is None else self._ended

    def _bury(self, wake_read: int) -> None:
        os.read(wake_read, 4096)
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                if self._jtop is not None and pid == self._jtop.pid:
                    self._jtop.returncode = os.waitstatus_to_exitcode(status)
                    self._jtop = None
                    self._outfit.note("jtop_ended", status=os.waitstatus_to_exitcode(status))
                self._rooted.ended(pid, os.waitstatus_to_exitcode(status))

    def _command(self) -> None:
        data = self._outfit.link.recv(1 << 16)
        if not data:  # nobody is there any more
            self._ended = 1
            return
        request = json.loads(data)
        try:
            answer = self._answer(request["command"], request["arguments"])
        except (OSError, TypeError, ValueError, TimeoutError) as error:
            answer = {"error": str(error)}
        self._outfit.note("answer", **answer)

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command == "set":
            for name, value in arguments.items():
                if not hasattr(self._physics.forced, name):
                    raise ValueError(f"unknown {name!r}; known: {', '.join(vars(self._physics.forced))}")
                setattr(self._physics.forced, name, value)
            self._physics.tick()
        elif command == "stop_jtop":
            self._stop_jtop()
        elif command == "start_jtop":
            self._start_jtop()
        elif command != "state":
            raise ValueError(f"no command {command!r}")
        return self._state()

    def _state(self) -> dict[str, Any]:
        said = subprocess.run(["/usr/sbin/nvpmodel", "-q"], capture_output=True, text=True, check=True).stdout.split()
        return {
            "nvpmodel": int(said[-1]),
            "mode": said[-2],
            "jetson_clocks": self._physics.clocks_fixed(),
            "temperature_c": round(self._physics.temperature_c, 3),
            "power_w": round(self._physics.power_w, 3),
            "load_cpus": round(self._physics.load_cpus, 3),
            "jtop": self._jtop is not None,
            "sudo": self._rooted.asked,
        }

    def _start_jtop(self) -> None:
        """Start the service as its unit does, and wait until it listens."""
        service = self._outfit.service
        if service is None:
            raise ValueError("this board has no jtop")
        if self._jtop is not None:
            raise ValueError("jtop's service runs already")
        environment = {"JTOP_SERVICE": "True", "PATH": os.environ["PATH"], "PYTHONPATH": JTOP_PATH, "HOME": "/root"}
        with Path("/var/log/jtop.log").open("ab") as log:
            self._jtop = subprocess.Popen(
                [service / "bin/jtop", "--force"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop_jtop(self) -> None:
        """Stop the service as systemd would, and wait until it is gone."""
        if self._jtop is None:
            raise ValueError("jtop's service does not run")
        process, self._jtop = self._jtop, None
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _JTOP_SOCKET.unlink(missing_ok=True)
