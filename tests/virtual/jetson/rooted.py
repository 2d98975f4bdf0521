"""Who may do what as root: the board's side of its sudo and its reboot."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from .rootfs import UID, USER

SOCKET = Path("/run/board.sock")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALL = "ALL"
_ENVIRONMENT = {
    "HOME": "/root",
    "LOGNAME": "root",
    "PATH": _PATH,
    "SUDO_UID": str(UID),
    "SUDO_USER": USER,
    "USER": "root",
}


class Rooted:
    """Runs as root what a policy allows. `allowed`: names of commands, or ALL; None: nothing, there is no sudo."""

    def __init__(self, allowed: tuple[str, ...] | None) -> None:
        self.reboot = False
        self.asked: list[str] = []
        """What was asked to be run as root, allowed or not."""

        self._allowed = allowed or ()
        self._running: dict[int, tuple[subprocess.Popen[bytes], socket.socket]] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Answer from now on."""
        self._listener.bind(str(SOCKET))
        SOCKET.chmod(0o666)
        self._listener.listen()
        selector.register(self._listener, selectors.EVENT_READ, lambda: self._accept(selector))

    def ended(self, pid: int, status: int) -> None:
        """Tell who asked that a command has ended."""
        if pid in self._running:
            process, link = self._running[pid]
            process.returncode = status
            _say(link, exit_code=status if status >= 0 else 128 - status)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        link = self._listener.accept()[0]
        selector.register(link, selectors.EVENT_READ, lambda: self._hear(selector, link))

    def _hear(self, selector: selectors.BaseSelector, link: socket.socket) -> None:
        data, descriptors, _, _ = socket.recv_fds(link, 1 << 16, 3)
        try:
            if data:
                self._ask(json.loads(data), link, descriptors)
            else:
                selector.unregister(link)
                self._abandoned(link)
                link.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _ask(self, request: dict[str, Any], link: socket.socket, descriptors: list[int]) -> None:
        uid = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if request["name"] == "reboot":
            self.reboot = uid == 0
            _say(link, exit_code=0 if uid == 0 else 1, stderr="" if uid == 0 else "Failed to reboot: Access denied\n")
            return
        argv, options = request["argv"], request["options"]
        self.asked.append(" ".join(argv))
        program = shutil.which(argv[0], path=_PATH) if argv else None
        if uid != 0 and not self._may(argv, program):
            _say(link, exit_code=1, stderr=_refusal(options))
        elif "-l" in options:
            listed = program or "\n".join(f"    (root) NOPASSWD: {name}" for name in self._allowed)
            _say(link, exit_code=0, stdout=f"{listed}\n")
        elif not argv:  # -v, -k: there is nothing to prolong or to forget
            _say(link, exit_code=0)
        elif program is None:
            _say(link, exit_code=1, stderr=f"sudo: {argv[0]}: command not found\n")
        else:
            self._run([program, *argv[1:]], request["cwd"], link, descriptors)

    def _run(self, argv: list[str], folder: str, link: socket.socket, descriptors: list[int]) -> None:
        stdin, stdout, stderr = descriptors
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=_ENVIRONMENT,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            _say(link, exit_code=1, stderr=f"sudo: unable to execute {argv[0]}: {error.strerror}\n")
        else:
            self._running[process.pid] = process, link

    def _may(self, argv: list[str], program: str | None) -> bool:
        if _ALL in self._allowed or (not argv and self._allowed):
            return True
        return program is not None and Path(program).name in self._allowed

    def _abandoned(self, link: socket.socket) -> None:
        """Kill what was run for somebody who is gone, as sudo hands on the signals that it gets."""
        for pid, (process, asker) in list(self._running.items()):
            if asker is link:
                del self._running[pid]
                if process.returncode is None:
                    process.kill()


def _refusal(options: list[str]) -> str:
    terminal = (
        ""
        if "-n" in options
        else "sudo: a terminal is required to read the password; either use the -S option to read from standard input "
        "or configure an askpass helper\n"
    )
    return f"{terminal}sudo: a password is required\n"


def _say(link: socket.socket, **answer: object) -> None:
    with suppress(OSError):  # who asked is gone
        link.send(json.dumps(answer).encode())
