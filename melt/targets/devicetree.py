"""What the firmware wrote into the device tree of a board; PCs have none."""

from __future__ import annotations

from melt.targets.probe import Snapshot, text_of

_FOLDERS = ("/proc/device-tree", "/sys/firmware/devicetree/base")
"""The first is a link to the second, which some kernels leave out."""


def globs(*names: str) -> tuple[str, ...]:
    """Return where these properties lie."""
    return tuple(f"{folder}/{name}" for folder in _FOLDERS for name in names)


def tree_text(snapshot: Snapshot, name: str) -> str | None:
    """Return a property's text, several separated by zero bytes; None where there is none."""
    return next((text for path in globs(name) if (text := text_of(snapshot, path))), None)
