"""What a machine must offer to play a Mac, tried out rather than assumed."""

from __future__ import annotations

import functools
import importlib.util
import shutil

from ..jetson import requirements as jetson
from ..phone.requirements import Unavailable

_PROGRAMS = {"zsh": "zsh", "dash": "dash"}


def require() -> None:
    """Return when Macs can be played here. Raises Unavailable."""
    lacking = _lacking()
    if lacking is not None:
        raise Unavailable(f"the virtual Mac needs {lacking}")


@functools.cache
def _lacking() -> str | None:
    try:
        jetson.require()  # the same server, namespaces and layers
    except Unavailable as reason:
        return str(reason).removeprefix("the virtual Jetson needs ")
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)}: install {' '.join(_PROGRAMS[program] for program in missing)}"
    return None if importlib.util.find_spec("ziglang") else "the package ziglang, which builds its agent"
