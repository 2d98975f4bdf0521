"""One connection of an adb host to the emulated daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from . import wire
from .link import Dropped
from .wire import Closed, Handler, Stream

if TYPE_CHECKING:
    from .adbd import Adbd


class Transport:
    """Packets in, packets out, and the streams that are open on this connection."""

    def __init__(self, daemon: Adbd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self.name = name
        self.max_payload_bytes = 4096
        self.waits_for_user = False
        self._daemon = daemon
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, Stream] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._next_id = 1
        self._online = False
        self._token = os.urandom(20)
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.transport.set_write_buffer_limits(high=4 << 20)

    async def run(self) -> None:
        """Handle packets until the connection ends, however it does."""
        self._task = asyncio.current_task()
        try:
            while True:
                await self._handle(*await self._receive())
        except Dropped:
            self._daemon.note("link_dropped")
        except (asyncio.IncompleteReadError, ConnectionError, Closed, OSError, asyncio.CancelledError):
            pass  # the host went away, or a fault cut the link: either way the end of this connection
        finally:
            self.kill()

    def kill(self) -> None:
        """Abort the connection: the host sees a reset, the services see their stream closed."""
        self._daemon.link.connections.discard(self)
        self._online = False
        for stream in self._streams.values():
            stream.peer_closed()
        self._streams.clear()
        self._writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def send(
        self, command: int, arg0: int, arg1: int, data: bytes | memoryview = b"", *, checksum: bool = False
    ) -> None:
        """Send one packet. `checksum`: hosts verify the packets of the handshake, which begins at the old version."""
        try:
            await self._daemon.link.gate(len(data) + wire.HEADER.size, answers=True)
        except Dropped:
            self._daemon.note("link_dropped")
            self.kill()
            raise Closed from None
        total = sum(data) & 0xFFFFFFFF if checksum else 0
        async with self._sending:
            if self._writer.is_closing():
                raise Closed
            self._writer.write(wire.HEADER.pack(command, arg0, arg1, len(data), total, command ^ 0xFFFFFFFF))
            if data:
                self._writer.write(bytes(data))
            await self._writer.drain()

    async def go_online(self) -> None:
        """Introduce the phone: from now on the host may open services."""
        self.waits_for_user = False
        self._online = True
        banner = f"device::{''.join(f'{k}={v};' for k, v in self._daemon.banner.items())}"
        banner += "features=" + ",".join(wire.FEATURES)
        await self.send(wire.CNXN, wire.VERSION, wire.MAX_PAYLOAD_BYTES, banner.encode(), checksum=True)

    async def open_to_host(self, address: str) -> Stream:
        """Open a stream from the phone's side, for `adb reverse`. Raises Closed when the host refuses."""
        stream = self._new_stream(0, address)
        await self.send(wire.OPEN, stream.local, 0, address.encode() + b"\0")
        await stream.ready.wait()
        if not stream.accepted:  # a short answer may have come, and the end of it, before this runs
            raise Closed
        return stream

    async def close(self, stream: Stream) -> None:
        """Close a stream from the phone's side, once."""
        if self._streams.pop(stream.local, None) is not None:
            stream.closed = True
            with contextlib.suppress(Closed, OSError):
                await self.send(wire.CLSE, stream.local if stream.accepted else 0, stream.remote)

    async def _receive(self) -> tuple[int, int, int, bytes]:
        header = await self._reader.readexactly(wire.HEADER.size)
        command, arg0, arg1, size, _, magic = wire.HEADER.unpack(header)
        if magic != command ^ 0xFFFFFFFF or size > wire.MAX_PAYLOAD_BYTES:
            self._daemon.note("bad_packet", header=header.hex())
            raise Closed
        data = await self._reader.readexactly(size) if size else b""
        await self._daemon.link.gate(size + wire.HEADER.size)
        return command, arg0, arg1, data

    async def _handle(self, command: int, arg0: int, arg1: int, data: bytes) -> None:
        if command == wire.CNXN:
            self.max_payload_bytes = min(arg1, wire.MAX_PAYLOAD_BYTES)
            if self._daemon.authorized:
                await self.go_online()
            else:
                await self.send(wire.AUTH, wire.AUTH_TOKEN, 0, self._token, checksum=True)
        elif command == wire.AUTH:
            await self._authenticate(arg0)
        elif self._online:
            await self._handle_stream(command, arg0, arg1, data)

    async def _authenticate(self, kind: int) -> None:
        self._daemon.note("auth", kind={2: "signature", 3: "public key"}.get(kind, str(kind)))
        if kind == wire.AUTH_SIGNATURE:  # no key is known here, so each signature is answered with the token again
            await self.send(wire.AUTH, wire.AUTH_TOKEN, 0, self._token, checksum=True)
        elif kind == wire.AUTH_PUBLIC_KEY:
            self.waits_for_user = True
            if self._daemon.authorized:
                await self.go_online()

    async def _handle_stream(self, command: int, arg0: int, arg1: int, data: bytes) -> None:
        if command == wire.OPEN:
            await self._open(arg0, data.rstrip(b"\0").decode("utf-8", "surrogateescape"))
            return
        stream = self._streams.get(arg1)
        if stream is None:
            if command == wire.WRTE:
                await self.send(wire.CLSE, 0, arg0)
            elif command == wire.OKAY:
                await self.send(wire.CLSE, arg1, arg0)
        elif command == wire.WRTE:
            stream.received(data)
        elif command == wire.OKAY:
            stream.remote = arg0
            stream.accepted = True
            stream.ready.set()
        elif command == wire.CLSE:
            del self._streams[stream.local]
            stream.peer_closed()
            await self.send(wire.CLSE, stream.local, arg0)

    async def _open(self, remote: int, service: str) -> None:
        self._daemon.note("open", service=service)
        handler = self._daemon.service(self, service)
        if handler is None:
            await self.send(wire.CLSE, 0, remote)
            return
        task = asyncio.create_task(self._serve(self._new_stream(remote, service), handler))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _new_stream(self, remote: int, service: str) -> Stream:
        stream = Stream(self, self._next_id, remote, service)
        self._next_id += 1
        self._streams[stream.local] = stream
        return stream

    async def _serve(self, stream: Stream, handler: Handler) -> None:
        try:
            await handler(stream)
        except (Closed, ConnectionError, OSError) as error:
            self._daemon.note("service_ended", service=stream.service, error=repr(error))
        finally:
            await self.close(stream)
