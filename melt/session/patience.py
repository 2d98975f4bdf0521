"""Try again while a device is out of reach: cables are pulled and phones start anew in the middle of a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from melt.errors import TransportError
from melt.events import Observer, OutOfReach

T = TypeVar("T")

BOOT_S = 300.0
"""How long a device is waited for: a phone boots in two minutes, a slow one in four."""
_PAUSE_S = 0.5


def watched(observe: Observer, device: str) -> Callable[[float], None]:
    """Return what tells an observer that a device is out of reach, and for how long it is waited for."""
    return lambda left_s: observe(OutOfReach(device, left_s))


def patiently(
    action: Callable[[], T],
    *,
    stop: Event,
    say: Callable[[str], None] = lambda _: None,
    out_of_reach: Callable[[float], None] = lambda _: None,
    within_s: float = BOOT_S,
) -> T:
    """Do what may be done twice, again and again while the link is broken; return what it returns.

    `out_of_reach` is told, as long as it is broken, for how many seconds more it is waited for at most. Raises the last
    TransportError after `within_s`, or when `stop` is set, and at once one that will not pass by itself.
    """
    deadline = time.monotonic() + within_s
    told = False
    while True:
        try:
            return action()
        except TransportError as error:
            if not error.retryable or time.monotonic() > deadline or stop.wait(_PAUSE_S):
                raise
            out_of_reach(max(0.0, deadline - time.monotonic()))
            if not told:
                say(f"the device is out of reach; waiting up to {within_s / 60:.0f} min ({error})")
            told = True
