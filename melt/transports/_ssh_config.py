"""What OpenSSH's own configuration says of a destination: read by `ssh -G`, so that Include and Match count too."""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from melt.errors import DeviceError, TransportTimeout, UsageError

_READ_S = 20.0
"""`Match exec` in a configuration may ask a slow network."""
_CONNECT_S = 10.0
_DEPTH = 16
_DESTINATION = re.compile(
    r"(?:(?P<user>[^@\s][^\s]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]@]+))(?::(?P<port>\d{1,5}))?\Z"
)
_ALIAS = re.compile(r"[^\s*?!:@\[\]-][^\s*?!:@\[\]]*\Z")
_PLACE = re.compile(r" line \d+: ")
_NEXT_PATH = re.compile(r"\s+(?=[/~%$])")
"""Between the files of one setting, of which `ssh -G` quotes none: a space may stand in a name, too."""
_BARE_V6 = re.compile(r"(?:[^@\s]+@)?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%\w]*\Z")


@dataclass(frozen=True, slots=True)
class Host:
    """Where a destination is and how it is entered. `proxy_jumps` come in the order in which they are passed."""

    destination: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool
    agent: str | None
    known_hosts: tuple[Path, ...]
    revoked_keys: Path | None
    host_key_alias: str | None
    proxy_jumps: tuple[str, ...]
    proxy_command: str | None
    connect_timeout_s: float

    @property
    def known_as(self) -> tuple[str, ...]:
        """The names that known hosts may have for it; the first is the one to write."""
        if self.host_key_alias:
            return (self.host_key_alias.lower(),)
        name = self.hostname.lower()
        # OpenSSH takes the key of the bare name too, where none stands for the port.
        return (name,) if self.port == 22 else (f"[{name}]:{self.port}", name)


def read(destination: str) -> Host:
    """Return what the configuration says of `host`, `user@host`, `user@host:port` or an alias.

    Raises UsageError for a destination that cannot be one, DeviceError where OpenSSH's client is not installed,
    TransportTimeout where it waits for something else.
    """
    words = _words(destination)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in _effective(destination, words).splitlines():
        key, _, value = line.partition(" ")
        found[key].append(value)
    host, port, user = found["hostname"][0].strip("[]"), int(found["port"][0]), found["user"][0]
    tokens = {
        "%": "%", "h": host, "n": words[-1].rpartition("@")[2], "p": str(port), "r": user, "u": getpass.getuser(),
        "d": str(Path.home()), "L": socket.gethostname().partition(".")[0], "l": socket.gethostname(),
        "i": str(os.getuid()), "k": (found.get("hostkeyalias") or [host])[0],
    }  # fmt: skip
    jump, command = (_given(found.get(key)) for key in ("proxyjump", "proxycommand"))
    timeout, revoked = (_given(found.get(key)) for key in ("connecttimeout", "revokedhostkeys"))
    return Host(
        destination,
        host,
        port,
        user,
        tuple(_path(name, tokens) for name in found["identityfile"] if name != "none"),
        found.get("identitiesonly") == ["yes"],
        _agent(found.get("identityagent"), tokens),
        tuple(
            _path(name, tokens)
            for key in ("userknownhostsfile", "globalknownhostsfile")
            for name in _NEXT_PATH.split(" ".join(found.get(key, ())))
            if name not in ("", "none")
        ),
        _path(revoked, tokens) if revoked else None,
        _given(found.get("hostkeyalias")),
        tuple(each.removeprefix("ssh://") for each in jump.split(",")) if jump else (),
        _expanded(_checked_tokens(command, tokens), tokens) if command else None,
        float(timeout) if timeout and float(timeout) > 0 else _CONNECT_S,
    )


def aliases() -> list[str]:
    """Return the plain names after `Host` in the user's configuration, without patterns; [] where there is none."""
    return list(dict.fromkeys(_aliases_of(_config_file() or Path.home() / ".ssh" / "config", 0)))


