"""Where phones keep what they need on the machine that plays them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return a folder of this user alone, below the system's temporary folder."""
    folder = Path(tempfile.gettempdir()) / f"melt-virtual-phone-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to someone else")
    return folder


def run_folder(port: int) -> Path:
    """Return the folder of the phone that listens on a port."""
    return cache_folder() / "run" / str(port)


def control_socket(port: int) -> Path:
    """Return where faults for that phone are sent to."""
    return run_folder(port) / "control"
