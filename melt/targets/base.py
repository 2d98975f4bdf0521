"""A device as the session sees it: the way to it, the agent on it, and what is known of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from melt.records import DeviceFacts
from melt.targets.agent import AgentClient
from melt.transports.base import Transport


@dataclass(frozen=True, slots=True)
class Target:
    """A device that was reached and probed. `id` is the selector it was reached by, `root` melt's folder on it."""

    id: str
    transport: Transport
    agent: AgentClient
    root: str
    facts: DeviceFacts

    @property
    def shares_files(self) -> bool:
        """Whether the device sees the host's own files, so that nothing need be pushed."""
        return self.transport.name == "local"

    @property
    def python(self) -> str:
        """The interpreter for runners. Here it is melt's own, which has the engines that melt was installed with."""
        return sys.executable if self.shares_files else "python3"
