"""Boards and Macs over SSH: one kept connection, which all threads share and which is made anew when it broke."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from melt.errors import DeviceError, NoSpace, Offline, TransportError, TransportTimeout, UsageError
from melt.transports._argv import checked
from melt.transports._channel import ProgramChannel
from melt.transports._files import arriving, has_no_room
from melt.transports._ssh_connect import connect
from melt.transports._ssh_link import ALIVE_S, Link, Refused
from melt.transports._ssh_shell import Shell
from melt.transports.base import Completed, Progress

_ANSWER_S = 10.0
"""How long a host may take to open a channel: it needs milliseconds."""
_TURN_S = 60.0
"""How long a thread waits for another one that is connecting: each step of that has a deadline of its own."""
_SILENCE_S = 20.0
"""A transfer in which nothing moves for so long is given up."""
_TAKE = """
if [ -d "$2" ]; then echo "it is a folder" >&2; exit 1; fi
case $2 in */*) folder=${2%/*} ;; *) folder=. ;; esac
mkdir -p -- "${folder:-/}" || exit 1
umask 077
if cat > "$1" && [ $(wc -c < "$1") -eq "$4" ]; then chmod "$3" "$1" && mv -f -- "$1" "$2" && exit 0; fi
rm -f -- "$1"
exit 1
"""
"""A link that breaks looks like the end of the file from there: only the size tells."""
_GIVE = """
if [ -d "$1" ]; then echo "it is a folder" >&2; exit 1; fi
wc -c < "$1" && exec cat -- "$1"
"""


class SshTransport:
    """Reach a host by its destination, as OpenSSH takes it."""

    def __init__(self, destination: str) -> None:
        if not destination:
            raise UsageError("ssh: which host? write `ssh:ALIAS` or `ssh:USER@HOST`")
        self._destination = destination
        self._name = f"ssh:{destination}"
        self._links: list[Link] = []
        self._was_there = False
        self._connecting = threading.Lock()

    @property
    def name(self) -> str:
        """`ssh:DESTINATION`."""
        return self._name

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Run a program to its end; at the deadline its whole process group is killed. Connecting comes on top."""
        words = checked(argv, "ssh")
        with self._running(words, timeout_s) as shell:
            shell.send(stdin, end=True)
            if not shell.wait(shell.asked + timeout_s):
                raise TransportTimeout(f"{self._name}: {words[0]} did not end within {timeout_s:g} s")
        return _completed(words, shell)

    def open(self, argv: Sequence[str]) -> ProgramChannel:
        """Start a program and talk with it. What cannot be started ends at once, with exit code 127 or 126."""
        words = checked(argv, "ssh")
        return ProgramChannel(self._start(words, _ANSWER_S), f"{self._name}: {words[0]}", self._end_group)

    def push(self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copy a file beside its place, then rename it. Raises NoSpace, DeviceError, TransportError."""
        folder, slash, _ = remote.rpartition("/")
        temporary = f"{folder}{slash}.{secrets.token_hex(8)}.part"
        try:
            size = local.stat().st_size
        except OSError as error:
            raise DeviceError(f"cannot read {local}: {error.strerror or error}") from error
        words = ("sh", "-c", _TAKE, "sh", temporary, remote, f"{mode:o}", str(size))
        try:
            done = self.feed(words, local, timeout_s=_SILENCE_S, progress=progress)
        except DeviceError as error:
            # Where the link broke, the host finds the file too short and removes it by itself.
            if isinstance(error, TransportTimeout) or not isinstance(error, TransportError):
                with suppress(TransportError):
                    self.run(("rm", "-f", "--", temporary))
            raise
        if done.exit_code:
            reason = done.stderr.decode(errors="replace").strip() or "it did not arrive whole"
            if has_no_room(reason):
                raise NoSpace(f"{self._name}: cannot write {remote}: {reason}; make room with `melt devices clean`")
            raise DeviceError(f"{self._name}: cannot write {remote}: {reason}")
        if progress is not None:
            progress(size, size)

    def feed(
        self, argv: Sequence[str], local: Path, *, offset: int = 0, timeout_s: float, progress: Progress | None = None
    ) -> Completed:
        """Run a program with the rest of a file as its stdin. Raises TransportError, TransportTimeout, DeviceError."""
        words = checked(argv, "ssh")
        try:
            with local.open("rb", buffering=0) as source, self._running(words, timeout_s) as shell:
                shell.send_file(source.fileno(), offset, progress)
                while shell.exit_code is None:
                    self._step(shell, words, timeout_s)
        except OSError as error:
            raise DeviceError(f"cannot read {local}: {error.strerror or error}") from error
        return _completed(words, shell)

    def pull(self, remote: str, local: Path, *, progress: Progress | None = None) -> None:
        """Copy a file beside its place, then rename it. Raises DeviceError, TransportError."""
        words = ("sh", "-c", _GIVE, "sh", remote)
        with self._running(words, _SILENCE_S) as shell, arriving(local) as target:
            shell.send(b"", end=True)
            total, done = -1, 0
            while True:
                has_ended = shell.exit_code is not None
                if total < 0 and b"\n" in shell.stdout:
                    size, _, rest = bytes(shell.stdout).partition(b"\n")
                    total, shell.stdout[:] = int(size), rest
                if total >= 0 and shell.stdout:
                    target.write(shell.stdout)
                    done += len(shell.stdout)
                    shell.stdout.clear()
                    if progress is not None:
                        progress(done, max(done, total))
                if has_ended:
                    break
                self._step(shell, words, _SILENCE_S)
            if shell.exit_code:
                reason = shell.stderr.decode(errors="replace").strip()
                raise DeviceError(f"{self._name}: cannot read {remote}: {reason}")
        if progress is not None:
            progress(done, done)

    def close(self) -> None:
        """Close the connections; a later call would make a new one."""
        with self._connecting:
            links, self._links = self._links, []
        for link in links:
            link.close()

    @contextmanager
    def _running(self, words: Sequence[str], timeout_s: float) -> Iterator[Shell]:
        """Start a program; when the block ends before it, its whole process group is killed, if the link lives."""
        shell = self._start(words, min(timeout_s, _ANSWER_S))
        try:
            yield shell
        except BaseException:
            if shell.pid is not None and shell.exit_code is None and shell.link.is_active():
                with suppress(TransportError):
                    self._end_group(shell.pid, "KILL")
            raise
        finally:
            shell.close()

    def _step(self, shell: Shell, words: Sequence[str], timeout_s: float) -> None:
        if not shell.step(time.monotonic() + timeout_s):
            silence = f"took nothing and said nothing for {timeout_s:g} s"
            raise TransportTimeout(f"{self._name}: {words[0]} {silence}")

    def _start(self, words: Sequence[str], timeout_s: float) -> Shell:
        """Start a program on a link that has room for one more. Nothing is started twice."""
        full: list[Link] = []
        while True:
            link, is_new = self._link(full)
            try:
                return Shell(link, words, f"{self._name}: {words[0]}", timeout_s)
            except Refused as error:
                if is_new and link.is_idle:
                    raise TransportError(
                        f"{self._name} opens no session: see MaxSessions and ForceCommand in its sshd_config"
                    ) from error
                full.append(link)
            except Offline:
                # A link that broke since the last call is met here, before anything ran.
                if is_new:
                    raise
                full.append(link)

    def _link(self, full: Sequence[Link]) -> tuple[Link, bool]:
        """Return a link that is not full, and whether it was made for this."""
        if not self._connecting.acquire(timeout=_TURN_S):
            raise TransportTimeout(f"{self._name}: another call has been connecting for {_TURN_S:g} s")
        try:
            for link in self._links[:]:
                if link.is_frozen:
                    link.close()
                if not link.is_active():
                    self._links.remove(link)
                elif link not in full:
                    return link, False
            self._links.append(self._connected())
            return self._links[-1], True
        finally:
            self._connecting.release()

    def _connected(self) -> Link:
        try:
            link = connect(self._destination)
        except UsageError as error:
            # Somebody edits the configuration just now: it led to the host before, and a run may be going on there.
            if self._was_there:
                raise Offline(f"{self._name}: {str(error).removeprefix('ssh: ')}") from error
            raise
        self._was_there = True
        return link

    def _end_group(self, pid: int, signal: str) -> None:
        """Send a signal to a process group. Raises TransportError."""
        # dash takes a group's number only after -s; small SSH servers give a program no group of its own.
        kill = f"kill -s {signal} -- -{pid} || kill -s {signal} {pid}"
        shell = self._start(("sh", "-c", kill), ALIVE_S)
        try:
            shell.send(b"", end=True)
            shell.wait(time.monotonic() + ALIVE_S)
        finally:
            shell.close()


def _completed(words: tuple[str, ...], shell: Shell) -> Completed:
    assert shell.exit_code is not None
    return Completed(words, shell.exit_code, bytes(shell.stdout), shell.stderr)
