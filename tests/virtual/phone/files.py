"""File work of the sync service, as the daemon does it."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

_STAT_V2 = struct.Struct("<IQQIIIIQqqq")
_KNOWN_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EFAULT,
        errno.EFBIG,
        errno.EINTR,
        errno.EINVAL,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.EMFILE,
        errno.ENAMETOOLONG,
        errno.ENFILE,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EOVERFLOW,
        errno.EPERM,
        errno.EROFS,
        errno.ETXTBSY,
    }
)
"""Errors that have a number on the wire; the wire's are those of Linux."""


def stat_v2(look: Callable[[str], os.stat_result], path: str) -> bytes:
    """Return the body of a version 2 answer: error number, then the fields of `struct stat`."""
    try:
        found = look(path)
    except OSError as error:
        code = error.errno if error.errno in _KNOWN_ERRNOS else errno.EIO
        return struct.pack("<I", code) + bytes(_STAT_V2.size - 4)
    return _STAT_V2.pack(
        0,
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        int(found.st_atime),
        int(found.st_mtime),
        int(found.st_ctime),
    )


def make_parents(path: str) -> None:
    """Make the folders above a path. Raises OSError."""
    parent = os.path.dirname(path)  # noqa: PTH120 - the text as the host sent it
    if parent not in ("", "/") and not os.path.lexists(parent):
        make_parents(parent)
        os.mkdir(parent, 0o775)  # noqa: PTH102


def write_all(fd: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
