"""Programs on an SSH host: the one place that quotes for its shells, and what separates their words from a program's.

Which shell runs a command is the user's choice (bash, zsh, fish, tcsh), and what its start-up files print comes first,
on both streams. So the shell is asked for one thing only, in words that all of them read alike: to become `sh`, which
prints a mark on both streams and becomes the program.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Sequence

from melt.errors import DeviceError, UsageError
from melt.transports._ssh_link import BROKEN, Link, Session
from melt.transports.base import Progress

_START = 'LC_ALL=C;export LC_ALL;echo "$1 $$";echo "$1">&2;shift;exec "$@"'
"""With the mark it says its number, which is its process group's too. What programs say is read: let it be English."""
_DECODE = 'eval "set -- $(printf %b "$1")";'
_SAFE = frozenset(range(0x20, 0x7F)) - frozenset(b"'\\!")
"""What stands for itself between single quotes in every shell."""
_COMMAND_BYTES = 120_000
"""Linux takes 128 KiB in one argument, and a command is one argument of the login shell."""
_RECEIVE_BYTES = 4 << 20
_FILE_BYTES = 256 << 10
_PACKET_BYTES = 32 << 10
_SILENCE_S = 10.0
"""After so long a silence the link is asked whether it still lives."""
_UNKNOWN_SIGNAL = 255


def command(words: Sequence[str], mark: str) -> bytes:
    """Return what the login shell is told so that a program gets exactly these words. Raises UsageError.

    Words with bytes that shells read differently (quotes, backslashes, `!`, line ends, anything not ASCII) travel as
    octal numbers and are put together by sh.
    """
    raw = [os.fsencode(word) for word in words]
    if all(_SAFE.issuperset(word) for word in raw):
        parts = [_START.encode(), b"sh", mark.encode(), *raw]
    else:
        listed = b" ".join(b"'" + word.replace(b"'", b"'\\''") + b"'" for word in (mark.encode(), *raw))
        coded = b"".join(bytes((byte,)) if byte in _SAFE else b"\\0%03o" % byte for byte in listed)
        parts = [(_DECODE + _START).encode(), b"sh", coded]
    told = b"exec sh -c " + b" ".join(b"'" + part + b"'" for part in parts)
    if len(told) > _COMMAND_BYTES:
        raise UsageError(f"a command of {len(told)} bytes is too long for ssh, which takes {_COMMAND_BYTES}")
    return told


