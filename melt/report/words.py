"""Small words that several reports share."""

from __future__ import annotations

from collections.abc import Iterable


def counted(n: int, word: str) -> str:
    """Write a number and its word: `1 thread`, `2 threads`."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def joined(parts: Iterable[str | None]) -> str:
    """Put parts into one line, leaving out what is not known."""
    return ", ".join(part for part in parts if part)


def engine_name(engine: str, revision: str | None) -> str:
    """Name an engine with its revision, which may begin with the engine's own name."""
    return revision if revision and revision.startswith(engine) else " ".join(filter(None, (engine, revision)))
