"""From what a user writes after --device to a transport.

Other packages add transports by entry points of the group `melt.transports`: a function or class that is called with
the ADDRESS of `NAME:ADDRESS` and gives a Transport.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from melt import plugins
from melt.errors import DeviceError, TransportError, UsageError
from melt.transports.base import Transport


def _local(address: str) -> Transport:
    from melt.transports.local import LocalTransport

    if address:
        raise UsageError(f"--device local takes no address, found {address!r}: write `local`")
    return LocalTransport()


def _adb(address: str) -> Transport:
    from melt.transports.adb import AdbTransport

    serial, _, server = address.rpartition("@") if "@" in address else (address, "", "")
    return AdbTransport(serial, server)


def _ssh(address: str) -> Transport:
    from melt.transports.ssh import SshTransport

    return SshTransport(address)


_KINDS: dict[str, Callable[[str], Transport]] = {"adb": _adb, "local": _local, "ssh": _ssh}
"""Kind -> opener, given what follows the colon. A transport's libraries are imported only when it is opened."""
_WIFI_PHONE = re.compile(r"(\d{1,3}\.){3}\d{1,3}:\d{1,5}\Z")


def reserved() -> frozenset[str]:
    """Return the names that no plug-in can have."""
    return frozenset(_KINDS)


def resolve(selector: str) -> str:
    """Return the canonical selector for what a user wrote: `ssh:ALIAS` for an alias of ~/.ssh/config, `adb:SERIAL`
    for the bare serial of a phone.

    An alias comes before a serial: what a word means must not depend on what is plugged in. Only for a word of no known
    kind a running adb server is asked. Raises UsageError with the nearest known kind, the aliases, and the serials that
    are connected.
    """
    kind, colon, _ = selector.partition(":")
    if kind in _KINDS:
        return selector
    # Only with a colon: whom a bare word means must not depend on what else is installed.
    if colon and plugins.find(plugins.TRANSPORTS, kind) is not None:
        return selector
    if _WIFI_PHONE.match(selector):
        return f"adb:{selector}"
    hosts = _ssh_aliases() if selector else []
    if selector in hosts:
        return f"ssh:{selector}"
    serials = _connected_phones() if selector else []
    if selector in serials:
        return f"adb:{selector}"
    kinds = sorted({*_KINDS, *(plugin.name for plugin in plugins.plugins(plugins.TRANSPORTS))})
    near = difflib.get_close_matches(kind, (*kinds, *hosts), n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(kinds)}"
    phones = f"; connected phones: {', '.join(serials)}" if serials else ""
    aliases = f"; SSH hosts: {', '.join(hosts)}" if hosts else ""
    raise UsageError(f"unknown device {selector!r}: {hint}{phones}{aliases}")


def open_transport(selector: str) -> Transport:
    """Open the way to a device: `local`, `adb:SERIAL`, `ssh:DESTINATION`, a bare alias or serial. Raises UsageError."""
    kind, _, address = resolve(selector).partition(":")
    plugin = None if kind in _KINDS else plugins.find(plugins.TRANSPORTS, kind)
    if plugin is not None:
        added: Transport = plugin.make(Transport, DeviceError, address, again=("open",))
        return added
    return _KINDS[kind](address)


def names_behind(selector: str) -> dict[str, str]:
    """Return what errors may call the hosts on the way to a device: name -> `user` or `address`.

    Raises UsageError, DeviceError where OpenSSH does not tell.
    """
    kind, _, address = selector.partition(":")
    if kind != "ssh":
        return {}
    from melt.transports._ssh_config import read

    host = read(address)
    names: dict[str, str] = {}
    for one in (host, *map(read, host.proxy_jumps)):
        names |= {one.destination: "address", one.hostname: "address", one.user: "user"}
    return names


def _ssh_aliases() -> list[str]:
    from melt.transports._ssh_config import aliases

    return aliases()


def _connected_phones() -> list[str]:
    from melt.transports.adb import connected

    try:
        return [phone.serial for phone in connected(start=False)]
    except TransportError:
        return []
