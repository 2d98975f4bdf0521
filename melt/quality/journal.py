"""What an evaluation has found so far: a line for each chunk or item, so that one that was cut short can go on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melt.store.files import store_error

Entry = Mapping[str, Any]


class Journal:
    """The entries of one evaluation, numbered from 0 without a gap. Used by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier process left; a torn end is cut off. Raises StoreError."""
        self.path = path
        self.entries: list[Entry] = []
        with _explained(path):
            path.touch()
            self._file = path.open("r+b")
            whole_bytes = 0
            for line in self._file:
                entry = _entry(line, len(self.entries))
                if entry is None:
                    break
                self.entries.append(entry)
                whole_bytes += len(line)
            self._file.seek(whole_bytes)
            self._file.truncate()

    def add(self, entry: Entry) -> None:
        """Keep the next entry; it survives the death of this process when this returns. Raises StoreError."""
        with _explained(self.path):
            self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file; it stays."""
        # What a full disk did not take was told when it was added.
        with contextlib.suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """Remove the file: what was in it is kept elsewhere now."""
        self.path.unlink(missing_ok=True)


@contextmanager
def journals(paths: list[Path]) -> Iterator[list[Journal]]:
    """Open several journals at once."""
    opened: list[Journal] = []
    try:
        for path in paths:
            opened.append(Journal(path))
        yield opened
    finally:
        for journal in opened:
            journal.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error("write", path, error) from error


def _entry(line: bytes, index: int) -> Entry | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.get("index") == index else None
