"""Where things lie on the host: agents/ and devices/ beside the package or inside it, melt's own state in the home."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from melt.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent


def is_checkout() -> bool:
    """Whether this melt runs from a source tree and not from an installed wheel."""
    return (_PACKAGE.parent / "agents" / "PROTOCOL.md").is_file() and not (_PACKAGE / "_agents").is_dir()


def checkout_root() -> Path | None:
    """Return the source tree's root, None when installed."""
    return _PACKAGE.parent if is_checkout() else None


def agents_dir() -> Path:
    """Return the folder with the agent's binaries, its protocol and the runners."""
    return _PACKAGE.parent / "agents" if is_checkout() else _PACKAGE / "_agents"


def devices_dir() -> Path:
    """Return the folder with the device profiles."""
    return _PACKAGE.parent / "devices" if is_checkout() else _PACKAGE / "_devices"


def state_dir(name: str) -> Path:
    """Return a folder of melt's own state of this user, made where it is not there. Raises UsageError."""
    folder = platformdirs.user_state_path("melt") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {folder}: {error.strerror}; set XDG_STATE_HOME to a folder you may write"
        ) from error
    return folder
