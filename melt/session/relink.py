"""Find a device again at any of its addresses: a phone whose cable was pulled may still be there on Wi-Fi."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress

from melt.errors import DeviceError, UsageError
from melt.records import DeviceFacts
from melt.session.connect import Reached, reach
from melt.targets.agent import AgentClient
from melt.targets.profiles import lab_profile
from melt.targets.system import read_facts
from melt.transports.base import Transport


def reach_same(address: str, device_id: str) -> Reached:
    """Reach a device at an address. Raises DeviceError where it is not, or another one is, or that is no address."""
    try:
        device = reach(address)
    except UsageError as error:
        # In the middle of a run a mistake in a profile must cost no more than this one way.
        raise DeviceError(str(error)) from error
    try:
        found, _ = read_facts(device.system, device.transport, device.agent, address)
        if found.device_id != device_id:
            raise DeviceError(f"{address} is {found.name} ({found.device_id}), not the device that was asked for")
    except BaseException:
        device.transport.close()
        raise
    return device


def reach_elsewhere(facts: DeviceFacts) -> Reached | None:
    """Reach a device at one of the addresses that its profile names; None where it is at none. Raises UsageError."""
    profile = lab_profile(facts)
    for address in profile.addresses if profile else ():
        with suppress(DeviceError):
            return reach_same(address, facts.device_id)
    return None


class Relink:
    """Tries one address at each call, in turn; a device that answers there but is another one is left alone."""

    def __init__(self, device_id: str, addresses: Sequence[str]) -> None:
        self._device_id = device_id
        self._addresses: Iterator[str] = itertools.cycle(addresses)
        self._opened: list[Transport] = []

    def __call__(self) -> AgentClient:
        """Return the agent at the next address. Raises DeviceError where it is not."""
        device = reach_same(next(self._addresses), self._device_id)
        self._opened.append(device.transport)
        return device.agent

    def close(self) -> None:
        """Give back every link that was opened."""
        for transport in self._opened:
            transport.close()
