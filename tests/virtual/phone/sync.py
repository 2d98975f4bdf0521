"""`adb push`, `pull` and `ls`: the sync service, versions 1 and 2.

Source: SYNC.TXT, file_sync_protocol.h and daemon/file_sync_service.cpp of AOSP.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Awaitable, Callable

from .events import Note
from .files import stat_v2
from .incoming import Incoming
from .wire import MAX_PAYLOAD_BYTES, Closed, Stream

_REQUEST = struct.Struct("<4sI")
_MAX_PATH_BYTES = 1024
_CHUNK_BYTES = 64 << 10
_DENT_V1 = struct.Struct("<4s4I")

_Answer = Callable[[Stream, str], Awaitable[bool]]
"""Answers one request; false ends the service, as the daemon does after a refused transfer."""


class SyncService:
    """Reads requests until QUIT."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._answers: dict[bytes, _Answer] = {
            b"STAT": _stat_v1,
            b"STA2": lambda stream, path: _stat(stream, b"STA2", os.stat, path),
            b"LST2": lambda stream, path: _stat(stream, b"LST2", os.lstat, path),
            b"LIST": lambda stream, path: _list(stream, path, v2=False),
            b"LIS2": lambda stream, path: _list(stream, path, v2=True),
            b"SEND": _send_v1,
            b"SND2": _send_v2,
            b"RECV": lambda stream, path: _receive(stream, path, 0),
            b"RCV2": _receive_v2,
        }

    async def serve(self, stream: Stream) -> None:
        """Answer the requests of one stream."""
        await stream.accept()
        while True:
            try:
                ident, size = _REQUEST.unpack(await stream.read(_REQUEST.size))
            except Closed:
                return
            answer = self._answers.get(ident)
            if ident == b"QUIT":
                return
            if answer is None or size > _MAX_PATH_BYTES:
                await fail(
                    stream, "path too long" if answer else f"unknown command {int.from_bytes(ident, 'little'):08x}"
                )
                return
            path = (await stream.read(size)).decode("utf-8", "surrogateescape")
            self._note("sync", operation=ident.decode(), path=path)
            if not await answer(stream, path):
                return


async def fail(stream: Stream, text: str) -> None:
    """Refuse, with a reason that adb prints."""
    await stream.write(_REQUEST.pack(b"FAIL", len(text.encode())) + text.encode())


async def _stat_v1(stream: Stream, path: str) -> bool:
    try:
        found = os.lstat(path)
        values = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)
    except OSError:
        values = (0, 0, 0)
    await stream.write(struct.pack("<4s3I", b"STAT", *values))
    return True


async def _stat(stream: Stream, ident: bytes, look: Callable[[str], os.stat_result], path: str) -> bool:
    await stream.write(ident + stat_v2(look, path))
    return True


async def _list(stream: Stream, path: str, *, v2: bool) -> bool:
    out = bytearray()
    try:
        names = [".", "..", *os.listdir(path)]  # noqa: PTH208 - bytes that are no UTF-8 must survive
    except OSError:
        names = []
    for name in names:
        full, raw = f"{path}/{name}", os.fsencode(name)
        if v2:
            out += b"DNT2" + stat_v2(os.lstat, full) + struct.pack("<I", len(raw)) + raw
            continue
        try:
            found = os.lstat(full)
        except OSError:
            continue
        size = found.st_size & 0xFFFFFFFF
        out += _DENT_V1.pack(b"DENT", found.st_mode, size, int(found.st_mtime), len(raw)) + raw
    await stream.write(out + b"DONE" + bytes(72 if v2 else 16))  # the end is as long as an entry
    return True


async def _send_v1(stream: Stream, spec: str) -> bool:
    path, comma, mode = spec.rpartition(",")
    if not comma:
        await fail(stream, "missing , in ID_SEND_V1")
        return False
    return await _store(stream, path, _strtoul(mode), 0)


def _strtoul(text: str) -> int:
    """Read a number as C does: 0x and 0 say the base, what is no number is 0."""
    found = re.match(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9]\d*)", text)
    if found is None:
        return 0
    hexadecimal, octal, decimal = found.groups()
    return int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)


async def _send_v2(stream: Stream, path: str) -> bool:
    _, mode, flags = struct.unpack("<4sII", await stream.read(12))
    return await _store(stream, path, mode, flags)


async def _store(stream: Stream, path: str, mode: int, flags: int) -> bool:
    dry_run = bool(flags & 0x80000000)
    if flags & 0x7FFFFFFF:
        await fail(stream, f"unknown flags: {flags}")
        return False
    incoming = Incoming(path, mode, dry_run=dry_run)
    await _complain(stream, incoming.open())
    try:
        while True:  # after a failure go on reading until DONE, else host and phone wait for each other
            ident, size = _REQUEST.unpack(await stream.read(_REQUEST.size))
            if ident == b"DONE":
                break
            if ident != b"DATA":
                await fail(stream, "invalid data message")
                incoming.discard()
                return False
            if size > _CHUNK_BYTES:
                await fail(stream, "oversize data message")
                incoming.discard()
                return False
            await _complain(stream, incoming.write(await stream.read(size)))
    except Closed:
        incoming.discard()  # the link died within the file: nothing half-written stays
        raise
    await _complain(stream, incoming.finish(modified_s=size))
    if incoming.failed:
        return False
    await stream.write(_REQUEST.pack(b"OKAY", 0))
    return True


async def _complain(stream: Stream, reason: str | None) -> None:
    if reason is not None:
        await fail(stream, reason)


async def _receive_v2(stream: Stream, path: str) -> bool:
    _, flags = struct.unpack("<4sI", await stream.read(8))
    return await _receive(stream, path, flags)


async def _receive(stream: Stream, path: str, flags: int) -> bool:
    if flags:
        await fail(stream, f"unknown flags: {flags}")
        return False
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        await fail(stream, f"open failed: {error.strerror}")
        return False
    try:
        out = bytearray()
        while data := os.read(fd, _CHUNK_BYTES):
            out += _REQUEST.pack(b"DATA", len(data)) + data
            if len(out) > MAX_PAYLOAD_BYTES - _CHUNK_BYTES - 2 * _REQUEST.size:
                await stream.write(out)
                out = bytearray()
        await stream.write(out + _REQUEST.pack(b"DONE", 0))
    except OSError as error:
        await fail(stream, f"read failed: {error.strerror}")
        return False
    finally:
        os.close(fd)
    return True
