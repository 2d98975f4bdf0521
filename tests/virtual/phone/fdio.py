"""Descriptors and processes without threads: waiting on the event loop only, since nothing can be imported later."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable


async def read_fd(fd: int, limit: int) -> bytes:
    """Return what a non-blocking descriptor has, b"" at its end. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        data = bytearray()  # a pty gives 4 KiB a read: gather what is there
        try:
            while len(data) < limit:
                part = os.read(fd, limit - len(data))
                if not part:
                    return bytes(data)
                data += part
        except BlockingIOError:
            pass
        except OSError:
            if not data:
                raise
        if data:
            return bytes(data)
        await _until(lambda wake: loop.add_reader(fd, wake), lambda: loop.remove_reader(fd))


async def write_fd(fd: int, data: bytes) -> None:
    """Write all of it to a non-blocking descriptor. Raises OSError."""
    view = memoryview(data)
    loop = asyncio.get_running_loop()
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _until(lambda wake: loop.add_writer(fd, wake), lambda: loop.remove_writer(fd))


async def exit_code(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process: its pidfd becomes readable when it ends."""
    if process.poll() is None:
        pidfd = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()
        try:
            await _until(lambda wake: loop.add_reader(pidfd, wake), lambda: loop.remove_reader(pidfd))
        finally:
            os.close(pidfd)
    return process.wait()


async def _until(watch: Callable[[Callable[[], None]], None], unwatch: Callable[[], object]) -> None:
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch(lambda: None if woken.done() else woken.set_result(None))
    try:
        await woken
    finally:
        unwatch()
