"""Files that survive a crash whole or not at all, and folders that are owned by one living process."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from melt.errors import StoreError

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]{0,199}")
_ADVICE = {
    errno.ENOSPC: "no room left on its disk; make room and try again",
    errno.EDQUOT: "your disk quota is used up; make room and try again",
    errno.EFBIG: "the file would grow beyond the limit set for this process; raise it (ulimit -f)",
    errno.EACCES: "permission denied; choose a folder you may write with --store",
    errno.EPERM: "permission denied; choose a folder you may write with --store",
    errno.EROFS: "it is on a read-only file system; choose another folder with --store",
    errno.ENOTDIR: "a file is in the way; choose another folder with --store",
    errno.EEXIST: "a file is in the way; choose another folder with --store",
}


def store_error(what: str, path: Path, error: OSError) -> StoreError:
    """Say in one sentence what could not be done to a path, and what to do."""
    advice = _ADVICE.get(error.errno or 0) or error.strerror or type(error).__name__
    return StoreError(f"cannot {what} {path}: {advice}")


def checked_name(name: str, what: str) -> str:
    """Return a name that is safe as a single path component. Raises StoreError."""
    if not _SAFE_NAME.fullmatch(name):
        raise StoreError(f"{what} {name!r} cannot name a file: use letters, digits and . _ - + = @")
    return name


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable: a rename is only safe once its folder is on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_contents(folder: Path) -> None:
    """Make a folder and the files in it durable, once all are written.

    The file system then has one transaction to finish for all of them, not one for each.
    """
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(folder)


def write_new(path: Path, data: bytes | memoryview) -> None:
    """Write and sync a file that nobody looks at yet; its folder is synced by the caller."""
    with path.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Put content under a name, whole or not at all, and durably. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_new(temporary, data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that appears whole or not at all: for what a user asked for. Raises StoreError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("wb") as out:
                yield out
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise store_error("write", path, error) from error


def lock_folder(path: Path) -> int | None:
    """Lock a folder for this process and return the descriptor that holds the lock.

    None: somebody else holds it, or the folder is gone. The kernel frees the lock when the owner dies, however it dies.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock the last owner may have removed or renamed the folder: then this lock guards nothing.
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def new_locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder with an unused hidden name and lock it. Returns the folder and the lock's descriptor."""
    while True:
        path = parent / f".{prefix}.{secrets.token_hex(6)}.tmp"
        path.mkdir()
        fd = lock_folder(path)
        if fd is not None:
            return path, fd


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder's lock, waiting for whoever has it; `waiting` is called once before that."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
