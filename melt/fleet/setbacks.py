"""When a device is not worth another try: each one costs minutes, and a device that fails thrice fails again."""

from __future__ import annotations

from melt.errors import AgentError, DeviceError, MeltError
from melt.records import Outcome
from melt.traces import RunBundle

LIMIT = 3
"""How often in a row a device may fail. Twice happens: a cable is moved, a phone starts anew."""

_OF_THE_DEVICE = frozenset({"agent_killed", "recovered", "runner_not_started", "engine_missing"})
"""Reasons of a failed run for which no cell is to blame. Every other failure may be the fault of what was run."""


class SetAside(DeviceError):
    """A device is left alone for the rest of the sweep. What it has not run is run by `melt resume`."""

    def __init__(self, device: str, why: str) -> None:
        super().__init__(f"{device} is set aside, it failed {LIMIT} times in a row: {why}")
        self.device = device


def is_setback(bundle: RunBundle) -> bool:
    """Say whether a run came to nothing through its device: an equal one may do better, another cell may not."""
    stop = bundle.stop
    why = next(iter(stop.reasons), None)
    failed_there = stop.outcome is Outcome.FAILED and why is not None and why.code in _OF_THE_DEVICE
    return failed_there or stop.outcome is Outcome.DEVICE_LOST


class Setbacks:
    """Counts how often in a row a device failed, be it that it was lost or that its runs could not begin or end."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._in_a_row = 0

    def trouble(self, error: MeltError) -> None:
        """Count an error that may pass; raise every other one. Raises SetAside at the limit."""
        if not (error.retryable or isinstance(error, AgentError)):
            raise error
        self._count(str(error))

    def ended(self, bundle: RunBundle) -> None:
        """Count how a run ended. Out of memory and the like are results. Raises SetAside at the limit."""
        if is_setback(bundle):
            self._count(bundle.stop.reasons[0].message if bundle.stop.reasons else str(bundle.stop.outcome))
        elif bundle.start.agent_version:  # Else the run was not tried, which tells nothing of the device.
            self._in_a_row = 0

    def _count(self, why: str) -> None:
        self._in_a_row += 1
        if self._in_a_row >= LIMIT:
            raise SetAside(self._device, why)
