"""The machine melt runs on as a device: programs are child processes, files are copied."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from melt.errors import DeviceError, TransportError, TransportTimeout
from melt.transports._argv import checked
from melt.transports._files import copy_whole
from melt.transports.base import Completed, Progress

_WRITE_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.1
_END_BY_ITSELF_S = 0.2
_END_AFTER_TERM_S = 2.0


class LocalTransport:
    """Reach this machine. Nothing to open, nothing to lose."""

    @property
    def name(self) -> str:
        """`local`."""
        return "local"

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run a program to its end; at the deadline its whole process group is killed."""
        words = checked(argv, "local")
        try:
            process = _spawn(words, stderr=subprocess.PIPE)
        except OSError as error:
            return _not_started(words, error)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _abandon(process)
            raise TransportTimeout(f"local: {words[0]} did not end within {timeout_s:g} s") from error
        except BaseException:
            _abandon(process)
            raise
        return Completed(words, process.returncode, stdout, stderr)

    def open(self, argv: Sequence[str]) -> LocalChannel:
        """Start a program and talk with it. Raises TransportError when it cannot be started."""
        words = checked(argv, "local")
        try:
            return LocalChannel(_spawn(words, stderr=subprocess.DEVNULL))
        except OSError as error:
            raise TransportError(f"local: cannot start {words[0]}: {error.strerror}") from error

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copy a file; a file that is already there under another name of itself is left alone."""
        copy_whole(local, Path(remote), mode, progress)

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        """Run a program with the rest of a file as its stdin, handed over as it is; nothing travels."""
        words = checked(argv, "local")
        try:
            with local.open("rb", buffering=0) as source:
                source.seek(offset)
                return self._fed(words, source, timeout_s, progress)
        except OSError as error:
            raise DeviceError(f"cannot read {local}: {error.strerror or error}") from error

    def pull(self, remote: str, local: Path, *, progress: Progress | None = None) -> None:
        """Copy a file; the same promise."""
        copy_whole(Path(remote), local, 0o644, progress)

    def close(self) -> None:
        """Nothing to give back."""

    def _fed(self, words: tuple[str, ...], source: FileIO, timeout_s: float, progress: Progress | None) -> Completed:
        try:
            process = _spawn(words, stdin=source, stderr=subprocess.PIPE)
        except OSError as error:
            return _not_started(words, error)
        size = os.fstat(source.fileno()).st_size
        seen, moved = (source.tell(), 0), time.monotonic()
        try:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=min(timeout_s, _LOOK_EVERY_S))
                    break
                except subprocess.TimeoutExpired as waiting:
                    # The program reads through our own descriptor, so its position says how far it is.
                    now = (source.tell(), len(waiting.output or b""))
                    if now != seen:
                        seen, moved = now, time.monotonic()
                        if progress is not None:
                            progress(now[0], size)
                    elif time.monotonic() - moved >= timeout_s:
                        silence = f"local: {words[0]} took nothing and said nothing for {timeout_s:g} s"
                        raise TransportTimeout(silence) from None
        except BaseException:
            _abandon(process)
            raise
        if progress is not None:
            progress(size, size)
        return Completed(words, process.returncode, stdout, stderr)


class LocalChannel:
    """A child process whose stdin and stdout are ours; its stderr is dropped."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def read(self, size: int, timeout_s: float) -> bytes | None:
        """Return what is there, b"" at the end, None when the time is up."""
        if self._stdout.closed:
            return b""
        return os.read(self._stdout.fileno(), size) if _ready(self._stdout.fileno(), select.POLLIN, timeout_s) else None

    def write(self, data: bytes) -> None:
        """Send all bytes. Raises TransportError when the program is gone, TransportTimeout when it does not read."""
        view = memoryview(data)
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        try:
            while view:
                if not _ready(self._stdin.fileno(), select.POLLOUT, deadline - time.monotonic()):
                    raise TransportTimeout(f"local: the program took nothing from its stdin for {_WRITE_TIMEOUT_S:g} s")
                with suppress(BlockingIOError):
                    view = view[os.write(self._stdin.fileno(), view) :]
        except (BrokenPipeError, ValueError) as error:
            raise TransportError("local: the program has ended and takes nothing any more") from error

    def close(self) -> int | None:
        """Close stdin and stdout, give the program a moment, then end its process group."""
        self._stdin.close()
        self._stdout.close()
        for wait_s, then in ((_END_BY_ITSELF_S, signal.SIGTERM), (_END_AFTER_TERM_S, signal.SIGKILL)):
            try:
                return self._process.wait(wait_s)
            except subprocess.TimeoutExpired:
                _signal_group(self._process, then)
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _spawn(words: tuple[str, ...], *, stderr: int, stdin: int | FileIO = subprocess.PIPE) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C at the terminal is melt's to answer, and one signal reaches all its children.
    return subprocess.Popen(
        words, bufsize=0, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    )


def _not_started(words: tuple[str, ...], error: OSError) -> Completed:
    exit_code = 127 if isinstance(error, FileNotFoundError | NotADirectoryError) else 126
    return Completed(words, exit_code, b"", f"{words[0]}: {error.strerror}\n".encode(errors="surrogateescape"))


def _ready(fd: int, event: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, timeout_s) * 1e3))


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill the group and reap the child, without waiting for pipes that a stray grandchild may hold open."""
    _signal_group(process, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
