"""Whether a call touches files, programs or networks, told by the interpreter's own audit events."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

_TOUCH = ("open", "os.", "shutil.", "socket.", "subprocess.", "urllib.", "ctypes.dlopen", "glob.", "tempfile.")
"""What the names of events begin with that reach out of the process."""

Answer = TypeVar("Answer")
_watch = threading.local()


def touched(act: Callable[[], Answer]) -> tuple[Answer, list[str]]:
    """Call `act` twice, for the first time may import what it needs; return its answer and what it touched then."""
    act()
    _install()
    seen: list[str] = []
    _watch.seen = seen
    try:
        answer = act()
    finally:
        _watch.seen = None
    return answer, seen


@cache
def _install() -> None:
    """Begin to listen. An audit hook cannot be taken away again: it is idle while nobody watches."""

    def heard(event: str, details: tuple[object, ...]) -> None:
        seen = getattr(_watch, "seen", None)
        if seen is not None and event.startswith(_TOUCH):
            seen.append(f"{event} {details[0]!r}" if details else event)

    sys.addaudithook(heard)
