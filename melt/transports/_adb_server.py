"""The adb server: where it is, started when it is not running, every answer with a deadline, every refusal typed.

adbutils speaks the protocol; its connections wait 10 ms at their end and without a limit for an answer, so the ones
used here are a class of their own. The server is never ended: it belongs to everybody on this machine.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from adbutils import AdbClient, AdbConnection, AdbError, AdbTimeout, adb_path

from melt.errors import Gone, Offline, TransportError, TransportTimeout, Unauthorized, UsageError

ANSWER_S = 10.0
"""How long the server, or a phone through it, may take to answer a request: both need milliseconds."""
_CONNECT_S = 3.0
_START_S = 20.0
_DEFAULT = ("127.0.0.1", 5037)
_starting = threading.Lock()


class Listed(NamedTuple):
    """A device that the server knows. `state` is `device` when it can be used."""

    serial: str
    state: str


class Connection(AdbConnection):
    """A connection whose answers, all together, come before a deadline."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._address = (host, port)
        self._deadline = time.monotonic() + timeout_s
        super().__init__(host, port)

    def _safe_connect(self) -> socket.socket:
        made = socket.create_connection(self._address, min(_CONNECT_S, self._left_s()))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _read_fully(self, n: int) -> bytes:
        answer = b""
        while len(answer) < n:
            self.conn.settimeout(self._left_s())
            data = self.conn.recv(n - len(answer))
            if not data:
                break
            answer += data
        return answer

    def send_command(self, cmd: str) -> None:
        """Send a request: four digits of length, then its bytes."""
        words = cmd.encode(errors="surrogateescape")
        if len(words) > 0xFFFF:
            raise UsageError(f"a command of {len(words)} bytes is too long for adb, which takes {0xFFFF}")
        self.conn.settimeout(self._left_s())
        self.conn.sendall(b"%04x%b" % (len(words), words))

    def ask(self, request: str) -> None:
        """Send a request and wait until it is granted."""
        self.send_command(request)
        AdbConnection.check_okay(self)

    def close(self) -> None:
        """Close at once."""
        self.conn.close()

    def _left_s(self) -> float:
        return max(1e-3, self._deadline - time.monotonic())


