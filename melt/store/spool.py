"""The folder of a live run: what was collected so far, held by the process that collects it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType

from melt.errors import StoreError
from melt.store.files import checked_name, lock_folder, new_locked_folder, replace_durably, store_error, sync_folder

JOURNAL = "journal"


class Spool:
    """A run's folder, locked as long as this object is open. Leaving it open-ended keeps the folder for recovery."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock: int | None = lock

    @classmethod
    def create(cls, parent: Path, run_id: str) -> Spool:
        """Make and lock the folder of a new run. Raises StoreError, also when the run has a folder already."""
        path = parent / checked_name(run_id, "run")
        try:
            # Locked under a hidden name first: no recovery ever sees a folder of a living run without its lock.
            hidden, lock = new_locked_folder(parent, run_id)
            try:
                hidden.rename(path)
                sync_folder(parent)
            except OSError:
                os.close(lock)
                shutil.rmtree(hidden, ignore_errors=True)
                raise
        except OSError as error:
            if path.is_dir():
                raise StoreError(f"run {run_id} is in the spool already ({path}): `melt resume` finishes it") from error
            raise store_error("make", path, error) from error
        return cls(path, lock)

    @classmethod
    def take(cls, path: Path) -> Spool | None:
        """Lock an existing folder; None when its owner lives or it is gone."""
        lock = lock_folder(path)
        return None if lock is None else cls(path, lock)

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path

    @property
    def run_id(self) -> str:
        """The run that it belongs to."""
        return self._path.name

    @property
    def journal_path(self) -> Path:
        """Where the journal is collected to; absent until the first bytes arrive."""
        return self._path / JOURNAL

    def write_document(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, durably. Raises StoreError."""
        path = self._path / checked_name(name, "document")
        try:
            replace_durably(path, data)
        except OSError as error:
            raise store_error("write", path, error) from error

    def read_document(self, name: str) -> bytes | None:
        """Return a file's content, None when it is not there. Raises StoreError."""
        path = self._path / checked_name(name, "document")
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error("read", path, error) from error

    def discard(self) -> None:
        """Remove the folder and give up the lock: the run is published, or there is nothing in it to keep."""
        try:
            # Hidden first: a removal that is cut short must not look like a run that wants recovery.
            hidden = self._path.with_name(f".{self._path.name}.{os.getpid()}.discarded.tmp")
            self._path.rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error("remove", self._path, error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Give up the lock and leave the folder where it is, for recovery."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def leftovers(parent: Path) -> list[Spool]:
    """Take every folder whose owner is dead, locked; oldest first. What another process holds is left alone."""
    try:
        folders = sorted(p for p in parent.iterdir() if not p.name.startswith(".") and p.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error("read", parent, error) from error
    return [spool for spool in map(Spool.take, folders) if spool is not None]
