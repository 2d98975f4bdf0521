"""The fast way to a phone: a program's stdin is the link itself, without packets of ours around the bytes."""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from adbutils import AdbConnection

from melt.errors import DeviceError, TransportError, TransportTimeout
from melt.transports._adb_shell import quoted
from melt.transports.base import Completed, Progress

_CHUNK_BYTES = 1 << 20
_SEND_BUFFER_BYTES = 4 << 20
_ALIVE_S = 10.0


class Feed:
    """One transfer. `exec:` has neither an exit code nor a stream for errors: the shell says both at the end."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self._mark = secrets.token_hex(8)

    @property
    def service(self) -> str:
        """The adb service to open."""
        # 3 is the link; what the program says on stderr is caught, and told after its stdout, behind the mark.
        run = f"exec 3>&1; said=$({quoted(self._words)} 2>&1 >&3 3>&-); code=$?"
        return f"exec:{run}; printf '\\n%s %s\\n%s' {self._mark} $code \"$said\""

    def send(
        self,
        connection: AdbConnection,
        local: Path,
        offset: int,
        timeout_s: float,
        progress: Progress | None,
        alive: Callable[[], None],
    ) -> Completed:
        """Send a file from `offset` on and return how the program ended. Raises TransportError, DeviceError."""
        link: socket.socket = connection.conn
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        try:
            with local.open("rb", buffering=0) as source:
                size = os.fstat(source.fileno()).st_size
                answer = self._exchange(link, source.fileno(), offset, size, timeout_s, progress, alive)
        except (TransportError, DeviceError):
            raise
        except OSError as error:
            raise DeviceError(f"cannot read {local}: {error.strerror or error}") from error
        return self._completed(answer)

    def _exchange(
        self,
        link: socket.socket,
        source: int,
        position: int,
        size: int,
        timeout_s: float,
        progress: Progress | None,
        alive: Callable[[], None],
    ) -> bytes:
        answer = bytearray()
        poll = select.poll()
        poll.register(link)
        moved = asked = time.monotonic()
        while True:
            poll.modify(link, select.POLLIN | (select.POLLOUT if position < size else 0))
            ready = poll.poll(min(timeout_s, _ALIVE_S) * 1e3)
            now = time.monotonic()
            if not ready:
                if now - moved >= timeout_s:
                    raise TransportTimeout(f"{self._words[0]} took nothing and said nothing for {timeout_s:g} s")
                if now - asked >= _ALIVE_S:
                    alive()
                    asked = now
                continue
            moved = asked = now
            try:
                if ready[0][1] & ~select.POLLOUT:
                    data = link.recv(_CHUNK_BYTES)
                    if not data:
                        return bytes(answer)
                    answer += data
                if ready[0][1] & select.POLLOUT:
                    position += os.sendfile(link.fileno(), source, position, min(_CHUNK_BYTES, size - position))
                    if progress is not None:
                        progress(position, size)
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return bytes(answer)

    def _completed(self, answer: bytes) -> Completed:
        stdout, mark, rest = answer.rpartition(b"\n" + self._mark.encode() + b" ")
        code, newline, stderr = rest.partition(b"\n")
        if not (mark and newline and code.isdigit()):
            raise TransportError(f"{self._words[0]}: the link broke before the program ended")
        number = int(code)
        # A shell adds 128 to the number of the signal that ended a program; mksh of old added 256.
        exit_code = 128 - number if 128 < number <= 192 else 256 - number if number > 256 else number
        return Completed(self._words, exit_code, stdout, stderr)
