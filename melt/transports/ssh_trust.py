"""Accept the key of an SSH host: show what it offers, keep what a person accepted. Nothing is trusted by itself.

paramiko is imported only where a host is asked: to list what is trusted must stay quick.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from melt.transports._ssh_known_hosts import comments, fingerprint, own_file, put, take


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """The key that a host shows. `fingerprint` is to be compared with what the host says of itself.

    `known` when melt would go on with it; `changed` when other keys are known for the host, those with the fingerprints
    `before`, at `stands_at` (`file:line`); `revoked` when a file says that it must not be used.
    """

    destination: str
    host: str
    port: int
    algorithm: str
    fingerprint: str
    known: bool
    changed: bool
    key: str
    known_as: str
    stands_at: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    revoked: bool = False


def offered(destination: str) -> OfferedKey:
    """Ask a host for its key, without logging in. Raises Gone, Offline, TransportTimeout, UsageError, DeviceError."""
    from melt.transports._ssh_connect import greeted

    host, link, keys = greeted(destination)
    try:
        shown = link.get_remote_server_key()
    finally:
        link.close()
    key = shown.asbytes()
    is_revoked = any(each.is_revoked and each.key == key for each in keys)
    is_known = not is_revoked and any(each.key == key for each in keys)
    others = () if is_known else tuple(each for each in keys if each.is_exact and not each.is_revoked)
    return OfferedKey(
        destination=destination,
        host=host.hostname,
        port=host.port,
        algorithm=shown.get_name(),
        fingerprint=fingerprint(key),
        known=is_known,
        changed=bool(others),
        key=base64.b64encode(key).decode(),
        known_as=host.known_as[0],
        stands_at=tuple(each.where for each in others),
        before=tuple(fingerprint(each.key) for each in others),
        revoked=is_revoked,
    )


def trust(key: OfferedKey) -> None:
    """Keep a key as the one of its host, in melt's own file of known hosts. Raises DeviceError."""
    put(own_file(), f"{key.known_as} {key.algorithm} {key.key} {key.destination}")


def left_after(key: OfferedKey) -> tuple[str, ...]:
    """Return where keys of before stand that `trust` leaves alone, for those files are OpenSSH's."""
    return tuple(where for where in key.stands_at if where.rpartition(":")[0] != str(own_file()))


def trusted() -> list[str]:
    """Return the destinations whose keys were accepted, as they were written then. Raises DeviceError."""
    return comments(own_file())


def forget(destination: str) -> bool:
    """Take an accepted key back; False where there was none for this destination. Raises DeviceError."""
    return take(own_file(), destination)
