"""`adb forward` and `adb reverse`: sockets carried through the link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
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


class Reverse:
    """The listeners that hosts have set up on the phone."""

    def __init__(self) -> None:
        self._listeners: dict[str, tuple[asyncio.Server, str]] = {}

    async def serve(self, stream: Stream, transport: Transport) -> None:
        """Answer one `reverse:…` request."""
        await stream.accept()
        verb, _, rest = stream.service.removeprefix("reverse:").partition(":")
        if verb == "list-forward":
            text = "".join(f"host {local} {remote}\n" for local, (_, remote) in self._listeners.items()).encode()
            await stream.write(b"%04x%s" % (len(text), text))
        elif verb == "forward":
            await self._listen(stream, transport, rest)
        elif verb in ("killforward", "killforward-all"):
            names = list(self._listeners) if verb.endswith("all") else [rest]
            if any(name not in self._listeners for name in names):
                await _fail(stream, f"listener '{rest}' not found")
                return
            for name in names:
                self._listeners.pop(name)[0].close()
            await stream.write(b"OKAY")
        else:
            await _fail(stream, "not a reverse forwarding command")

    async def _listen(self, stream: Stream, transport: Transport, spec: str) -> None:
        local, _, remote = spec.removeprefix("norebind:").partition(";")
        if local in self._listeners:
            if spec.startswith("norebind:"):
                await _fail(stream, "cannot rebind existing socket")
                return
            self._listeners.pop(local)[0].close()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                opened = await transport.open_to_host(remote)
            except (Closed, OSError):
                writer.close()
                return
            await splice(opened, reader, writer)
            await transport.close(opened)

        try:
            server = await asyncio.start_server(connected, _LOOPBACK, int(local.removeprefix("tcp:")))
        except (OSError, ValueError) as error:
            await _fail(stream, f"cannot bind listener: {error}")
            return
        port = str(server.sockets[0].getsockname()[1])
        self._listeners[f"tcp:{port}"] = (server, remote)
        await stream.write(b"OKAY%04x%s" % (len(port), port.encode()))  # said even where the host named the port


def _fail(stream: Stream, text: str) -> Awaitable[None]:
    return stream.write(b"FAIL%04x%s" % (len(text), text.encode()))
