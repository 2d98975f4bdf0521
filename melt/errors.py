"""One tree of errors that answers two questions: whose fault is it, and may it be retried.

Raise the most exact class. The message is one sentence a person can act on: what is wrong, where, what to do.
The command line prints that sentence and exits with `exit_code`; a traceback is always a defect of melt.
"""

from __future__ import annotations

from typing import ClassVar


class MeltError(Exception):
    """Base of every error that melt raises on purpose."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class UsageError(MeltError):
    """The user asked for something that cannot be: a wrong flag, plan, name or file."""

    exit_code = 2


class PlanError(UsageError):
    """A plan is wrong at one place. `where` is `file:line` as an editor understands it."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class ModelError(UsageError):
    """A model file is missing, damaged, of an unknown format or quantization."""


class StoreError(MeltError):
    """The results store cannot be read or written (permissions, disk full, newer schema)."""


class DeviceError(MeltError):
    """The device, or the way to it, failed; the plan and the models are not to blame."""


class TransportError(DeviceError):
    """The link broke or went silent: trying again may work."""

    retryable = True


class TransportTimeout(TransportError):
    """A command on the device gave no answer within its deadline."""


class Unauthorized(TransportError):
    """Device and computer do not trust each other: someone must accept a dialog, or bring a key."""

    retryable = False


class HostKeyError(Unauthorized):
    """The key of an SSH host is not known here, or is another one than before: nothing was said to that host.

    `changed` says that another key of this host is known: it was installed anew, or somebody stands in between.
    """

    def __init__(self, message: str, *, changed: bool = False) -> None:
        super().__init__(message)
        self.changed = changed


class Offline(TransportError):
    """The device is known, but does not answer: asleep, starting, or its link is broken."""


class Gone(TransportError):
    """The device is not connected any more, or never was."""


class NoSpace(DeviceError):
    """The device has no room for what must be pushed."""


class AgentError(DeviceError):
    """The agent is missing, of another version, or answered something that the protocol does not allow."""


class JournalError(DeviceError):
    """What came back is not a journal at all. (A torn tail is not an error: it ends the journal.)"""


class EngineError(MeltError):
    """An engine does not run on a device, or its runner cannot be built, or said what its adapter cannot read."""
