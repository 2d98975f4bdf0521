"""The folder that models are kept in: where it is, one writer at a time, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from melt.errors import ModelError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how far, and of how much (0: unknown)."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def models_root() -> Path:
    """Return the folder for fetched and quantized models: $MELT_MODELS, else the user's cache."""
    if chosen := os.environ.get("MELT_MODELS"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("melt", appauthor=False)) / "models"


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to make `target`; a second process waits here, then finds it made. Raises ModelError."""
    lock = target.with_name(f".{target.name}.lock")
    with explained(f"make {target.name} in", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with explained("lock", lock):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        # The file stays: unlinking it while a second process waits would let a third one in beside that one.
        os.close(fd)


@contextmanager
def partial(target: Path) -> Iterator[Path]:
    """Give a name to write to; afterwards it is synced and becomes `target`, or is removed when the block raised.

    To be used under `locked(target)`: what a killed process left under that name is overwritten.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        with explained("write", target):
            _sync(part)
            part.replace(target)
            _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def explained(what: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ModelError that says what could not be done, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise no_room(path) from error
        raise ModelError(f"cannot {what} {path}: {error.strerror or error}") from error


def no_room(path: Path, needed_bytes: int | None = None) -> ModelError:
    """Say that a disk is too full."""
    from melt.units import human

    need = "" if needed_bytes is None else f" for the {human(needed_bytes, 'bytes')} needed"
    return ModelError(
        f"no room left in {path if path.is_dir() else path.parent}{need}: make room, or set MELT_MODELS to a folder "
        "on another disk"
    )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
