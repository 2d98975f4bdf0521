"""One melt at a time measures on a device: a second one would spoil both results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import platformdirs

from melt.errors import DeviceError, UsageError


@contextmanager
def lease(device_id: str, name: str) -> Iterator[None]:
    """Hold a device for this process; the lock goes away with the process, however it ends.

    By its id and not by its address: a phone on a cable and on Wi-Fi is one phone. Raises DeviceError naming the
    device and the holder when another melt on this machine has it.
    """
    folder = platformdirs.user_state_path("melt") / "leases"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {folder}: {error.strerror}; set XDG_STATE_HOME to a folder you may write"
        ) from error
    path = folder / f"{quote(device_id, safe='')}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DeviceError(
                f"another melt (process {holder}) is measuring on {name}: wait for it, or stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
