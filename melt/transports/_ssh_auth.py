"""Entering an SSH host with keys: those of the agent, then those in files. Never with passwords."""

from __future__ import annotations

import base64
import binascii
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH
from paramiko.ssh_exception import BadAuthenticationType, SSHException

from melt.errors import Offline, TransportTimeout, Unauthorized
from melt.transports._ssh_config import Host
from melt.transports._ssh_known_hosts import fingerprint

_AGENT_S = 30.0
"""An agent may ask its owner to touch a key."""


class _Agent(AgentSSH):
    """The agent behind one socket; without keys where none answers."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        if not path:
            return
        link = socket.socket(socket.AF_UNIX)
        try:
            link.settimeout(_AGENT_S)
            link.connect(path)
            self._connect(link)  # type: ignore[attr-defined]
        except (OSError, SSHException):
            link.close()

    def close(self) -> None:
        """Hang up."""
        self._close()  # type: ignore[attr-defined]


class _Keys:
    """The keys to try, in OpenSSH's order: what the agent has of the configured ones, its others, then files."""

    def __init__(self, host: Host, agent: _Agent) -> None:
        self._files = host.identity_files
        self._identities_only = host.identities_only
        self._agent = agent
        self.unusable: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, paramiko.PKey]]:
        held = {key.asbytes(): key for key in self._agent.get_keys()}
        named = [public for file in self._files if (public := _public_half(file))]
        others = [] if self._identities_only else [public for public in held if public not in named]
        asked = [public for public in (*named, *others) if public in held]
        for public in asked:
            yield f"{held[public].comment or fingerprint(public)} (agent)", held[public]
        for file in self._files:
            if _public_half(file) in asked:
                continue
            key = self._loaded(file)
            if key is not None and key.asbytes() not in asked:
                yield _short(file), key

    def _loaded(self, file: Path) -> paramiko.PKey | None:
        try:
            return paramiko.PKey.from_path(file)
        except FileNotFoundError:
            return None
        except (paramiko.PasswordRequiredException, TypeError):
            # cryptography says TypeError where a password lacks.
            self.unusable.append(f"{_short(file)} is encrypted and in no agent: run `ssh-add {_short(file)}`")
        except OSError as error:
            self.unusable.append(f"{_short(file)} cannot be read: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - each kind of damage has an exception of its own
            self.unusable.append(f"{_short(file)} is no private key that melt can use: {error}")
        return None


def authenticate(link: paramiko.Transport, host: Host, name: str, deadline: float) -> None:
    """Log in with the first key that is accepted. Raises Unauthorized, Offline, TransportTimeout."""

    def accepts(attempt: Callable[[], list[str]]) -> bool:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TransportTimeout(f"{name} did not let anybody in in time: is it busy?")
        link.auth_timeout = left_s
        try:
            further = attempt()
        except BadAuthenticationType as error:
            if "publickey" in error.allowed_types:
                return False
            ways = f", only {' or '.join(error.allowed_types)}" if any(error.allowed_types) else ""
            raise Unauthorized(
                f"{name} takes no keys{ways}: set `PubkeyAuthentication yes` in its sshd_config"
            ) from error
        except (SSHException, EOFError, OSError) as error:
            # A key was refused, or an agent did not sign; only a host that had no key to refuse yet is simply away.
            if link.is_active() or len(tried) > 1:
                return False
            raise Offline(f"{name} closed the link while melt logged in") from error
        if further:
            raise Unauthorized(
                f"{name} takes the key and then wants {' or '.join(further)} too, which nobody is there to answer: "
                "let a key be enough for this user (AuthenticationMethods in its sshd_config)"
            )
        return True

    tried: list[str] = []
    agent = _Agent(host.agent)
    keys = _Keys(host, agent)
    try:
        # Some hosts ask for nothing: a VPN has said who we are.
        if accepts(lambda: link.auth_none(host.user)):
            return
        for what, key in keys:
            tried.append(what)
            if accepts(lambda key=key: link.auth_publickey(host.user, key)):  # type: ignore[misc]
                return
            if not link.is_active():
                keys.unusable.append("it hung up then: name one key by IdentityFile and IdentitiesOnly")
                break
    finally:
        agent.close()
    raise Unauthorized(_refusal(host, name, tried, keys.unusable))


def _refusal(host: Host, name: str, tried: list[str], unusable: list[str]) -> str:
    notes = "".join(f"; {note}" for note in unusable)
    bring = f"`ssh-copy-id {host.destination}`"
    if ":" in host.destination:
        bring = f"`ssh-copy-id -p {host.port} {host.user}@{host.hostname}`"
    if tried:
        return (
            f"{name} lets {host.user} in with none of the keys {', '.join(tried)}{notes}; bring one there with {bring}"
        )
    if unusable:
        return f"{name}: there is no key to log in with{notes}; or bring another one there with {bring}"
    return f"{name}: there is no key to log in with: make one with `ssh-keygen` and bring it there with {bring}"


def _public_half(file: Path) -> bytes | None:
    """Return the public key beside a private one; a configuration may name the public file itself."""
    for each in (file.with_name(file.name + ".pub"), file):
        try:
            words = each.read_text().split(maxsplit=2)
            if len(words) >= 2 and not words[0].startswith("-"):
                return base64.b64decode(words[1], validate=True)
        except (OSError, ValueError, binascii.Error):
            continue
    return None


def _short(file: Path) -> str:
    try:
        return f"~/{file.relative_to(Path.home())}"
    except ValueError:
        return str(file)
