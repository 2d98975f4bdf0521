"""The emulated adb daemon: which services a phone offers to its host.

Runs inside the phone's root: paths and commands are used as they come. Behaviour follows adb.cpp,
daemon/shell_service.cpp and daemon/file_sync_service.cpp of AOSP; the probes compare it with a real daemon.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

from .events import Note
from .forward import Reverse, connect_service
from .link import Link
from .shell import ShellService
from .sync import SyncService
from .transport import Transport
from .wire import MAX_PAYLOAD_BYTES, Handler, Stream

_PRODUCTION = b"adbd cannot run as root in production builds\n"


class Adbd:
    """The daemon. `banner`: properties that the host is told; `reboot`: called with what to boot into."""

    def __init__(
        self,
        banner: Mapping[str, str],
        environment: Mapping[str, str],
        link: Link,
        note: Note,
        reboot: Callable[[str], None],
    ) -> None:
        self.banner = banner
        self.link = link
        self.note = note
        self.authorized = True
        self._reboot = reboot
        self._reverse = Reverse()
        self._shell = ShellService(environment, note)
        self._sync = SyncService(note)
        self._transports: set[Transport] = set()
        self._hosts = 0

    async def listen(self, listener: socket.socket) -> None:
        """Serve a bound socket from now on."""
        await asyncio.start_server(self._connected, sock=listener, limit=4 * MAX_PAYLOAD_BYTES)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hosts += 1
        transport = Transport(self, reader, writer, f"host-{self._hosts}")
        self.link.connections.add(transport)
        self._transports.add(transport)
        self.note("connected")
        await transport.run()
        self._transports.discard(transport)
        self._reverse.forget(transport)
        self.note("disconnected")

    async def authorize(self, allowed: bool) -> None:
        """Tap "Allow" for every host that waits and for those to come; or forget all hosts."""
        self.authorized = allowed
        if not allowed:
            self.link.drop()
            return
        for transport in list(self._transports):
            if transport.waits_for_user:
                await transport.go_online()

    def service(self, transport: Transport, name: str) -> Handler | None:
        """Return what serves a name such as `shell,v2:ls`, None where the phone has no such service."""
        match name.split(":", 1)[0].split(",", 1)[0]:
            case "shell" | "exec":
                return self._shell.serve
            case "sync":
                return self._sync.serve
            case "tcp" | "localabstract" | "localfilesystem" | "local":
                return connect_service
            case "reverse":
                return lambda stream: self._reverse.serve(stream, transport)
            case "reboot":
                return self._serve_reboot
            case "root" | "remount":
                return _refuse_root
        return None

    async def _serve_reboot(self, stream: Stream) -> None:
        await stream.accept()
        self._reboot(stream.service.partition(":")[2])
        await stream.read_packet()  # the host waits for the link to break, so do not close it in order


async def _refuse_root(stream: Stream) -> None:
    await stream.accept()
    await stream.write(_PRODUCTION)
