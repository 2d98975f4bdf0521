"""One melt at a time measures on a device: a second one would spoil both results."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from melt._layout import state_dir
from melt.errors import DeviceError


@contextmanager
def lease(device_id: str, name: str) -> Iterator[None]:
    """Hold a device for this process; the lock goes away with the process, however it ends.

    By its id and not by its address: a phone on a cable and on Wi-Fi is one phone, a board under its name and its IP
    address one board. Raises DeviceError naming the device and the holder when another melt on this machine has it, or
    this one by another address.
    """
    path = state_dir("leases") / f"{quote(device_id, safe='')}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            if holder == str(os.getpid()):
                raise DeviceError(f"{name} was named twice, by two addresses: leave one of them out") from None
            raise DeviceError(
                f"another melt (process {holder}) is measuring on {name}: wait for it, or stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
