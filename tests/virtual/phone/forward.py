"""`adb forward` and `adb reverse`: sockets carried through the link."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import MAX_PAYLOAD_BYTES, Closed, Stream

if TYPE_CHECKING:
    from .transport import Transport

_LOOPBACK = "127.0.0.1"


async def connect_service(stream: Stream) -> None:
    """Connect the host to a socket of the phone; when nobody listens the stream is never accepted."""
    kind, _, rest = stream.service.partition(":")
    try:
        if kind == "tcp":
            reader, writer = await asyncio.open_connection(_LOOPBACK, int(rest.split(":")[0]))
        else:
            reader, writer = await asyncio.open_unix_connection(("\0" if kind == "localabstract" else "") + rest)
    except (OSError, ValueError):
        return
    await stream.accept()
    await splice(stream, reader, writer)


async def splice(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until either side ends."""

    async def to_host() -> None:
        while data := await reader.read(MAX_PAYLOAD_BYTES):
            await stream.write(data)

    async def to_phone() -> None:
        while True:
            writer.write(await stream.read_packet())
            await writer.drain()

    tasks = [asyncio.create_task(to_host()), asyncio.create_task(to_phone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


@dataclass
class _Listener:
    """One address of the phone, where it leads, and through which connection to which host."""

    remote: str
    transport: Transport
    server: asyncio.Server | None = None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = self.transport
        try:
            opened = await transport.open_to_host(self.remote)
        except (Closed, OSError):
            writer.close()
            return
        await splice(opened, reader, writer)
        await transport.close(opened)

    async def listen(self, local: str) -> str:
        """Begin; return the address with the port that was found. Raises OSError, ValueError."""
        kind, _, name = local.partition(":")
        if kind == "localabstract":
            self.server = await asyncio.start_unix_server(self.connected, "\0" + name)
            return local
        self.server = await asyncio.start_server(self.connected, _LOOPBACK, int(local.removeprefix("tcp:")))
        return f"tcp:{self.server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


class Reverse:
    """The listeners that hosts have set up on the phone."""

    def __init__(self) -> None:
        self._listeners: dict[str, _Listener] = {}

    def forget(self, transport: Transport) -> None:
        """Close what leads to a host that is gone."""
        for local in [name for name, listener in self._listeners.items() if listener.transport is transport]:
            self._listeners.pop(local).close()

    async def serve(self, stream: Stream, transport: Transport) -> None:
        """Answer one `reverse:…` request."""
        await stream.accept()
        verb, _, rest = stream.service.removeprefix("reverse:").partition(":")
        if verb == "list-forward":
            text = "".join(
                f"{found.transport.name} {local} {found.remote}\n" for local, found in self._listeners.items()
            ).encode()
            await stream.write(b"%04x%s" % (len(text), text))
        elif verb == "forward":
            await self._listen(stream, transport, rest)
        elif verb in ("killforward", "killforward-all"):
            names = list(self._listeners) if verb.endswith("all") else [rest]
            if any(name not in self._listeners for name in names):
                await _fail(stream, f"listener '{rest}' not found")
                return
            for name in names:
                self._listeners.pop(name).close()
            await stream.write(b"OKAY")
        else:
            await _fail(stream, "not a reverse forwarding command")

    async def _listen(self, stream: Stream, transport: Transport, spec: str) -> None:
        local, _, remote = spec.removeprefix("norebind:").partition(";")
        there = self._listeners.get(local)
        if there is not None:
            if spec.startswith("norebind:"):
                await _fail(stream, "cannot rebind existing socket")
                return
            there.remote, there.transport = remote, transport
            await stream.write(b"OKAY")
            return
        listener = _Listener(remote, transport)
        try:
            bound = await listener.listen(local)
        except OSError as error:
            await _fail(stream, f"cannot bind listener: {os.strerror(error.errno or 0)}")
            return
        except ValueError as error:
            await _fail(stream, f"cannot bind listener: {error}")
            return
        self._listeners[bound] = listener
        kind, _, port = bound.partition(":")
        # The port is said even where the host named it.
        await stream.write(b"OKAY%04x%s" % (len(port), port.encode()) if kind == "tcp" else b"OKAY")


def _fail(stream: Stream, text: str) -> Awaitable[None]:
    return stream.write(b"FAIL%04x%s" % (len(text), text.encode()))
