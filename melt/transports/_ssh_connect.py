"""Reach a host as OpenSSH would: directly, through other hosts or a command; check its key; log in."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.ssh_exception import ChannelException, IncompatiblePeer

from melt.errors import DeviceError, Gone, HostKeyError, Offline, TransportTimeout, UsageError
from melt.transports import _ssh_config
from melt.transports._ssh_auth import authenticate
from melt.transports._ssh_config import Host
from melt.transports._ssh_dial import dial
from melt.transports._ssh_known_hosts import Known, fingerprint, known, own_file, revoked_in
from melt.transports._ssh_link import BROKEN, Link

_LOG_IN_S = 30.0
_JUMPS = 8
_END_S = 2.0


def connect(destination: str) -> Link:
    """Return a link to a host whose key is known and which lets us in.

    Raises HostKeyError, Unauthorized, Gone, Offline, TransportTimeout, UsageError, DeviceError.
    """
    return _entered(_ssh_config.read(destination), None, 0)


def greeted(destination: str) -> tuple[Host, Link, list[Known]]:
    """Return a link that has shown its key, and the keys known for the host; nobody has logged in.

    The hosts on the way must be known. Raises Gone, Offline, TransportTimeout, UsageError, DeviceError.
    """
    host = _ssh_config.read(destination)
    return host, *_greeted(host, None, 0)


def _entered(host: Host, jumps: tuple[str, ...] | None, depth: int) -> Link:
    link, keys = _greeted(host, jumps, depth)
    try:
        _check_key(host, link.get_remote_server_key(), keys)
        authenticate(link, host, _name(host), time.monotonic() + _LOG_IN_S)
        link.keep()
    except BaseException:
        link.close()
        raise
    return link


def _greeted(host: Host, jumps: tuple[str, ...] | None, depth: int) -> tuple[Link, list[Known]]:
    name = _name(host)
    keys = known(host.known_as, (*host.known_hosts, own_file()))
    sock, at_end = _way(host, jumps, depth)
    deadline = time.monotonic() + host.connect_timeout_s
    link = Link(sock, name, at_end)
    link.banner_timeout = host.connect_timeout_s
    options = link.get_security_options()
    # A host with several keys shows one that is known, as long as it is asked for that one.
    options.key_types = _known_first(options.key_types, {key.algorithm for key in keys if not key.is_revoked})
    done = threading.Event()
    try:
        link.start_client(event=done)
        if not done.wait(max(0.0, deadline - time.monotonic())):
            raise TransportTimeout(f"{name} accepts a connection but says nothing: is it starting, or frozen?")
        if not link.is_active():
            raise _no_greeting(name, link.get_exception(), deadline)
        if host.revoked_keys:
            shown = link.get_remote_server_key()
            keys += revoked_in(host.revoked_keys, shown.get_name(), shown.asbytes())
    except BaseException:
        link.close()
        raise
    return link, keys


def _no_greeting(name: str, error: Exception | None, deadline: float) -> DeviceError:
    if isinstance(error, IncompatiblePeer):
        return DeviceError(f"{name}: its SSH server and melt have no algorithm in common: {error}")
    if time.monotonic() >= deadline:
        return TransportTimeout(f"{name} accepts a connection but says nothing: is it starting, or frozen?")
    return Offline(f"{name} closed the connection before it said who it is: is it starting, or does it refuse more?")


def _way(host: Host, jumps: tuple[str, ...] | None, depth: int) -> tuple[Any, Callable[[], None]]:
    """Return what carries bytes to the host, and what ends that."""
    if depth > _JUMPS:
        raise UsageError(f"ssh: the way to {host.destination} has more than {_JUMPS} hosts: does ProxyJump go round?")
    before = host.proxy_jumps if jumps is None else jumps
    if before:
        return _through(before, host, depth)
    if host.proxy_command:
        return _by_command(host)
    link = dial(host.hostname, host.port, host.connect_timeout_s, _name(host))
    return link, lambda: None


def _through(jumps: tuple[str, ...], host: Host, depth: int) -> tuple[Any, Callable[[], None]]:
    last = jumps[-1]
    # The first of several hosts is reached as its own configuration says.
    link = _entered(_ssh_config.read(last), jumps[:-1] or None, depth + 1)
    try:
        where = (host.hostname, host.port)
        return link.open_channel("direct-tcpip", where, ("127.0.0.1", 0), timeout=host.connect_timeout_s), link.close
    except BROKEN as error:
        link.close()
        reason = error.text if isinstance(error, ChannelException) else error
        raise Gone(
            f"{_name(host)}: {host.hostname} port {host.port} cannot be reached from {last}: {reason}"
        ) from error


def _by_command(host: Host) -> tuple[Any, Callable[[], None]]:
    assert host.proxy_command is not None
    ours, theirs = socket.socketpair()
    with theirs:
        # As OpenSSH does: the configuration holds a line for the user's own shell.
        words = (os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {host.proxy_command}")
        try:
            process = subprocess.Popen(
                words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            ours.close()
            raise Gone(f"{_name(host)}: its ProxyCommand cannot be started: {error.strerror}") from error

    def end() -> None:
        with suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(_END_S)
            return
        process.kill()
        process.wait()

    return ours, end


def _check_key(host: Host, shown: paramiko.PKey, keys: Iterable[Known]) -> None:
    """Return when this key is known for the host. Raises HostKeyError."""
    key, name = shown.asbytes(), _name(host)
    what = f"{shown.get_name()} key {fingerprint(key)}"
    others = []
    for each in keys:
        if each.key == key and each.is_revoked:
            raise HostKeyError(f"{name} shows the {what}, which {each.where} revokes: do not use this host")
    for each in keys:
        if each.key == key:
            return
        if each.is_exact and not each.is_revoked:
            others.append(each.where)
    if others:
        raise HostKeyError(
            f"{name} shows another key than before, the {what}; the old one stands in {', '.join(others)}: "
            f"if the host was set up anew, accept it with `melt devices trust {host.destination}`",
            changed=True,
        )
    raise HostKeyError(
        f"{name} is not known here and shows the {what}: compare it with the host's own, "
        f"then accept it with `melt devices trust {host.destination}`"
    )


def _known_first(all_types: Iterable[str], algorithms: set[str]) -> list[str]:
    """Order key types so that those come first of which a key is known."""
    return sorted(all_types, key=lambda kind: ("ssh-rsa" if kind.startswith("rsa-") else kind) not in algorithms)


def _name(host: Host) -> str:
    return f"ssh:{host.destination}"
