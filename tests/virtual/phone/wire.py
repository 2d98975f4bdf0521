"""The numbers of the ADB wire protocol, and one opened stream of it.

Source: packages/modules/adb/protocol.txt and adb.h of AOSP.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


CNXN, OPEN, OKAY, CLSE, WRTE, AUTH = (_word(name) for name in (b"CNXN", b"OPEN", b"OKAY", b"CLSE", b"WRTE", b"AUTH"))
VERSION = 0x01000001
"""From this version on, data packets carry no checksum."""

MAX_PAYLOAD_BYTES = 1 << 20
HEADER = struct.Struct("<6I")
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_PUBLIC_KEY = 1, 2, 3

FEATURES = (
    "shell_v2",
    "cmd",
    "stat_v2",
    "ls_v2",
    "fixed_push_mkdir",
    "fixed_push_symlink_timestamp",
    "sendrecv_v2",
    "sendrecv_v2_dry_run_send",
)
"""What the emulated daemon announces. No compression: without it both clients send plain data."""


class Closed(Exception):
    """The host closed the stream, or the connection is gone."""


class Sends(Protocol):
    """The side of a transport that a stream needs."""

    max_payload_bytes: int

    async def send(self, command: int, arg0: int, arg1: int, data: bytes | memoryview = b"") -> None:
        """Send one packet. Raises Closed."""
        ...


class Stream:
    """One opened service. A packet is acknowledged when it is consumed, so that the host feels back-pressure."""

    def __init__(self, transport: Sends, local: int, remote: int, service: str) -> None:
        self.transport = transport
        self.local = local
        self.remote = remote
        self.service = service
        self.accepted = False
        self.closed = False
        self.ready = asyncio.Event()
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._rest = bytearray()

    async def accept(self) -> None:
        """Tell the host that the service is open."""
        self.accepted = True
        await self.transport.send(OKAY, self.local, self.remote)

    async def read_packet(self) -> bytes:
        """Return the data of the next packet. Raises Closed."""
        if self.closed and self._inbox.empty():
            raise Closed
        data = await self._inbox.get()
        if data is None:
            raise Closed
        await self.transport.send(OKAY, self.local, self.remote)
        return data

    async def read(self, size: int) -> bytes:
        """Return exactly so many bytes. Raises Closed."""
        while len(self._rest) < size:
            self._rest += await self.read_packet()
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    async def write(self, data: bytes | bytearray) -> None:
        """Send bytes, one packet in flight at a time, as a daemon without `delayed_ack` does. Raises Closed."""
        view = memoryview(data)
        while view:
            part, view = view[: self.transport.max_payload_bytes], view[self.transport.max_payload_bytes :]
            if self.closed:
                raise Closed
            self.ready.clear()
            await self.transport.send(WRTE, self.local, self.remote, part)
            await self.ready.wait()
        if self.closed:
            raise Closed

    def received(self, data: bytes) -> None:
        """Take a packet from the host."""
        self._inbox.put_nowait(data)

    def peer_closed(self) -> None:
        """Note that nothing will come any more, and wake who waits."""
        self.closed = True
        self._inbox.put_nowait(None)
        self.ready.set()


Handler = Callable[[Stream], Awaitable[None]]
"""A service: runs until its stream is done."""
