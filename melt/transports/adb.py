"""Android phones over adb: one connection to the adb server per call, every call with a deadline."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from melt.errors import DeviceError, Gone, Offline, TransportError, TransportTimeout, UsageError
from melt.transports import _adb_shell
from melt.transports._adb_server import ANSWER_S, Connection, Listed, Server, answers
from melt.transports._adb_sync import SyncLink
from melt.transports._argv import checked
from melt.transports._channel import ProgramChannel
from melt.transports._files import arriving
from melt.transports.base import Completed, Progress

_ALIVE_S = 5.0
_CONNECT_S = 5.0
_PLUG_S = 2.0
_LET_GO_S, _PAUSE_S = 1.0, 0.01
"""An adb server takes milliseconds to let go of a link; one that found the phone again by itself keeps it listed."""
_BY_ADDRESS = re.compile(r"(.+:\d+|adb-.+\._adb-tls-connect\._tcp\.?)\Z")
"""Serials that `adb connect` takes: Wi-Fi phones."""
_PLACE = """
if [ -d "$2" ]; then echo "it is a folder" >&2; rm -f -- "$1"; exit 1; fi
chmod "$3" "$1" && mv -f -- "$1" "$2" || { rm -f -- "$1"; exit 1; }
"""

_reconnecting: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)


class AdbTransport:
    """Reach a phone by its serial; `server` is `HOST:PORT` of an adb server, by default the environment's."""

    def __init__(self, serial: str, server: str = "") -> None:
        if not serial:
            raise UsageError("adb: which phone? write `adb:SERIAL`, as `adb devices` lists it")
        self._serial = serial
        self._server = Server.find(server)
        self._name = f"adb:{serial}@{server}" if server else f"adb:{serial}"
        self._frozen = threading.Event()

    @property
    def name(self) -> str:
        """`adb:SERIAL`, or `adb:SERIAL@HOST:PORT`."""
        return self._name

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run a program to its end; at the deadline its whole process group is killed."""
        words = checked(argv, "adb")
        deadline = time.monotonic() + timeout_s
        with self._running(words, timeout_s) as shell:
            shell.send(stdin, end=True)
            if not shell.wait(deadline):
                raise TransportTimeout(f"{self._name}: {words[0]} did not end within {timeout_s:g} s")
        return _completed(words, shell)

    def open(self, argv: Sequence[str]) -> ProgramChannel:
        """Start a program and talk with it. What cannot be started ends at once, with exit code 127 or 126."""
        words = checked(argv, "adb")
        return ProgramChannel(self._start(words, ANSWER_S), f"{self._name}: {words[0]}", self._end_group)

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copy a file beside its place, then rename it. Raises NoSpace, DeviceError, TransportError."""
        folder, slash, _ = remote.rpartition("/")
        temporary = f"{folder}{slash}.{secrets.token_hex(8)}.part"
        with self._service("sync:", ANSWER_S) as connection:
            try:
                size = SyncLink(connection, self._name).send(local, temporary, remote, progress)
            except DeviceError:
                # adbd removes it too, in its own time.
                with suppress(TransportError):
                    self.run(("rm", "-f", "--", temporary))
                raise
        placed = self.run(("sh", "-c", _PLACE, "sh", temporary, remote, f"{mode:o}"))
        if placed.exit_code:
            reason = placed.stderr.decode(errors="replace").strip()
            raise DeviceError(f"{self._name}: cannot write {remote}: {reason}")
        if progress is not None:
            progress(size, size)

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        """Run a program with the rest of a file as its stdin. Raises TransportError, TransportTimeout, DeviceError."""
        words = checked(argv, "adb")
        try:
            with local.open("rb", buffering=0) as source, self._running(words, timeout_s) as shell:
                shell.send_file(source.fileno(), offset, progress)
                while shell.exit_code is None:
                    if not shell.step(time.monotonic() + timeout_s):
                        silence = f"took nothing and said nothing for {timeout_s:g} s"
                        raise TransportTimeout(f"{self._name}: {words[0]} {silence}")
        except (EOFError, OSError) as error:
            raise DeviceError(f"cannot read {local}: {error}") from error
        return _completed(words, shell)

    def pull(self, remote: str, local: Path, *, progress: Progress | None = None) -> None:
        """Copy a file beside its place, then rename it. Raises DeviceError, TransportError."""
        with self._service("sync:", ANSWER_S) as connection, arriving(local) as target:
            size = SyncLink(connection, self._name).receive(remote, target, progress)
        if progress is not None:
            progress(size, size)

    def close(self) -> None:
        """Nothing to give back: no connection outlives its call, and the server is everybody's."""

    @contextmanager
    def _running(self, words: Sequence[str], timeout_s: float) -> Iterator[_adb_shell.Shell]:
        """Start a program; when the block ends before it, its whole process group is killed, if the link lives."""
        shell = self._start(words, timeout_s)
        try:
            yield shell
        except BaseException as error:
            is_broken = isinstance(error, TransportError) and not isinstance(error, TransportTimeout)
            if shell.pid is not None and not is_broken and not self._frozen.is_set():
                with suppress(TransportError):
                    self._end_group(shell.pid, "KILL")
            raise
        finally:
            shell.close()

    def _start(self, words: Sequence[str], timeout_s: float) -> _adb_shell.Shell:
        connection = self._service(_adb_shell.service(words), min(timeout_s, ANSWER_S))
        return _adb_shell.Shell(connection, f"{self._name}: {words[0]}", self._alive)

    def _service(self, service: str, timeout_s: float) -> Connection:
        """Open a service on the phone, after bringing the link back where that is needed and quick."""
        if self._frozen.is_set():
            self._reconnect(timeout_s)
        try:
            return self._opened(service, timeout_s)
        except (Offline, Gone):
            self._reconnect(timeout_s)
            return self._opened(service, timeout_s)

    def _opened(self, service: str, timeout_s: float) -> Connection:
        try:
            connection = self._server.service(self._serial, service, self._name, timeout_s)
        except TransportTimeout:
            # Who has no time to wait has not found out that the link is frozen.
            if timeout_s >= _ALIVE_S:
                self._frozen.set()
            raise
        self._frozen.clear()
        return connection

    def _alive(self) -> None:
        """Ask the phone for something small. Raises TransportTimeout when the link is frozen, TransportError."""
        self._opened("shell,v2,raw::", _ALIVE_S).close()

    def _end_group(self, pid: int, signal: str) -> None:
        """Send a signal to a process group. Raises TransportError."""
        shell = self._start(("sh", "-c", f"kill -{signal} -- -{pid}"), _ALIVE_S)
        try:
            shell.send(b"", end=True)
            shell.wait(time.monotonic() + _ALIVE_S)
        finally:
            shell.close()

    def _reconnect(self, timeout_s: float) -> None:
        """Try to bring a broken link back, once for all threads that found it broken."""
        by_address = _BY_ADDRESS.match(self._serial) is not None
        # That it does not come back is told by the call that needs it.
        with _reconnecting[self._server.address, self._serial], suppress(TransportError), answers(self._name):
            state = self._server.state(self._serial)
            if state == "device" and not (by_address and self._frozen.is_set()):
                return
            if by_address and state not in ("authorizing", "connecting"):
                # The server says that it is connected already while the phone is offline: first disconnect.
                self._server.disconnect(self._serial)
                self._forgotten(min(timeout_s, _LET_GO_S))
                if "connected" not in self._server.connect(self._serial, timeout=min(timeout_s, _CONNECT_S)):
                    return
            self._server.wait_for(self._serial, transport="any", timeout=min(timeout_s, _PLUG_S))
            self._frozen.clear()

    def _forgotten(self, timeout_s: float) -> None:
        """Wait until the server let go of the old link: until then it calls a phone connected that it then drops."""
        deadline = time.monotonic() + timeout_s
        while self._server.state(self._serial) is not None and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)  # the server tells nobody


def _completed(words: tuple[str, ...], shell: _adb_shell.Shell) -> Completed:
    assert shell.exit_code is not None
    return Completed(words, shell.exit_code, bytes(shell.stdout), shell.stderr)


def connected(server: str = "", *, start: bool = True) -> list[Listed]:
    """Return the phones that an adb server knows, with their states; none where it does not run and may not start."""
    found = Server.find(server)
    return found.listed() if start or found.is_running() else []
