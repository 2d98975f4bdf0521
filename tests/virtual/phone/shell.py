"""`adb shell` and `adb exec-out`: a command with its streams kept apart, or a terminal.

The packets of the shell protocol: daemon/shell_service.h of AOSP. Without the protocol the daemon always uses a pty.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import tty
from collections.abc import Mapping
from typing import NamedTuple

from .events import Note
from .fdio import exit_code, read_fd, write_fd
from .wire import MAX_PAYLOAD_BYTES, Closed, Stream

SHELL = "/system/bin/sh"
SHELL_UID = 2000
_PACKET = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN, _WINDOW_SIZE = range(6)
_CANNOT_EXEC = 126


class _Plan(NamedTuple):
    """What a service name such as `shell,v2,pty,TERM=xterm:ls` asks for."""

    argv: list[str]
    protocol: bool
    terminal: bool
    raw: bool
    term: str

    @classmethod
    def of(cls, service: str) -> _Plan:
        head, _, command = service.partition(":")
        options = head.split(",")
        protocol = "v2" in options
        pty_asked = "pty" in options or ("raw" not in options and not command)
        return cls(
            argv=[SHELL, "-c", command] if command else ["-" + SHELL],
            protocol=protocol,
            terminal=pty_asked or not protocol,
            raw=not pty_asked and not protocol,
            term=next((option[5:] for option in options if option.startswith("TERM=")), "dumb"),
        )


class _Pipes(NamedTuple):
    """The daemon's ends, and the child's. `err` is None where a terminal carries both."""

    out: int
    err: int | None
    child_in: int
    child_err: int

    @classmethod
    def of(cls, plan: _Plan) -> _Pipes:
        if plan.terminal:
            master, slave = pty.openpty()
            if plan.raw:
                tty.setraw(slave)
            return cls(master, None, slave, slave)
        (out, child_in), (err, child_err) = socket.socketpair(), socket.socketpair()
        return cls(out.detach(), err.detach(), child_in.detach(), child_err.detach())

    def close_child(self) -> None:
        for fd in {self.child_in, self.child_err}:
            os.close(fd)

    def close(self) -> None:
        for fd in (self.out, self.err):
            if fd is not None:
                os.close(fd)


class ShellService:
    """Starts commands as the shell user."""

    def __init__(self, environment: Mapping[str, str], note: Note) -> None:
        self._environment = environment
        self._note = note
        self._reaping: set[asyncio.Task[int]] = set()

    async def serve(self, stream: Stream) -> None:
        """Run the command of a stream until it ends or the host goes away."""
        await stream.accept()
        plan = _Plan.of(stream.service)
        pipes = _Pipes.of(plan)
        try:
            process = self._start(plan, pipes)
        except OSError as error:
            message = f"error: exec '{SHELL}' failed: {error.strerror}\n".encode()
            await stream.write(_packet(_STDERR, message) + _packet(_EXIT, bytes([_CANNOT_EXEC])))
            pipes.close()
            return
        finally:
            pipes.close_child()
        try:
            await self._converse(stream, plan, pipes, process)
        finally:
            pipes.close()
            reaper = asyncio.create_task(exit_code(process))
            self._reaping.add(reaper)
            reaper.add_done_callback(self._reaping.discard)

    def _start(self, plan: _Plan, pipes: _Pipes) -> subprocess.Popen[bytes]:
        def prepare() -> None:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.setresuid(SHELL_UID, SHELL_UID, SHELL_UID)  # the daemon keeps a saved uid of 0; its children must not
            if plan.terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        return subprocess.Popen(
            plan.argv,
            executable=SHELL,
            stdin=pipes.child_in,
            stdout=pipes.child_in,
            stderr=pipes.child_err,
            env={**self._environment, "TERM": plan.term},
            cwd="/",
            start_new_session=True,
            preexec_fn=prepare,
        )

    async def _converse(self, stream: Stream, plan: _Plan, pipes: _Pipes, process: subprocess.Popen[bytes]) -> None:
        lock = asyncio.Lock()

        async def pump(fd: int, ident: int) -> None:
            while True:
                try:
                    data = await read_fd(fd, MAX_PAYLOAD_BYTES - _PACKET.size)
                except OSError:  # EIO: the last one who held the terminal is gone
                    return
                if not data:
                    return
                async with lock:
                    await stream.write(_packet(ident, data) if plan.protocol else data)

        sources = [(pipes.out, _STDOUT)] + ([(pipes.err, _STDERR)] if pipes.err is not None else [])
        for fd, _ in sources:
            os.set_blocking(fd, False)
        pumping = [asyncio.create_task(pump(fd, ident)) for fd, ident in sources]
        pumps = asyncio.gather(*pumping)
        feeder = asyncio.create_task(_feed(stream, plan, pipes.out))
        try:
            await asyncio.wait((feeder, pumps), return_when=asyncio.FIRST_COMPLETED)
            # The host hung up, perhaps before it acknowledged what a pump had sent. The daemon signals the shell
            # alone, not what it started.
            if not pumps.done() or isinstance(pumps.exception(), Closed):
                self._note("sighup", service=stream.service)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGHUP)
                raise Closed
            pumps.result()
            code = await exit_code(process)  # sent only after the end of both outputs
            code = 0x80 | -code if code < 0 else code
            self._note("exit", service=stream.service, code=code)
            if plan.protocol:
                await stream.write(_packet(_EXIT, bytes([code])))
        finally:
            # Where one pump met the broken link, its twin still waits for a descriptor that is about to be closed.
            for task in (feeder, *pumping):
                task.cancel()
            await asyncio.gather(feeder, pumps, *pumping, return_exceptions=True)


async def _feed(stream: Stream, plan: _Plan, fd: int) -> None:
    while True:
        if plan.protocol:
            ident, size = _PACKET.unpack(await stream.read(_PACKET.size))
            data = await stream.read(size)
        else:
            ident, data = _STDIN, await stream.read_packet()
        with contextlib.suppress(OSError):  # the child closed its input: what still comes is thrown away
            if ident == _STDIN:
                await write_fd(fd, data)
            elif ident == _CLOSE_STDIN and not plan.terminal:
                with socket.socket(fileno=os.dup(fd)) as end:
                    end.shutdown(socket.SHUT_WR)
            elif ident == _WINDOW_SIZE and plan.terminal:
                _resize(fd, data)


def _resize(fd: int, data: bytes) -> None:
    cells, _, pixels = data.rstrip(b"\0").decode().partition(",")
    numbers = [int(number) for number in [*cells.split("x"), *pixels.split("x")]]
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", *numbers))


def _packet(ident: int, data: bytes) -> bytes:
    return _PACKET.pack(ident, len(data)) + data
