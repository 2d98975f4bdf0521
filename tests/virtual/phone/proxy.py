"""In front of a real adb daemon: bytes pass here, so that the faults of the link can be injected here too."""

from __future__ import annotations

import asyncio
import socket

from .events import Note
from .link import Dropped, Link

REAL_PORT = 5555
_CHUNK_BYTES = 1 << 20


class _Pair:
    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self._task = asyncio.current_task()
        for writer in writers:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def kill(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


class Proxy:
    """Carries each connection to the daemon that listens on `REAL_PORT` of the phone."""

    def __init__(self, link: Link, note: Note) -> None:
        self._link = link
        self._note = note

    async def listen(self, listener: socket.socket) -> None:
        """Serve a bound socket from now on."""
        await asyncio.start_server(self._connected, sock=listener, limit=4 * _CHUNK_BYTES)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", REAL_PORT)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, inner_writer)
        self._link.connections.add(pair)
        self._note("connected")
        ways = [self._carry(reader, inner_writer), self._carry(inner_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # a fault broke the link
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._link.connections.discard(pair)
            pair.kill()
            self._note("disconnected")

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await self._link.gate(len(data))
                writer.write(data)
                await writer.drain()
        except Dropped:
            self._note("link_dropped")
        except OSError:
            pass  # one side is gone: the other is closed with it
