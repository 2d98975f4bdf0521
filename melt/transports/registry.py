"""From what a user writes after --device to a transport."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from melt.errors import UsageError
from melt.transports.base import Transport


def _local(address: str) -> Transport:
    from melt.transports.local import LocalTransport

    if address:
        raise UsageError(f"--device local takes no address, found {address!r}: write `local`")
    return LocalTransport()


_KINDS: dict[str, Callable[[str], Transport]] = {"local": _local}
"""Kind -> opener, given what follows the colon. A transport's libraries are imported only when it is opened."""


def open_transport(selector: str) -> Transport:
    """Open the way to a device: `local`. Raises UsageError with the nearest known kind."""
    kind, _, address = selector.partition(":")
    opener = _KINDS.get(kind)
    if opener is None:
        near = difflib.get_close_matches(kind, _KINDS, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(sorted(_KINDS))}"
        raise UsageError(f"unknown device {selector!r}: {hint}")
    return opener(address)
