"""adb itself, each version with a server of its own, so that nobody's default server is touched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_START_TIMEOUT_S = 20.0


def adb_programs() -> dict[str, Path]:
    """Return the adb programs that are there: "system" from the PATH, "wheel" from the adbutils package."""
    found = {}
    system = shutil.which("adb")
    if system is not None:
        found["system"] = Path(system)
    try:
        import adbutils
    except ImportError:
        return found
    bundled = Path(adbutils.__file__).parent / "binaries" / "adb"  # adb_path() would prefer the system's
    return {**found, "wheel": bundled} if bundled.exists() else found


class AdbServer:
    """An adb server on a free port while it is entered, and the client that speaks to it."""

    def __init__(self, program: Path) -> None:
        self.program = program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._home = tempfile.TemporaryDirectory(prefix="adb-home-")  # its keys are nobody else's
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes a child use this server. Without libusb adb 36 starts at once, not after seconds."""
        return {
            **os.environ,
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_LIBUSB": "0",
            "ADB_MDNS_OPENSCREEN": "0",
            "HOME": self._home.name,
        }

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self.program, "-P", str(self.port), "nodaemon", "server"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline_s or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.01)  # the server has no other way to say that it is up
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def run(
        self, *arguments: str, serial: str | None = None, input_bytes: bytes = b"", timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the client to its end."""
        chosen = ["-s", serial] if serial else []
        return subprocess.run(
            [self.program, *chosen, *arguments],
            env=self.environment,
            input=input_bytes,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def state(self, serial: str) -> str:
        """Return what the server thinks of a phone: device, offline, unauthorized, or "" when it knows none."""
        for line in self.run("devices").stdout.decode().splitlines()[1:]:
            name, _, state = line.partition("\t")
            if name == serial:
                return state.strip()
        return ""

    def connect(self, serial: str, *, state: str = "device", timeout_s: float = 20.0) -> None:
        """Connect until the phone is in the state wanted. Raises TimeoutError."""
        deadline_s = time.monotonic() + timeout_s
        self.run("connect", serial)
        while (now := self.state(serial)) != state:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{serial} is {now or 'unknown'}, not {state}")
            if now != "unauthorized":
                self.run("disconnect", serial)
                self.run("connect", serial)
            time.sleep(0.02)  # adb offers nothing to wait on
