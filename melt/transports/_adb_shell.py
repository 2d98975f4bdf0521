"""Programs on a phone: the one place that quotes for its shell, and the packets of shell protocol 2.

https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/shell_protocol.h
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from adbutils import AdbConnection

from melt.errors import TransportError
from melt.transports.base import Progress

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_HEADER = struct.Struct("<BI")
_FRAME_BYTES = 64 << 10
_FILE_FRAME_BYTES = 512 << 10
_SEND_BUFFER_BYTES = 4 << 20
_RECEIVE_BYTES = 256 << 10
_LAST_SIGNAL = 64
_SILENCE_S = 10.0
"""After so long a silence the link is asked whether it still lives."""


def quoted(words: Sequence[str]) -> str:
    """Write words so that the phone's shell, mksh, hands them on as they are."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def service(words: Sequence[str]) -> str:
    """Return the adb service that runs a program in the shell's place, so that signals reach it.

    The first line on stderr is its process number, which is its process group's too.
    """
    return f"shell,v2,raw:echo $$ >&2; exec {quoted(words)}"


class Shell:
    """A program that runs, its stdin and its two streams of output. Not for several threads at once.

    `alive` raises TransportTimeout when the link is found frozen.
    """

    def __init__(self, connection: AdbConnection, what: str, alive: Callable[[], None]) -> None:
        self.stdout = bytearray()
        self.exit_code: int | None = None
        self._what = what
        self._alive = alive
        self._connection = connection
        self._socket: socket.socket = connection.conn
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket)
        self._received = bytearray()
        self._stderr = bytearray()
        self._pending = memoryview(b"")
        self._file: _File | None = None
        self._heard = time.monotonic()

    @property
    def pid(self) -> int | None:
        """Its process number, None until the shell said it."""
        line, newline, _ = self._stderr.partition(b"\n")
        return int(line) if newline and line.isdigit() else None

    @property
    def stderr(self) -> bytes:
        """What it said on stderr so far."""
        return bytes(self._stderr if self.pid is None else self._stderr.partition(b"\n")[2])

    @property
    def is_writing(self) -> bool:
        """Whether bytes for its stdin are still waiting for the link."""
        return bool(self._pending or self._file)

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes for its stdin, and its end; `step` sends them."""
        view = memoryview(data)
        parts: list[bytes | memoryview] = [self._pending]
        for begin in range(0, len(view), _FRAME_BYTES):
            part = view[begin : begin + _FRAME_BYTES]
            parts += (_HEADER.pack(_STDIN, len(part)), part)
        if end:
            parts.append(_HEADER.pack(_CLOSE_STDIN, 0))
        self._pending = memoryview(b"".join(parts))

    def send_file(self, source: int, offset: int, progress: Progress | None) -> None:
        """Queue the bytes of an open file from `offset` to its end; the kernel hands them over."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._file = _File(source, offset, os.fstat(source).st_size, progress)

    def step(self, deadline: float) -> bool:
        """Move what can be moved, waiting for that until the deadline; False when nothing could be.

        Raises TransportError when the link breaks before the program ended, TransportTimeout when it is frozen.
        """
        while True:
            now = time.monotonic()
            until = min(deadline, self._heard + _SILENCE_S)
            self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self.is_writing else 0))
            ready = self._poll.poll(max(0.0, until - now) * 1e3)
            if ready:
                self._heard = time.monotonic()
                self._move(ready[0][1])
                return True
            if time.monotonic() >= deadline:
                return False
            self._alive()
            self._heard = time.monotonic()

    def wait(self, deadline: float) -> bool:
        """Move everything until the program ended; False when the deadline came first."""
        while self.exit_code is None:
            if not self.step(deadline):
                return False
        return True

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _move(self, ready: int) -> None:
        try:
            if ready & ~select.POLLOUT:
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise ConnectionResetError
                self._received += data
                self._unpack()
            if ready & select.POLLOUT and self.exit_code is None:
                if self._pending:
                    self._pending = self._pending[self._socket.send(self._pending) :]
                elif self._file and not self._file.send(self._socket):
                    self._file = None
        except BlockingIOError:
            return
        except OSError as error:
            raise TransportError(f"{self._what}: the link broke before the program ended") from error

    def _unpack(self) -> None:
        position = 0
        data = self._received
        while len(data) - position >= _HEADER.size:
            kind, length = _HEADER.unpack_from(data, position)
            end = position + _HEADER.size + length
            if len(data) < end:
                break
            body = data[position + _HEADER.size : end]
            position = end
            if kind == _STDOUT:
                self.stdout += body
            elif kind == _STDERR:
                self._stderr += body
            elif kind == _EXIT and body:
                self.exit_code = _exit_code(body[0])
        del data[:position]


class _File:
    """A file on its way to a program's stdin."""

    def __init__(self, source: int, position: int, size: int, progress: Progress | None) -> None:
        self._source = source
        self._position = position
        self._size = size
        self._progress = progress
        self._header = b""
        self._frame_end = position

    def send(self, link: socket.socket) -> bool:
        """Send some of it; False when all of it was sent."""
        if self._position == self._frame_end and not self._header:
            length = min(_FILE_FRAME_BYTES, self._size - self._position)
            if not length:
                return False
            self._header = _HEADER.pack(_STDIN, length)
            self._frame_end += length
        if self._header:
            self._header = self._header[link.send(self._header, socket.MSG_MORE) :]
        if not self._header:
            count = os.sendfile(link.fileno(), self._source, self._position, self._frame_end - self._position)
            if not count:
                raise EOFError("the file became shorter while it was sent")
            self._position += count
            if self._progress is not None:
                self._progress(self._position, self._size)
        return True


def _exit_code(code: int) -> int:
    """Return what adbd says of a program's end as `Completed` has it: it adds 128 to the number of a signal."""
    return 128 - code if 128 < code <= 128 + _LAST_SIGNAL else code
