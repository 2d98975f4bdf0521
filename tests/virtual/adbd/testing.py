"""For pytest: the real adbd, or a skip that says by name what this machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from .build import build
from .failure import Unavailable

BUILD_TIMEOUT_S = 1200
"""What a test may take that has to build adbd first."""


def real_adbd() -> Path:
    """Return the path for `VirtualPhone(adbd=...)`, or skip. A build that fails is a failure, not a skip."""
    try:
        return build()
    except Unavailable as reason:
        pytest.skip(str(reason))
