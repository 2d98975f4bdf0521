"""Try again while a device is out of reach: cables are pulled and phones start anew in the middle of a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from melt.errors import TransportError

T = TypeVar("T")

BOOT_S = 300.0
"""How long a device is waited for: a phone boots in two minutes, a slow one in four."""
_PAUSE_S = 0.5


def patiently(
    action: Callable[[], T], *, stop: Event, say: Callable[[str], None] = lambda _: None, within_s: float = BOOT_S
) -> T:
    """Do what may be done twice, again and again while the link is broken; return what it returns.

    Raises the last TransportError after `within_s`, or when `stop` is set, and at once one that will not pass by
    itself.
    """
    deadline = time.monotonic() + within_s
    told = False
    while True:
        try:
            return action()
        except TransportError as error:
            if not error.retryable or time.monotonic() > deadline or stop.wait(_PAUSE_S):
                raise
            if not told:
                say(f"the device is out of reach; waiting up to {within_s / 60:.0f} min ({error})")
            told = True
