"""Files to and from a phone by adb's sync service, which is there on every phone.

https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/SYNC.TXT
"""

from __future__ import annotations

import os
import select
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adbutils import AdbConnection

from melt.errors import DeviceError, NoSpace, TransportError, TransportTimeout
from melt.transports._files import has_no_room
from melt.transports.base import Progress

_HEADER = struct.Struct("<4sI")
_DATA_BYTES = 64 << 10
_PACKETS = 16
SILENCE_S = 20.0
"""A transfer in which nothing moves for so long is given up."""


class _Refused(Exception):
    """The phone refused a file; its reason is the argument."""


class SyncLink:
    """A connection that speaks the sync protocol, one request at a time; `name` is the transport's."""

    def __init__(self, connection: AdbConnection, name: str) -> None:
        self._socket = connection.conn
        self._socket.settimeout(SILENCE_S)
        self._name = name

    def send(self, local: Path, temporary: str, remote: str, progress: Progress | None) -> int:
        """Write a file, only its owner's, under a temporary name and return its size; errors name `remote`.

        Raises NoSpace, DeviceError, TransportError.
        """
        try:
            with local.open("rb", buffering=0) as source:
                size = os.fstat(source.fileno()).st_size
                try:
                    return self._send(source, size, temporary, progress)
                except _Refused as refused:
                    raise self._failure(f"cannot write {remote}", refused.args[0]) from None
        except (TransportError, DeviceError):
            raise
        except OSError as error:
            raise DeviceError(f"cannot read {local}: {error.strerror or error}") from error

    def size(self, remote: str) -> int:
        """Return a file's size in bytes, 0 for what is not there or does not say it."""
        self._request(b"STAT", os.fsencode(remote))
        _, _, size, _ = struct.unpack("<4sIII", self._receive(16))
        return int(size)

    def receive(self, remote: str, target: BinaryIO, progress: Progress | None) -> int:
        """Write a file of the phone into an open one and return how many bytes came. Raises DeviceError."""
        total = self.size(remote)
        self._request(b"RECV", os.fsencode(remote))
        done = 0
        while True:
            kind, length = _HEADER.unpack(self._receive(_HEADER.size))
            if kind == b"DONE":
                return done
            data = self._receive(length)
            if kind != b"DATA":
                raise self._failure(f"cannot read {remote}", data)
            target.write(data)
            done += length
            if progress is not None:
                progress(done, max(done, total))

    def _send(self, source: BinaryIO, size: int, temporary: str, progress: Progress | None) -> int:
        self._request(b"SEND", os.fsencode(f"{temporary},{stat.S_IFREG | 0o600}"))
        packet = _HEADER.size + _DATA_BYTES
        buffer = bytearray(packet * _PACKETS)
        view = memoryview(buffer)
        done = 0
        is_open = True
        while is_open and not self._has_answer():
            used = 0
            for begin in range(0, len(buffer), packet):
                count = source.readinto(view[begin + _HEADER.size : begin + packet])  # type: ignore[attr-defined]
                is_open = count > 0
                if not is_open:
                    break
                _HEADER.pack_into(buffer, begin, b"DATA", count)
                used = begin + _HEADER.size + count
                done += count
                # What came short would leave a gap behind it.
                if count < _DATA_BYTES:
                    break
            self._write(view[:used])
            if progress is not None and used:
                progress(done, max(done, size))
        self._write(_HEADER.pack(b"DONE", int(time.time())))
        kind, length = _HEADER.unpack(self._receive(_HEADER.size))
        if kind != b"OKAY":
            raise _Refused(self._receive(length))
        return done

    def _has_answer(self) -> bool:
        """Whether the phone speaks before it was asked: it refused."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _request(self, kind: bytes, words: bytes) -> None:
        self._write(_HEADER.pack(kind, len(words)) + words)

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            # The phone may have said why before it hung up.
            with suppress(TransportError):
                kind, length = _HEADER.unpack(self._receive(_HEADER.size))
                if kind == b"FAIL":
                    raise _Refused(self._receive(length)) from error
            raise TransportError(f"{self._name}: the link broke while a file travelled") from error

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._socket.recv_into(view)
            except TimeoutError as error:
                raise self._silent() from error
            except OSError as error:
                raise TransportError(f"{self._name}: the link broke while a file travelled") from error
            if not count:
                raise TransportError(f"{self._name}: the link broke while a file travelled")
            view = view[count:]
        return bytes(data)

    def _silent(self) -> TransportTimeout:
        return TransportTimeout(f"{self._name}: a file's transfer stood still for {SILENCE_S:g} s; is its link frozen?")

    def _failure(self, what: str, reason: bytes) -> DeviceError:
        text = reason.decode(errors="replace")
        if has_no_room(text):
            return NoSpace(f"{self._name}: {what}: {text}; make room with `melt devices clean`")
        return DeviceError(f"{self._name}: {what}: {text}")
