"""The contract between melt and any way of reaching a device: four verbs, argument lists, deadlines.

A transport moves bytes and starts programs; it knows nothing of agents, models or phones. Quoting for a remote shell
happens inside a transport, once, and nowhere else. Every implementation passes tests/contract/test_transports.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while a file travels."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended. A negative `exit_code` is the number of the signal that ended it."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A program that runs on the device while the host talks with it."""

    def read(self, size: int, timeout_s: float) -> bytes | None:
        """Return up to `size` bytes of its stdout once there are any; b"" at its end, None when the time is up."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes to its stdin."""
        ...

    def close(self) -> int | None:
        """End the program if it still runs and return its exit code, None if that cannot be known."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Transport(Protocol):
    """A way to one device."""

    @property
    def name(self) -> str:
        """The transport as a user writes it after --device: `local`, `adb:SERIAL`, `ssh:HOST`."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run a program to its end. Raises TransportTimeout after `timeout_s`, TransportError when the link breaks.

        A program that cannot be started is no error of the transport: it completes with exit code 127 (not found)
        or 126 (not executable) and a sentence on stderr, as a shell would say it.
        """
        ...

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a program and talk with it."""
        ...

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copy a file to the device. The name appears only once the file is whole; folders on the way are made.

        Raises NoSpace, DeviceError.
        """
        ...

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        """Run a program with a file's bytes, from `offset` to its end, as its stdin: the fastest way to the device.

        The program knows how many bytes come, for not every link can close stdin. `timeout_s` is for silence: no byte
        taken and none said for so long raises TransportTimeout. Errors are those of `run`.
        """
        ...

    def pull(self, remote: str, local: Path, *, progress: Progress | None = None) -> None:
        """Copy a file from the device; the same promise."""
        ...

    def close(self) -> None:
        """Give the link back."""
        ...
