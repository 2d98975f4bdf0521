"""Copy a file so that its name appears only once it is whole and on the disk."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from melt.errors import DeviceError, NoSpace
from melt.transports.base import Progress

_CHUNK_BYTES = 16 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CANNOT_SHARE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})
_NO_ROOM = ("No space left", "Quota exceeded", "quota exceeded")


def has_no_room(said: str) -> bool:
    """Whether a program's complaint means that the disk is full."""
    return any(words in said for words in _NO_ROOM)


@contextmanager
def arriving(target: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name beside its own, which it gets once it is whole. Raises DeviceError."""
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DeviceError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def copy_whole(source: Path, target: Path, mode: int, progress: Progress | None) -> None:
    """Copy through a temporary name beside the target, synced, then renamed; folders on the way are made.

    Blocks are shared with the source where the file system can (reflink). A target that already is the source, under
    whatever name or link, is left alone. Raises NoSpace, DeviceError.
    """
    try:
        size = source.stat().st_size if _is_same(source, target) else _replace(source, target, mode, progress)
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(f"no room for {target}: {error.strerror}; make room or choose another folder") from error
        raise DeviceError(f"cannot copy {source} to {target}: {error.strerror or error}") from error
    if progress is not None:
        progress(size, size)


def _is_same(source: Path, target: Path) -> bool:
    try:
        return target.samefile(source)
    except FileNotFoundError:
        return False


def _replace(source: Path, target: Path, mode: int, progress: Progress | None) -> int:
    with source.open("rb", buffering=0) as reader:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "the target is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{secrets.token_hex(8)}.part"
        writer = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                done = _copy_bytes(reader.fileno(), writer, progress)
                os.fchmod(writer, stat.S_IMODE(mode))
                os.fsync(writer)
            finally:
                os.close(writer)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return done


def _copy_bytes(reader: int, writer: int, progress: Progress | None) -> int:
    total = os.fstat(reader).st_size
    done = 0
    in_kernel = hasattr(os, "copy_file_range")
    while True:
        if in_kernel:
            try:
                count = os.copy_file_range(reader, writer, _CHUNK_BYTES)
            except OSError as error:
                if error.errno not in _CANNOT_SHARE:
                    raise
                count = 0
            # Files of /proc and /sys say 0 bytes here although they can be read: what is left is copied by hand.
            in_kernel = count > 0
            if not in_kernel:
                continue
        else:
            data = os.read(reader, _CHUNK_BYTES)
            count = len(data)
            if count == 0:
                return done
            view = memoryview(data)
            while view:
                view = view[os.write(writer, view) :]
        done += count
        if progress is not None:
            progress(done, max(done, total))
