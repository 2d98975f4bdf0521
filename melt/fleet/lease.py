"""One melt at a time measures on a device: a second one would spoil both results."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from melt._layout import state_dir
from melt.errors import DeviceError
from melt.store.files import store_error


@dataclass(frozen=True, slots=True)
class Holder:
    """What a device's lease says: the process that has it, or had it last, and the job it began there last.

    `epoch` counts the holders. A job that was begun may have ended long ago: its device knows.
    """

    epoch: int = 0
    pid: int | None = None
    job_dir: str | None = None


class Lease:
    """A device held by this process. `before` is who held it last."""

    def __init__(self, path: Path, file: int, name: str) -> None:
        self._path = path
        self._file = file
        self._name = name
        self.before = _read(path)
        self._write(replace(self.before, epoch=self.before.epoch + 1, pid=os.getpid()))

    @property
    def epoch(self) -> int:
        """How many have held the device, this one included."""
        return self._holder.epoch

    def begin(self, job_dir: str) -> None:
        """Note a job before it is started, for who takes the device over when this process dies.

        Raises DeviceError where the lease is not ours any more: its file was removed, and another melt may be there by
        now. Raises StoreError where it cannot be written.
        """
        if _read(self._path) != self._holder:
            raise DeviceError(
                f"the lease of {self._name} is lost, {self._path} was changed: another melt may measure there"
            )
        self._write(replace(self._holder, job_dir=job_dir))

    def _write(self, holder: Holder) -> None:
        """Write in one go: whoever is killed here leaves the old line or the new one; only the first line counts."""
        self._holder = holder
        line = (json.dumps(asdict(holder)) + "\n").encode()
        try:
            os.pwrite(self._file, line, 0)
            os.ftruncate(self._file, len(line))
        except OSError as error:
            raise store_error("write", self._path, error) from error


@contextmanager
def lease(device_id: str, name: str) -> Iterator[Lease]:
    """Hold a device for this process; the lock goes away with the process, however it ends.

    By its id and not by its address: a phone on a cable and on Wi-Fi is one phone, a board under its name and its IP
    address one board. Raises DeviceError naming the device and the holder when another melt on this machine has it, or
    this one by another address; StoreError where there is no room for the lease.
    """
    path = state_dir("leases") / f"{quote(device_id, safe='')}.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_error("open", path, error) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(path).pid
            if holder == os.getpid():
                raise DeviceError(f"{name} was named twice, by two addresses: leave one of them out") from None
            raise DeviceError(
                f"another melt (process {holder or 'unknown'}) is measuring on {name}: wait for it, or stop it first"
            ) from None
        yield Lease(path, file, name)
    finally:
        os.close(file)


def _read(path: Path) -> Holder:
    try:
        return Holder(**json.loads(path.read_bytes().partition(b"\n")[0]))
    except (OSError, ValueError, TypeError):
        return Holder()
