"""What happens on a phone, one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from typing import Protocol


class Note(Protocol):
    """Says that something happened."""

    def __call__(self, event: str, **fields: object) -> None:
        """Write one event."""
        ...


def noting_to(fd: int) -> Note:
    """Return a `Note` that writes lines to a descriptor; `t_s` is the wall clock, which all phones share."""

    def note(event: str, **fields: object) -> None:
        line = json.dumps({"t_s": round(time.time(), 4), "event": event, **fields}) + "\n"
        os.write(fd, line.encode("utf-8", "surrogateescape"))

    return note
