"""A Jetson without a Jetson: the real jtop, a real sshd and a board's files in namespaces. See ../README.md."""

from __future__ import annotations

from ..phone.requirements import Unavailable
from .handle import BoardFailed, VirtualJetson
from .profiles import BadProfile
from .requirements import require

__all__ = ["BadProfile", "BoardFailed", "Unavailable", "VirtualJetson", "require"]
