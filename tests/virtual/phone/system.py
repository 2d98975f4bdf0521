"""The phone's system server: keeps the state, moves the physics, answers the commands of services/."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from .events import Note
from .image import SERVER_PORT
from .physics import Physics
from .profiles import Profile
from .state import State
from .sysfs import Sysfs

_TICK_S = 0.1
_MAX_REQUEST_BYTES = 1 << 16


class Reply(NamedTuple):
    """What a command says and how it ends."""

    out: str = ""
    err: str = ""
    code: int = 0


class System:
    """What the commands work on."""

    def __init__(self, profile: Profile, state: State, sysfs: Sysfs, note: Note, reboot: Callable[[str], None]) -> None:
        self.profile = profile
        self.state = state
        self.physics = Physics(profile, state, time.monotonic())
        self.sysfs = sysfs
        self.note = note
        self.reboot = reboot
        self.refresh()

    def refresh(self) -> None:
        """Let the hardware follow the state, now."""
        self.physics.tick(time.monotonic())
        with as_root():
            self.sysfs.update(self.physics.files())

    async def run(self) -> None:
        """Go on refreshing while the phone is up."""
        while True:
            self.refresh()
            await asyncio.sleep(_TICK_S)

    async def listen(self, answer: Callable[[System, list[str]], Reply]) -> None:
        """Answer commands from now on."""
        with as_root():
            await asyncio.start_server(partial(self._serve, answer), "127.0.0.1", SERVER_PORT, limit=_MAX_REQUEST_BYTES)

    async def _serve(
        self,
        answer: Callable[[System, list[str]], Reply],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            count = int((await reader.readuntil(b"\0"))[:-1])
            words = [(await reader.readuntil(b"\0"))[:-1].decode(errors="replace") for _ in range(count)]
            reply = answer(self, words)
            self.refresh()
            errors = reply.err.splitlines()
            writer.write("".join([f"{reply.code} {len(errors)}\n", *(f"{e}\n" for e in errors), reply.out]).encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # the command was killed meanwhile
        finally:
            writer.close()


@contextlib.contextmanager
def as_root() -> Iterator[None]:
    """Act as the phone's root for a moment; else this process is the shell user, as the daemon is."""
    before = os.geteuid()
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(before)