class Server(AdbClient):
    """An adb server, here or on another machine."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, socket_timeout=ANSWER_S)

    @classmethod
    def find(cls, address: str = "") -> Server:
        """Return the server at `HOST:PORT`, else the one that the environment names, else the usual one.

        The variables are those of adb itself: ADB_SERVER_SOCKET, else ANDROID_ADB_SERVER_ADDRESS and _PORT.
        Raises UsageError.
        """
        if address:
            return cls(*_host_and_port(address, f"adb server {address!r}"))
        return cls(*_from_environment(os.environ))

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"{self.host}:{self.port}"

    def make_connection(self, timeout: float | None = None) -> Connection:
        """Connect, starting the server where that is possible. Raises TransportError."""
        timeout_s = ANSWER_S if timeout is None else timeout
        try:
            return Connection(self.host, self.port, timeout_s)
        except ConnectionRefusedError:
            self._start()
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            return Connection(self.host, self.port, timeout_s)
        except OSError as error:
            raise self._unreachable(error) from error

    def is_running(self) -> bool:
        """Whether it answers now; it is not started for that."""
        try:
            Connection(self.host, self.port, _CONNECT_S).close()
        except OSError:
            return False
        return True

    def listed(self) -> list[Listed]:
        """Return the devices that it knows, usable or not. Raises TransportError."""
        with answers(f"adb server {self.address}"), self.make_connection() as connection:
            connection.ask("host:devices")
            lines = connection.read_string_block().splitlines()
        return [Listed(*line.split("\t", 1)) for line in lines if "\t" in line]

    def state(self, serial: str) -> str | None:
        """Return how a device stands, None when the server does not know it. Raises TransportError."""
        return dict(self.listed()).get(serial)

    def service(self, serial: str, service: str, name: str, timeout_s: float) -> Connection:
        """Open a service of a device, always of this one; errors call it `name`.

        Raises Unauthorized, Offline, Gone, TransportTimeout, TransportError.
        """
        connection = self.make_connection(timeout_s)
        try:
            with answers(name):
                connection.ask(f"host:transport:{serial}")
                connection.ask(service)
        except BaseException:
            connection.close()
            raise
        return connection

    def _start(self) -> None:
        if self.host not in ("127.0.0.1", "localhost", "::1"):
            raise TransportError(
                f"no adb server answers at {self.address}: start one there with `adb -a nodaemon server start`"
            )
        with _starting, tempfile.TemporaryFile() as said:
            # Without libusb the server is there in 11 ms; with it adb 36 looks for three seconds at a bus it lacks.
            environment = {"ADB_LIBUSB": "0", **os.environ}
            try:
                # By any other name, 127.0.0.1 included, adb takes the host for a remote one and starts nothing.
                command = (adb_path(), "-L", f"tcp:localhost:{self.port}", "start-server")
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, timeout=_START_S,
                    check=False, start_new_session=True,
                )  # fmt: skip
            except (AdbError, OSError, subprocess.TimeoutExpired) as error:
                raise TransportError(
                    f"no adb server runs at {self.address}, and none can be started: {error}"
                ) from error
            if done.returncode:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
                raise TransportError(f"the adb server at {self.address} cannot be started: {lines[-1]}")

    def _unreachable(self, error: OSError) -> TransportError:
        if isinstance(error, TimeoutError):
            return TransportTimeout(f"the adb server at {self.address} gives no answer")
        return TransportError(f"the adb server at {self.address} cannot be reached: {error.strerror or error}")


@contextmanager
def answers(name: str) -> Iterator[None]:
    """Turn what adbutils and sockets raise into melt's errors about the device `name`."""
    try:
        yield
    except (AdbTimeout, TimeoutError) as error:
        raise TransportTimeout(f"{name} gives no answer; is its link frozen?") from error
    except AdbError as error:
        raise refusal(name, str(error)) from error
    except (EOFError, OSError, ValueError) as error:
        raise TransportError(f"{name}: the adb server closed the link: {error}") from error


def refusal(name: str, text: str) -> TransportError:
    """Return the error that a refusal of the adb server stands for."""
    first = (text.strip().splitlines() or ["no reason given"])[0]
    if "unauthorized" in text:
        return Unauthorized(
            f"{name} does not trust this computer yet: unlock the phone and accept the dialog `Allow USB debugging?`"
        )
    if "still " in text:
        return Offline(f"{name} is being connected just now: try again in a moment")
    if "offline" in text:
        return Offline(
            f"{name} is offline: wake the phone; then draw and plug its cable, or switch its Wi-Fi off and on"
        )
    if "not found" in text or "no devices" in text:
        return Gone(f"{name} is not connected: plug it in, or see `adb devices` for those that are")
    if "permissions" in text:
        return TransportError(f"{name}: this user may not use its USB device ({first}): join the group plugdev")
    if "Unknown data" in text or text in ("closed", "connection closed"):
        return TransportError(f"{name}: the phone or the adb server closed the link")
    return TransportError(f"{name}: {first}")


def _from_environment(environment: Mapping[str, str]) -> tuple[str, int]:
    if where := environment.get("ADB_SERVER_SOCKET"):
        kind, _, address = where.partition(":")
        if kind != "tcp":
            raise UsageError(f"ADB_SERVER_SOCKET is {where!r}: melt reaches adb servers by `tcp:HOST:PORT` only")
        address = address if ":" in address else f"{_DEFAULT[0]}:{address}"
        return _host_and_port(address, f"ADB_SERVER_SOCKET={where}")
    host = environment.get("ANDROID_ADB_SERVER_ADDRESS", _DEFAULT[0])
    port = environment.get("ANDROID_ADB_SERVER_PORT", str(_DEFAULT[1]))
    return _host_and_port(f"{host}:{port}", f"ANDROID_ADB_SERVER_PORT={port}")


def _host_and_port(address: str, what: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{what}: expected HOST:PORT with a port from 1 to 65535")
    return host.strip("[]") or _DEFAULT[0], int(port)
