"""One melt at a time measures on this machine: a second one would spoil both results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import platformdirs

from melt.errors import DeviceError


@contextmanager
def lease(device: str = "local") -> Iterator[None]:
    """Hold a device for this process; the lock goes away with the process, however it ends.

    Raises DeviceError naming the holder when another melt has it.
    """
    path = platformdirs.user_state_path("melt", ensure_exists=True) / f"{device}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DeviceError(
                f"another melt (process {holder}) is measuring on {device}: wait for it, or stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
