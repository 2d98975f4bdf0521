"""A program on a phone or a board that the host talks with."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from melt.errors import TransportError, TransportTimeout

_WRITE_TIMEOUT_S = 30.0
_END_BY_ITSELF_S = 0.2
_END_AFTER_SIGNAL_S = 2.0


class Program(Protocol):
    """A program that runs at the other end of a link."""

    stdout: bytearray
    exit_code: int | None

    @property
    def pid(self) -> int | None:
        """Its process number, which is its group's too; None until it is known."""
        ...

    @property
    def is_writing(self) -> bool:
        """Whether bytes for its stdin are still waiting for the link."""
        ...

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes for its stdin, and its end."""
        ...

    def step(self, deadline: float) -> bool:
        """Move what can be moved, waiting for that until the deadline; False when nothing could be."""
        ...

    def wait(self, deadline: float) -> bool:
        """Move everything until the program ended; False when the deadline came first."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class ProgramChannel:
    """A program whose stdin and stdout are ours; its stderr is dropped. `end_group` sends a signal to its group."""

    def __init__(self, shell: Program, what: str, end_group: Callable[[int, str], None]) -> None:
        self._shell = shell
        self._what = what
        self._end_group = end_group
        self._is_closed = False

    def read(self, size: int, timeout_s: float) -> bytes | None:
        """Return what is there, b"" at the end, None when the time is up. Raises TransportError."""
        deadline = time.monotonic() + timeout_s
        shell = self._shell
        while not shell.stdout and not self._is_closed and shell.exit_code is None:
            if not shell.step(deadline):
                return None
        data = bytes(shell.stdout[:size])
        del shell.stdout[:size]
        return data

    def write(self, data: bytes) -> None:
        """Send all bytes. Raises TransportError when the program is gone, TransportTimeout when it does not read."""
        shell = self._shell
        if not self._is_closed:
            shell.send(data)
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        while shell.is_writing or self._is_closed:
            if self._is_closed or shell.exit_code is not None:
                raise TransportError(f"{self._what} has ended and takes nothing any more")
            if not shell.step(deadline):
                raise TransportTimeout(f"{self._what} took nothing from its stdin for {_WRITE_TIMEOUT_S:g} s")

    def close(self) -> int | None:
        """Close stdin, give the program a moment, then end its process group; what it still says is dropped."""
        if self._is_closed:
            return self._shell.exit_code
        self._is_closed = True
        shell = self._shell
        try:
            if shell.exit_code is None:
                shell.send(b"", end=True)
            if not shell.wait(time.monotonic() + _END_BY_ITSELF_S):
                for signal in ("TERM", "KILL"):
                    if shell.pid is not None:
                        self._end_group(shell.pid, signal)
                    if shell.wait(time.monotonic() + _END_AFTER_SIGNAL_S):
                        break
        except TransportError:
            return None
        finally:
            shell.stdout.clear()
            shell.close()
        return shell.exit_code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
