"""A real OpenSSH server of one's own on 127.0.0.1, whose links can be dropped, frozen and given another host key."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .phone.requirements import Unavailable

_HOST = "127.0.0.1"
_START_S = 15.0
_STOP_S = 5.0


class Sshd:
    """A server that starts with the block and ends with it. Raises Unavailable where OpenSSH is not installed.

    `enter` is put in front of the server's command line (namespaces, chroot); `folder` must be visible there by the
    same name. `home` is the session's HOME, whose shell start-up files are read: an empty one for the current user, for
    another `user` the one it has. `options` are further lines of the server's config.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str | None = None,
        enter: Sequence[str] = (),
        home: Path | None = None,
        alias: str = "board",
        options: Iterable[str] = (),
    ) -> None:
        self._sshd = _program("sshd")
        self._keygen = _program("ssh-keygen")
        self._folder = folder
        self._enter = tuple(enter)
        self._home = folder / "home" if home is None and user is None else home
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.user = user or getpass.getuser()
        self.alias = alias
        self.port = _free_port()
        self.log = folder / "sshd.log"
        self.identity = folder / "identity"
        self.host_key = folder / "host_key.pub"
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "ssh_config"
        self.environment = {"MELT_SSH_CONFIG": str(self.config), "XDG_CONFIG_HOME": str(folder / "config")}

    def start(self) -> None:
        """Start it, with its keys of before where there are some, and wait until it answers."""
        for folder in filter(None, (self._folder, self._home)):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.identity.exists():
            self._make_key(self.identity)
        if not self.host_key.exists():
            self._make_key(self.host_key.with_suffix(""))
            self.know()
        self._write_configs()
        if os.geteuid() == 0 and not self._enter:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                (*self._enter, self._sshd, "-D", "-e", "-f", self._folder / "sshd_config"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait(self._answers, _START_S, "answer")

    def stop(self) -> None:
        """End it with all its sessions, and what they run."""
        process, self._process = self._process, None
        if process is None:
            return
        # Who comes first in the list is the parent: it cannot start anew what is ended after it.
        for pid in (process.pid, *_descendants(process.pid)):
            _send(pid, signal.SIGKILL)
        process.wait(_STOP_S)

    def drop_links(self) -> None:
        """End every session at once, as a reboot or a crashed server would; the programs are left behind."""
        gone = self._sessions()
        for pid in gone:
            _send(pid, signal.SIGKILL)
        self._wait(lambda: not set(gone) & set(self._sessions()), _STOP_S, "drop its links")

    def freeze(self, *, listener: bool = False) -> None:
        """Let every session stand still, as on a network that swallows packets; with `listener` new ones too."""
        for pid in (*self._listeners(), *self._sessions()) if listener else self._sessions():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let everything go on."""
        for pid in (*self._listeners(), *self._sessions()):
            _send(pid, signal.SIGCONT)

    def new_host_key(self) -> None:
        """Start anew with another host key, of which the client's known hosts say nothing."""
        self.stop()
        self._make_key(self.host_key.with_suffix(""))
        self.start()

    def know(self) -> None:
        """Write the present host key, and no other, into the client's known hosts."""
        kind, key = self.host_key.read_text().split()[:2]
        self.known_hosts.write_text(f"[{_HOST}]:{self.port} {kind} {key}\n")

    def sessions(self) -> int:
        """Return how many links are open now."""
        return len({pid for pid in self._sessions() if _parent(pid) in self._listeners()})

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        self.stop()

    def _make_key(self, path: Path) -> None:
        for old in (path, path.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        words = (self._keygen, "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)

    def _write_configs(self) -> None:
        # A command says which key may log in, since a user of its own may not read what lies in the folder.
        kind, key = self.identity.with_suffix(".pub").read_text().split()[:2]
        lines = [
            # Of a setting said twice the first counts.
            *self._options,
            f"ListenAddress {_HOST}:{self.port}",
            f"HostKey {self.host_key.with_suffix('')}",
            "PidFile none",
            "AuthorizedKeysFile none",
            f"AuthorizedKeysCommand /bin/echo {kind} {key}",
            f"AuthorizedKeysCommandUser {getpass.getuser()}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "UseDNS no",
            "StrictModes no",
            "Subsystem sftp internal-sftp",
            "MaxStartups 1000",
            "MaxSessions 1000",
            *([f"SetEnv HOME={shlex.quote(str(self._home))}"] if self._home else []),
        ]
        config = self._folder / "sshd_config"
        config.write_text("\n".join([*lines, "PerSourcePenalties no", ""]))
        tried = subprocess.run((self._sshd, "-T", "-f", config), capture_output=True, text=True, check=False)
        if "PerSourcePenalties" in tried.stderr:
            config.write_text("\n".join([*lines, ""]))
        self.config.write_text(
            f"Host {self.alias}\n"
            f"    HostName {_HOST}\n"
            f"    Port {self.port}\n"
            f"    User {self.user}\n"
            f"    IdentityFile {self.identity}\n"
            "    IdentitiesOnly yes\n"
            "    IdentityAgent none\n"
            f"    UserKnownHostsFile {self.known_hosts}\n"
            "    GlobalKnownHostsFile /dev/null\n"
        )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"sshd ended at once: {self.log.read_text(errors='replace').strip()}")
        try:
            with socket.create_connection((_HOST, self.port), 1.0) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= deadline:
                said = self.log.read_text(errors="replace").strip()
                raise RuntimeError(f"sshd did not {what} within {timeout_s:g} s: {said}")
            time.sleep(0.01)

    def _servers(self) -> list[int]:
        """Return the processes of the server, parents first."""
        if self._process is None:
            return []
        return [pid for pid in (self._process.pid, *_descendants(self._process.pid)) if _name(pid).startswith("sshd")]

    def _listeners(self) -> list[int]:
        return self._servers()[:1]

    def _sessions(self) -> list[int]:
        return self._servers()[1:]


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    if found is None:
        raise Unavailable(f"an SSH server of one's own needs {name}: install openssh-server")
    return found


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _descendants(pid: int) -> list[int]:
    """Return the children of a process, then theirs."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(int(entry.name))) is not None:
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found[1:]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
