"""A device as the session sees it: the way to it, the agent on it, and what is known of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from melt.records import DeviceFacts
from melt.targets.agent import AgentClient
from melt.transports.base import Transport

VENV = "venv"
"""The virtual environment that `melt provision` makes below melt's folder on a device."""
_NO_SUCH_PROGRAM = 127


@dataclass(frozen=True, slots=True)
class Target:
    """A device that was reached and probed. `id` is the selector it was reached by, `root` melt's folder on it.

    `python` is the interpreter for runners there, which has the engines.
    """

    id: str
    transport: Transport
    agent: AgentClient
    root: str
    facts: DeviceFacts
    python: str

    @property
    def shares_files(self) -> bool:
        """Whether the device sees the host's own files, so that nothing need be pushed."""
        return self.transport.name == "local"


def find_python(transport: Transport, root: str) -> str:
    """Return the interpreter for runners: melt's own here, that of `melt provision` elsewhere, else the device's.

    Raises TransportError.
    """
    if transport.name == "local":
        return sys.executable
    provisioned = f"{root}/{VENV}/bin/python"
    if transport.run(("test", "-x", provisioned)).exit_code == 0:
        return provisioned
    # Without Apple's tools the name python3 opens a window on a Mac's screen: it is not called there.
    without_tools = transport.run(("xcode-select", "-p")).exit_code not in (0, _NO_SUCH_PROGRAM)
    return provisioned if without_tools else "python3"
