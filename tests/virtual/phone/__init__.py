"""A phone without a phone: adb, Android's userland and arm64 programs in namespaces of their own. See ../README.md."""

from __future__ import annotations

from .control import ControlError
from .handle import PhoneFailed, VirtualPhone
from .profiles import BadProfile
from .requirements import Unavailable, require

__all__ = ["BadProfile", "ControlError", "PhoneFailed", "Unavailable", "VirtualPhone", "require"]
