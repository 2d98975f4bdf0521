"""What may be given to a program, whichever way it is reached."""

from __future__ import annotations

from collections.abc import Sequence

from melt.errors import UsageError


def checked(argv: Sequence[str], transport: str) -> tuple[str, ...]:
    """Return the words of a command. Raises UsageError for what no program can be given."""
    if not argv:
        raise UsageError(f"{transport}: a command needs at least the name of a program")
    if any("\0" in word for word in argv):
        raise UsageError(f"{transport}: an argument of {argv[0]!r} holds a zero byte, which no program can be given")
    return tuple(argv)
