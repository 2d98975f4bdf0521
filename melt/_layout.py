"""Where agents/ and devices/ lie: beside the package in a checkout, inside it when installed from a wheel."""

from __future__ import annotations

from pathlib import Path

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
