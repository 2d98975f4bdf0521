"""Take back what melt keeps on a device between runs."""

from __future__ import annotations

from typing import NamedTuple

from melt.fleet.lease import lease
from melt.session.connect import reach
from melt.targets.blobs import Blobs
from melt.targets.system import read_facts
from melt.transports.registry import resolve


class Cleaned(NamedTuple):
    """A device that was cleaned, where melt's folder lies on it, and what that freed."""

    name: str
    root: str
    freed_bytes: int


def clean(selector: str) -> Cleaned:
    """Remove the models and runners that melt keeps on a device. Raises UsageError, DeviceError, TransportError.

    Not while another melt measures there: its next run would have to send them again.
    """
    selector = resolve(selector)
    device = reach(selector)
    try:
        facts, _ = read_facts(device.system, device.transport, device.agent, selector)
        with lease(facts.device_id, facts.name):
            freed = Blobs(device.transport, device.agent, device.root).clear()
    finally:
        device.transport.close()
    return Cleaned(facts.name, device.root, freed)