def _aliases_of(file: Path, depth: int) -> Iterator[str]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            words = shlex.split(re.sub(r"^(\s*\w+)\s*=\s*", r"\1 ", line), comments=True)
        except ValueError:
            continue
        match [word.lower() for word in words[:1]]:
            case ["host"]:
                yield from (word for word in words[1:] if _ALIAS.match(word))
            case ["include"] if depth < _DEPTH:
                for pattern in words[1:]:
                    # As ssh_config(5) has it: what is relative is relative to ~/.ssh.
                    where = Path.home() / ".ssh" / _at_home(Path(pattern))
                    for included in sorted(glob.glob(str(where))):  # noqa: PTH207 (the pattern may be absolute)
                        yield from _aliases_of(Path(included), depth + 1)


def _config_file() -> Path | None:
    named = os.environ.get("MELT_SSH_CONFIG")
    return _at_home(Path(named)) if named else None


def _words(destination: str) -> tuple[str, ...]:
    """Return the destination as arguments of ssh. Raises UsageError."""
    found = _DESTINATION.match(destination)
    if destination.startswith("-") or not (found or _BARE_V6.match(destination)):
        raise UsageError(
            f"ssh: {destination!r} is no destination: write an alias of ~/.ssh/config, `host`, `user@host` or "
            "`user@host:port`"
        )
    if found is None or found["port"] is None:
        return (destination.replace("[", "").replace("]", ""),)
    user = f"{found['user']}@" if found["user"] else ""
    return ("-p", found["port"], user + (found["v6"] or found["host"]))


def _effective(destination: str, words: tuple[str, ...]) -> str:
    file = _config_file()
    command = ("ssh", *(("-F", str(file)) if file else ()), "-G", "-T", "--", *words)
    if words[0] == "-p":
        command = (*command[:-4], *words[:2], "--", words[2])
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="surrogateescape",
            timeout=_READ_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise DeviceError("ssh: OpenSSH's client, which reads ~/.ssh/config, is not here: install it") from None
    except subprocess.TimeoutExpired as error:
        # It may be the network that is asked: with its return this ends, too.
        raise TransportTimeout(
            f"ssh: the configuration of {destination} was not read in {_READ_S:g} s: does a `Match exec` in it hang?"
        ) from error
    except OSError as error:
        raise DeviceError(f"ssh: the configuration of {destination} cannot be read: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"`ssh -G` ended with {done.returncode}"]
        said = next((line for line in lines if _PLACE.search(line)), lines[-1])
        raise UsageError(f"ssh: the configuration of {destination} cannot be read: {said}")
    return done.stdout


def _given(values: list[str] | None) -> str | None:
    return values[0] if values and values[0] not in ("", "none") else None


def _agent(values: list[str] | None, tokens: Mapping[str, str]) -> str | None:
    """Return the socket of the agent that is to be asked."""
    named = values[0] if values else "SSH_AUTH_SOCK"
    if named == "none":
        return None
    if named == "SSH_AUTH_SOCK" or (named.startswith("$") and "{" not in named):
        return os.environ.get(named.lstrip("$")) or None
    return str(_path(named, tokens))


def _path(text: str, tokens: Mapping[str, str]) -> Path:
    named = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), _expanded(text, tokens))
    return _at_home(Path(named))


def _at_home(path: Path) -> Path:
    """Return a path with its ~ replaced, as it is where it names nobody of this machine."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _checked_tokens(command: str, tokens: Mapping[str, str]) -> str:
    """Return the command if nothing but words of the network goes into it. Raises UsageError."""
    for token in "hnpr":
        if f"%{token}" in command and not re.fullmatch(r"[\w.:%@+][\w.:%@+-]*", tokens[token]):
            raise UsageError(f"ssh: {tokens[token]!r} must not go into the ProxyCommand `{command}`")
    return command
