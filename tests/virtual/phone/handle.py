"""A phone as a test holds it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import control
from .faults import Faults
from .paths import control_socket
from .requirements import environment_for_children, require

_BOOT_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


class PhoneFailed(Exception):
    """The phone did not boot, or ended by itself; the sentence holds what it said."""


class VirtualPhone:
    """Plays a phone while it is started, usually as a context manager.

    `profile`: a name in profiles/ or a path. `port` 0: a free one. `adbd`: "emulated", or the path of a real adb
    daemon. `boot_s`: how long a reboot keeps the phone away. `adb_keys`: public keys that a real daemon knows.
    """

    def __init__(
        self,
        profile: str = "pixel-8",
        *,
        port: int = 0,
        data_mb: int = 512,
        adbd: str | Path = "emulated",
        serial: str | None = None,
        boot_s: float = 3.0,
        adb_keys: str | None = None,
    ) -> None:
        self.profile = profile
        self.port = port
        self.fault = Faults(self._control)
        self._options = {
            "profile": str(profile),
            "port": port,
            "data_mb": data_mb,
            "adbd": None if adbd == "emulated" else str(Path(adbd).resolve()),
            "serial": serial,
            "boot_s": boot_s,
            "adb_keys": adb_keys,
        }
        self._events: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: threading.Thread | None = None
        self._ended = False

    @property
    def address(self) -> str:
        """What `adb connect` takes, and then the phone's name in adb."""
        return f"127.0.0.1:{self.port}"

    @property
    def serial(self) -> str:
        """What the phone says of itself in ro.serialno."""
        return str(self._options["serial"] or f"VIRTUAL{self.port:05}")

    @property
    def pid(self) -> int:
        """The supervisor's process: when it is killed, the phone is gone."""
        if self._process is None:
            raise PhoneFailed("the phone is not started")
        return self._process.pid

    def start(self) -> Self:
        """Boot and return when the phone answers. Raises Unavailable, PhoneFailed."""
        require()
        self._ended = False
        begun = len(self._events)
        self._process = subprocess.Popen(
            [sys.executable, "-m", str(__package__), "supervise", json.dumps(self._options)],
            stdin=subprocess.PIPE,  # its end tells the supervisor that nobody wants the phone any more
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment_for_children(),
        )
        self._listening = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listening.start()
        try:
            self.port = int(self.wait_event("booted", after=begun, timeout_s=_BOOT_TIMEOUT_S)["port"])
        except PhoneFailed:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the phone and everything that ran on it."""
        process, self._process = self._process, None
        if process is None or self._listening is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._listening.join()
        process.stdout.close()  # type: ignore[union-attr]

    def state(self) -> dict[str, Any]:
        """Return what is set on the phone: settings, props, stay_on, screen, battery_input_suspended and so on."""
        return self._control("state")

    def log(self) -> list[dict[str, Any]]:
        """Return what happened so far: `event` and its fields, `t_s` on the wall clock."""
        with self._said:
            return list(self._events)

    def wait_event(
        self,
        event: str,
        *,
        after: int = 0,
        timeout_s: float = 30.0,
        where: Callable[[dict[str, Any]], bool] | None = None,
    ) -> dict[str, Any]:
        """Wait until something has happened, looking at the log from entry `after`. Raises PhoneFailed."""
        deadline_s = time.monotonic() + timeout_s
        with self._said:
            while True:
                for entry in self._events[after:]:
                    if entry["event"] == event and (where is None or where(entry)):
                        return entry
                left_s = deadline_s - time.monotonic()
                if self._ended or left_s <= 0:
                    raise PhoneFailed(self._why_not(event, timeout_s))
                self._said.wait(left_s)

    def _why_not(self, event: str, timeout_s: float) -> str:
        for entry in self._events:
            if entry["event"] == "failed":
                return str(entry["reason"])
        said = "; ".join(json.dumps(entry) for entry in self._events[-5:])
        why = "the phone ended" if self._ended else f"nothing within {timeout_s:g} s"
        return f"waiting for {event!r}: {why}. Last: {said}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _control(self, command: str, **arguments: object) -> dict[str, Any]:
        return control.send(control_socket(self.port), command, **arguments)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            try:
                entry = json.loads(line)
            except ValueError:  # a complaint of the interpreter or of the kernel
                entry = {"event": "stderr", "text": line.decode(errors="replace").rstrip()}
            with self._said:
                self._events.append(entry)
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()
