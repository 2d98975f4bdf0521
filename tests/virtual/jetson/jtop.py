"""The real jtop: a virtual environment per version in the user's cache, made once and only ever run as a process.

jetson-stats is under the AGPL and changes multiprocessing when it is imported, so nothing here imports it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

from ..phone.requirements import Unavailable

SERVICE = "7.2.2"
"""The version that boards run, and the one that clients on a board have."""

OTHER = "4.3.2"
"""A service to which the client of today may not speak: versions must agree in their first two numbers."""

_INSTALL_TIMEOUT_S = 240.0


def environment(version: str) -> Path:
    """Return the environment with a version of jetson-stats, made where it is not there. Raises Unavailable."""
    cache = platformdirs.user_cache_path("melt") / "jtop"
    cache.mkdir(parents=True, exist_ok=True)
    tag = f"{version}-{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / tag
    with (cache / f".{tag}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, version)
            (folder / "complete").touch()
    return folder


def _make(folder: Path, version: str) -> None:
    venv.create(folder, with_pip=True, symlinks=True)
    words = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"jetson-stats=={version}")
    try:
        done = subprocess.run(
            (folder / "bin/python", *words), capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"jetson-stats {version} was not installed within {_INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"jetson-stats {version} cannot be installed into {folder}: {said}")
