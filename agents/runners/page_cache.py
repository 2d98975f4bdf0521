"""The share of a file that lies in the page cache, and how to bring it in or out before a model is loaded.

Runs on the device's own Python, 3.8 and later, standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

_CHUNK_BYTES = 4 << 20


def prepare(path, asked):
    """Make the cache `cold` or `warm` for a file and say what became of it, as the load event's `page_cache`.

    `resident_before` is null where the kernel does not tell. Cold is a request: pages that another process has
    mapped stay; hence the measured share and not the wish is what counts.
    """
    with open(path, "rb", buffering=0) as file:
        if asked == "cold":
            _drop(file)
        elif resident_share(file) != 1.0:
            _read_through(file)
        return {"asked": asked, "resident_before": resident_share(file)}


def resident_share(file):
    """Return the share (0..1) of an open file's pages that are in memory, None if it cannot be known."""
    status = os.fstat(file.fileno())
    # Since Linux 5.2 mincore(2) calls every page resident to a process that neither owns nor may write the file.
    if status.st_size == 0 or os.geteuid() not in (0, status.st_uid):
        return None
    resident = (ctypes.c_ubyte * -(-status.st_size // mmap.PAGESIZE))()
    try:
        with mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_COPY) as mapped:
            first = ctypes.c_ubyte.from_buffer(mapped)
            failed = _mincore()(ctypes.addressof(first), status.st_size, resident)
            # The map cannot be closed while a ctypes object looks into it.
            del first
    except (OSError, ValueError, AttributeError):
        return None
    return None if failed else sum(page & 1 for page in resident) / len(resident)


def _mincore():
    function = ctypes.CDLL(None, use_errno=True).mincore
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return function


def _drop(file):
    if not hasattr(os, "posix_fadvise"):
        print("the page cache cannot be dropped here: only root can, with `sudo purge` on macOS", file=sys.stderr)
        return
    try:
        # Dirty pages are never dropped: a model that was just pushed must reach the disk first.
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        print("the page cache cannot be dropped here: %s" % error, file=sys.stderr)


def _read_through(file):
    buffer = bytearray(_CHUNK_BYTES)
    while file.readinto(buffer):
        pass
