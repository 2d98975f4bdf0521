"""Files that stay on a device, by content: sent once, resumed where a link broke, the oldest given up for new ones."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from melt.errors import AgentError, DeviceError, NoSpace, TransportError
from melt.targets.agent import AgentClient, Stored
from melt.transports.base import Progress, Transport
from melt.units import human

BLOBS = "blobs"
"""The folder of the store, below melt's own."""
_SPARE_BYTES = 32 << 20
"""What a device keeps for journals, and for whatever else runs there."""
_GIVE_UP_S = 60.0
"""A link that brought nothing further for so long is given up."""
_PAUSE_S = 0.25
_PART = ".part"
_EXECUTABLE = 'for f; do [ -x "$f" ] || chmod 755 "$f" || exit; done'


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of the store: one blob, or several that must lie beside each other."""

    path: str
    size: int
    used_s: int


class Blobs:
    """The blobs on one device, below `root`. What one instance ensured is never evicted by it."""

    def __init__(self, transport: Transport, agent: AgentClient, root: str) -> None:
        self._transport = transport
        self._agent = agent
        self._store = f"{root.rstrip('/')}/{BLOBS}"
        self._kept: set[str] = set()

    def ensure(self, local: Path, sha256: str, name: str | None = None, progress: Progress | None = None) -> str:
        """Make a file present on the device and return its path there; one that is there is not even read again.

        Raises NoSpace with what is needed and what is free, DeviceError, TransportError.
        """
        folder = f"{self._store}/{sha256[:16]}"
        remote = f"{folder}/{name or local.name}"
        self._ensure(folder, {remote: (local, sha256)}, progress)
        return remote

    def ensure_together(self, files: Mapping[Path, str], progress: Progress | None = None) -> str:
        """Make files (with their sha256) present beside each other and return their folder; what was executable is.

        Raises as `ensure` does.
        """
        listing = "".join(f"{sha256} {path.name}\n" for path, sha256 in sorted(files.items()))
        folder = f"{self._store}/{hashlib.sha256(listing.encode()).hexdigest()[:16]}"
        wanted = {f"{folder}/{path.name}": (path, sha256) for path, sha256 in files.items()}
        self._ensure(folder, wanted, progress)
        return folder

    def evict(self, bytes_needed: int) -> int:
        """Remove blobs, the longest unused first, until so many bytes are free; return how many were given up.

        Nothing is removed where even all of them would not be enough.
        """
        return self._evict(self._agent.stored(self._store), bytes_needed)

    def clear(self) -> int:
        """Remove every blob but those that this instance ensured; return how many bytes were given up."""
        return sum(self._remove(folder) for folder in self._folders(self._agent.stored(self._store)))

    def _ensure(self, folder: str, wanted: Mapping[str, tuple[Path, str]], progress: Progress | None) -> None:
        self._kept.add(folder)
        known = self._agent.hash(tuple(wanted), known=True)
        for remote, (local, sha256) in wanted.items():
            if known.get(remote) != sha256:
                self._send(local, remote, sha256, progress)
        programs = [remote for remote, (local, _) in wanted.items() if local.stat().st_mode & 0o100]
        if programs:
            self._do("sh", "-c", _EXECUTABLE, "sh", *programs)

    def _send(self, local: Path, remote: str, sha256: str, progress: Progress | None) -> None:
        """Send a file, going on from its part after each break of the link, until nothing moves any more."""
        size = local.stat().st_size
        best = 0
        deadline = time.monotonic() + _GIVE_UP_S
        damaged: AgentError | None = None

        def moved(done: int, total: int) -> None:
            nonlocal best, deadline
            if done > best:
                best, deadline = done, time.monotonic() + _GIVE_UP_S
            if progress is not None:
                progress(done, total)

        while True:
            try:
                stored = self._agent.stored(self._store)
                there = {file.path: file.size for file in stored.files}.get(remote + _PART, 0)
                offset = there if there <= size else 0
                self._make_room(stored, local, size - offset)
                self._agent.receive(local, remote, sha256, offset=offset, progress=moved)
            except NoSpace:
                # Somebody else took the room meanwhile: say what is needed and what is left.
                self._make_room(self._agent.stored(self._store), local, size)
                raise
            except AgentError as error:
                # A part that a crash of the device damaged has another hash and is gone now: once more, from the start.
                if damaged is not None:
                    raise
                damaged = error
            except TransportError as error:
                if not error.retryable or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_S)  # between two looks at a link that is not there
            else:
                return

    def _make_room(self, stored: Stored, local: Path, bytes_needed: int) -> None:
        needed = bytes_needed + _SPARE_BYTES
        if stored.free_bytes >= needed:
            return
        given = self._evict(stored, needed)
        if stored.free_bytes + given < needed:
            old = sum(folder.size for folder in self._folders(stored))
            raise NoSpace(
                f"{self._transport.name}: {local.name} needs {human(needed, 'bytes')}, "
                f"{human(stored.free_bytes, 'bytes')} is free of {human(stored.total_bytes, 'bytes')}"
                + (f", and {human(old, 'bytes')} could be given up" if old else "")
                + ": remove something from the device, or choose a smaller model"
            )

    def _evict(self, stored: Stored, bytes_needed: int) -> int:
        folders = sorted(self._folders(stored), key=lambda folder: folder.used_s, reverse=True)
        if stored.free_bytes + sum(folder.size for folder in folders) < bytes_needed:
            return 0
        given = 0
        for folder in folders:
            if stored.free_bytes + given >= bytes_needed:
                break
            given += self._remove(folder)
        return given

    def _remove(self, folder: _Folder) -> int:
        self._do("rm", "-rf", "--", folder.path)
        return folder.size

    def _do(self, *words: str) -> None:
        done = self._transport.run(words)
        if done.exit_code:
            said = done.stderr.decode(errors="replace").strip()
            raise DeviceError(f"{self._transport.name}: {words[0]} {words[-1]}: {said or done.exit_code}")

    def _folders(self, stored: Stored) -> list[_Folder]:
        """Return what may be removed."""
        found = defaultdict(list)
        for file in stored.files:
            found[file.path.rpartition("/")[0]].append(file)
        return [
            _Folder(path, sum(file.size for file in files), min(file.used_s for file in files))
            for path, files in found.items()
            if path not in self._kept
        ]
