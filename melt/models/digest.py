"""The sha256 of a model file, computed once and remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from melt.models.files import explained, models_root

_CACHE_NAME = "sha256.json"
_SETTLED_NS = 2_000_000_000
"""A file changed this recently may change again without a new timestamp: file systems' clocks tick coarsely."""


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex, remembered while size, times and inode stay. Raises ModelError."""
    known = cached_sha256(path)
    if known is not None:
        return known
    with explained("read", path), path.open("rb") as file:
        before = _identity(os.fstat(file.fileno()))
        found = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _identity(after) == before and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _SETTLED_NS:
        _remember(path, before, found)
    return found


def cached_sha256(path: Path) -> str | None:
    """Return the remembered sha256 of a file, None when it was never hashed or has changed."""
    try:
        entry = _load().get(str(path.resolve()))
        if isinstance(entry, list) and entry[:-1] == _identity(path.stat()):
            return str(entry[-1])
    except OSError:
        pass
    return None


def _identity(found: os.stat_result) -> list[int]:
    # The change time also sees a file put back with its old modification time, as rsync -t and tar do.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _load() -> dict[str, object]:
    try:
        entries = json.loads((models_root() / _CACHE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _remember(path: Path, identity: list[int], sha256: str) -> None:
    """Add an entry. Two writers at once may lose one, and a full disk all: then the file is hashed once more."""
    entries = {name: entry for name, entry in _load().items() if Path(name).exists()}
    entries[str(path.resolve())] = [*identity, sha256]
    cache = models_root() / _CACHE_NAME
    temporary = cache.with_name(f".{cache.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(entries, indent=1))
            temporary.replace(cache)
        finally:
            temporary.unlink(missing_ok=True)
