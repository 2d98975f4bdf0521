"""The process outside the board that boots it, and boots it again; when it ends, the board is gone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..phone import linux
from .board import REBOOT, Outfit, first_process
from .profiles import load
from .rootfs import Owner, make_storage, python_folders, remove_storage

_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
FIRST_PROCESS = "first_process"
"""File in the board's folder with the number of its first process, while it is up."""


@dataclass(frozen=True)
class Options:
    """How a board is played, as VirtualJetson is told; the environments of jtop are paths."""

    profile: str
    folder: str
    groups: list[str]
    sudo: list[str] | None
    client: str | None
    service: str | None
    home_mb: int
    noise: bool
    locale: str | None
    provisioned: bool


class Supervisor:
    """Plays one board in this process and its children; to be run in a process of one thread, as root.

    Commands come as lines of JSON from stdin, whose end is the board's; events and answers go to stdout the same way.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._profile = load(options.profile)
        self._folder = Path(options.folder)
        self._pid_file = self._folder / FIRST_PROCESS
        self._rest = b""

    def run(self) -> int:
        """Play until stdin ends."""
        linux.unshare(linux.CLONE_NEWNS, "a mount namespace")
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        make_storage(self._folder, self._options.home_mb)
        try:
            while (status := self._boot()) == REBOOT:
                self._say({"event": "down"})
            return 0 if status is None else 1
        finally:
            self._pid_file.unlink(missing_ok=True)
            remove_storage(self._folder)

    def _boot(self) -> int | None:
        """Run one boot to its end; return its status, None when it was stopped from outside."""
        link, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        options = self._options
        jtops = [path for path in (options.client, options.service) if path is not None]
        outfit = Outfit(
            profile=self._profile,
            owner=Owner(
                groups=tuple(options.groups),
                sudo=None if options.sudo is None else tuple(options.sudo),
                noise=options.noise,
                locale=options.locale,
                provisioned=options.provisioned,
                jtop=Path(options.client) if options.client is not None else None,
            ),
            folder=self._folder,
            shared=tuple(dict.fromkeys((*python_folders(), *(Path(path) for path in jtops)))),
            service=Path(options.service) if options.service is not None else None,
            link=inside,
        )

        def failed(error: Exception) -> None:
            outfit.note("failed", reason=f"{type(error).__name__}: {error}")

        def boot() -> int:
            linux.die_with_parent(supervisor)
            link.close()
            linux.unshare(_NAMESPACES, "the namespaces of a board")
            linux.start_clocks_anew()
            told_read, told_write = os.pipe()

            def once_known() -> int:
                os.close(told_write)
                os.read(told_read, 1)
                os.close(told_read)
                return first_process(outfit)

            first = linux.fork(once_known, failed)
            # Whoever hears that the board is up enters it by this number.
            self._pid_file.write_text(str(first))
            os.close(told_write)
            os.close(told_read)
            inside.close()
            return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])

        child = linux.fork(boot, failed)
        inside.close()
        reason = self._follow(link)
        if reason is not None:
            _kill_first(self._pid_file, child)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        link.close()
        if reason == "reboot":
            return REBOOT
        return None if reason == "stop" else status

    def _follow(self, link: socket.socket) -> str | None:
        """Carry commands in and events out until the board is gone; return why it shall be, if it shall."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            selector.register(link, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is link:
                        data = link.recv(1 << 16)
                        if not data:
                            return None
                        self._say(json.loads(data))
                        continue
                    data = os.read(sys.stdin.fileno(), 1 << 16)
                    if not data:
                        return "stop"
                    *lines, self._rest = (self._rest + data).split(b"\n")
                    for line in lines:
                        if json.loads(line)["command"] == "reboot":
                            return "reboot"
                        link.send(line)

    def _say(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)


def _kill_first(pid_file: Path, child: int) -> None:
    """Kill the board's first process, and with it everything in its namespace; `child` then ends by itself."""
    try:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        os.kill(child, signal.SIGKILL)
