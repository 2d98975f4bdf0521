"""Reading a device's files without the agent, for a look that leaves nothing on the device."""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from melt.transports.base import Transport

_MOST_BYTES = 65_536
"""As much of a file as the agent reads."""

_WITHIN_S = 20.0
_HEADER = re.compile(rb"(?:\A|\n)==> (/[^\n]*) <==\n")

# Unquoted, so that the shell expands the patterns, which come as arguments. The last one makes two files of one, for
# `head` names them only where there are several.
_SCRIPT = f"exec head -c {_MOST_BYTES} -- $@ /dev/null 2>/dev/null"


class OwnFiles:
    """Reads files of this machine as the agent would."""

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return the files that match and can be read."""
        contents = {}
        for path in {path for pattern in globs for path in glob.glob(pattern)}:  # noqa: PTH207 (the patterns are absolute)
            with contextlib.suppress(OSError):
                contents[path] = Path(path).read_bytes()
        return contents


class ShellFiles:
    """Reads files of a board or a Mac in one round trip, by a shell and the `head` that every such system has."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return the files that match and can be read. Raises TransportError."""
        if not globs:
            return {}
        done = self._transport.run(("sh", "-c", _SCRIPT, "sh", *globs), timeout_s=_WITHIN_S)
        return parse_head(done.stdout)


class NoFiles:
    """Reads nothing: a phone's services say enough for a look."""

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return nothing."""
        return {}


def parse_head(printed: bytes) -> dict[str, bytes]:
    """Return path -> content out of what `head` prints of several files; it sets a header before each."""
    # An empty line that is not the file's own stands before every header but the first: the pattern takes it.
    _, *parts = _HEADER.split(printed)
    found = {path.decode(errors="surrogateescape"): data for path, data in zip(parts[::2], parts[1::2], strict=True)}
    found.pop("/dev/null", None)
    return found