class Shell:
    """A program that runs, its stdin and its two streams of output. Not for several threads at once."""

    def __init__(self, link: Link, words: Sequence[str], what: str, timeout_s: float) -> None:
        self.stdout = bytearray()
        self.exit_code: int | None = None
        self.pid: int | None = None
        self.link = link
        self.asked = time.monotonic()
        self._what = what
        self._mark = secrets.token_hex(16)
        self._early = bytearray()
        self._stderr = bytearray()
        self._pending = memoryview(b"")
        self._ends_stdin = False
        self._file: _File | None = None
        self._session: Session = link.start_program(command(words, self._mark), timeout_s)
        self._channel = self._session.channel

    @property
    def stderr(self) -> bytes:
        """What it said on stderr so far."""
        _, mark, said = bytes(self._stderr).partition(self._mark.encode() + b"\n")
        return said if mark else b""

    @property
    def is_writing(self) -> bool:
        """Whether bytes for its stdin are still waiting for the link."""
        return bool(self._pending or self._file)

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes for its stdin, and its end; `step` sends them."""
        self._pending = memoryview(bytes(self._pending) + data if self._pending else data)
        self._ends_stdin = self._ends_stdin or end

    def send_file(self, source: int, offset: int, progress: Progress | None) -> None:
        """Queue the bytes of an open file from `offset` to its end, then the end of stdin."""
        self._file = _File(source, offset, progress)
        self._ends_stdin = True

    def step(self, deadline: float) -> bool:
        """Move what can be moved, waiting for that until the deadline; False when nothing could be.

        Raises TransportError when the link breaks before the program ended, TransportTimeout when it is frozen,
        DeviceError where the host runs no commands.
        """
        bell = self._session.bell
        heard = time.monotonic()
        while True:
            bell.clear()
            if self._move():
                return True
            now = time.monotonic()
            if bell.wait(max(0.0, min(deadline, heard + _SILENCE_S) - now)):
                continue
            if time.monotonic() >= deadline:
                return False
            self.link.alive()
            heard = time.monotonic()

    def wait(self, deadline: float) -> bool:
        """Move everything until the program ended; False when the deadline came first."""
        while self.exit_code is None:
            if not self.step(deadline):
                return False
        return True

    def close(self) -> None:
        """Hang up."""
        self.link.end_program(self._session)

    def _move(self) -> bool:
        channel = self._channel
        # Looked at before its output: what came before the end is in the buffers then.
        has_ended = channel.closed or (channel.eof_received and channel.status_event.is_set())
        moved = False
        try:
            while channel.recv_ready():
                self._take(channel.recv(_RECEIVE_BYTES))
                moved = True
            while channel.recv_stderr_ready():
                self._stderr += channel.recv_stderr(_RECEIVE_BYTES)
                moved = True
            if has_ended:
                if self.exit_code is None:
                    self.exit_code = self._ended()
                    return True
                return moved
            return self._write() or moved
        except TimeoutError:
            return moved
        except BROKEN as error:
            if channel.closed and self.link.is_active():
                # It ended while we wrote: the next look says how.
                return True
            raise self.link.broken() from error

    def _write(self) -> bool:
        # A start-up file that reads stdin must not get what is the program's.
        if self.pid is None or self._channel.eof_sent or not self._channel.send_ready():
            return False
        if not self._pending and self._file is not None:
            self._pending = memoryview(self._file.read())
            if not self._pending:
                self._file = None
        if self._pending:
            count = self._channel.send(bytes(self._pending[:_PACKET_BYTES]))
            self._pending = self._pending[count:]
            if self._file is not None:
                self._file.sent(count)
            return count > 0
        if self._ends_stdin:
            self._channel.shutdown_write()
            return True
        return False

    def _take(self, data: bytes) -> None:
        """Keep what the program says; what comes before the mark was said by start-up files."""
        if self.pid is not None:
            self.stdout += data
            return
        self._early += data
        found = re.search(rb"%b (\d+)\n" % self._mark.encode(), self._early)
        if found:
            self.pid = int(found[1])
            self.stdout += self._early[found.end() :]

    def _ended(self) -> int:
        status, name = self._channel.exit_status, self._session.signal
        if name is None and status < 0 and not (self.link.is_active() and self.pid is None):
            raise self.link.broken()
        if self.pid is None:
            said = bytes(self._early + self._stderr).decode(errors="replace").strip().splitlines()
            raise DeviceError(
                f"{self._what}: the host runs no commands for this user: "
                + (f"it said {said[-1]!r}" if said else f"its login shell ended with {name or status}")
            )
        if name is None:
            return status
        number = getattr(signal, f"SIG{name}", None)
        if number is None:
            # OpenSSH names eleven signals; of the others it says that there was one.
            self._stderr += b"ended by a signal that the SSH server does not name\n"
            return _UNKNOWN_SIGNAL
        return -int(number)


class _File:
    """A file on its way to a program's stdin."""

    def __init__(self, source: int, position: int, progress: Progress | None) -> None:
        self._source = source
        self._read = self._sent = position
        self._size = os.fstat(source).st_size
        self._progress = progress

    def read(self) -> bytes:
        """Return its next bytes, b"" at its end."""
        data = os.pread(self._source, min(_FILE_BYTES, self._size - self._read), self._read)
        if not data and self._read < self._size:
            raise DeviceError("the file became shorter while it was sent")
        self._read += len(data)
        return data

    def sent(self, count: int) -> None:
        """Count what went."""
        self._sent += count
        if self._progress is not None:
            self._progress(self._sent, self._size)
