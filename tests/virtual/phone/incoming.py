"""A file on its way from the host: created, filled, given its time; or taken away again."""

from __future__ import annotations

import os
import stat

from .files import make_parents, write_all


class Incoming:
    """One pushed file or link. Methods return the reason of a failure, said once, or None."""

    def __init__(self, path: str, mode: int, *, dry_run: bool) -> None:
        self.failed = False
        self._path = path
        self._is_link = stat.S_ISLNK(mode)
        self._dry_run = dry_run
        self._target = b""
        self._fd: int | None = None
        self._replaces = False
        owner = mode & 0o777
        group = owner | ((owner >> 3) & 0o070)
        self._permissions = group | ((group >> 3) & 0o007)

    def open(self) -> str | None:
        """Make room for the file: an old one or a link is removed, a device or pipe is written into."""
        if self._dry_run:
            return None
        try:
            there = os.path.lexists(self._path)
            self._replaces = not there or stat.S_ISREG(os.lstat(self._path).st_mode) or os.path.islink(self._path)  # noqa: PTH114
            if there and self._replaces:
                os.unlink(self._path)  # noqa: PTH108
        except OSError as error:
            return self._fail("couldn't create file", error)
        try:
            make_parents(self._path)
        except OSError as error:
            return self._fail("secure_mkdirs failed", error)
        if self._is_link:
            return None
        try:
            flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if self._replaces else 0)
            self._fd = os.open(self._path, flags, self._permissions)
            os.fchmod(self._fd, self._permissions)
        except OSError as error:
            return self._fail("couldn't create file", error)
        return None

    def write(self, data: bytes) -> str | None:
        """Take a piece; after a failure pieces are thrown away."""
        if self.failed or self._dry_run:
            return None
        if self._is_link:
            self._target += data
        elif self._fd is not None:
            try:
                write_all(self._fd, data)
            except OSError as error:
                return self._fail("write failed", error)
        return None

    def finish(self, modified_s: int) -> str | None:
        """Close it and set its time; a file that failed is removed."""
        reason = None
        if self._is_link and not self.failed and not self._dry_run:
            try:
                os.symlink(self._target.rstrip(b"\0"), os.fsencode(self._path))  # noqa: PTH211 - any bytes
            except OSError as error:
                reason = self._fail("symlink failed", error)
        if self.failed:
            self.discard()
        elif not self._dry_run:
            self._close()
            os.utime(self._path, (modified_s, modified_s), follow_symlinks=False)
        return reason

    def discard(self) -> None:
        """Remove what was written so far."""
        created = self._fd is not None
        self._close()
        if created and self._replaces and os.path.lexists(self._path):
            os.unlink(self._path)  # noqa: PTH108

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _fail(self, what: str, error: OSError) -> str:
        self.failed = True
        return f"{what}: {error.strerror}"
