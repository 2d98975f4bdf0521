"""Reach a device once per sweep: agent in place, facts and channels known, clock and memory bandwidth measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from melt.targets.agent import AgentClient
from melt.targets.base import Target
from melt.targets.probe import take_snapshot
from melt.targets.system import System, identify
from melt.telemetry.base import Snapshot
from melt.telemetry.platforms import platform
from melt.transports.base import Transport
from melt.transports.registry import open_transport

_CLOCK_ROUND_TRIPS = 50


@dataclass(frozen=True, slots=True)
class Site:
    """A device that is ready to measure. `snapshot` is what its files said when it was probed."""

    selector: str
    target: Target
    snapshot: Snapshot
    clock_offset_ns: int
    clock_uncertainty_ns: int

    def job_dir(self, run_id: str) -> str:
        """Return the folder of a run on the device."""
        return f"{self.target.root}/jobs/{run_id}"

    def close(self) -> None:
        """Give the link back."""
        self.target.transport.close()


@dataclass(frozen=True, slots=True)
class Reached:
    """A device with the right agent on it. `root` is melt's folder there."""

    transport: Transport
    system: System
    agent: AgentClient
    root: str


def reach(selector: str) -> Reached:
    """Open the link and make the right agent present. Raises UsageError, TransportError, AgentError."""
    transport = open_transport(selector)
    try:
        system = identify(transport)
        root = system.root(transport)
        agent = AgentClient(transport, root)
        agent.deploy()
    except BaseException:
        transport.close()
        raise
    return Reached(transport, system, agent, root)


def connect(selector: str, *, say: Callable[[str], None] = lambda _: None) -> Site:
    """Make a device ready for a sweep. Raises UsageError, TransportError, AgentError with what to do."""
    device = reach(selector)
    try:
        return _probe(selector, device, say)
    except BaseException:
        device.transport.close()
        raise


def _probe(selector: str, device: Reached, say: Callable[[str], None]) -> Site:
    transport, agent, system = device.transport, device.agent, device.system
    say("reading what the device offers")
    known = take_snapshot(transport, agent, system.FACT_GLOBS, system.FACT_COMMANDS)
    facts = system.parse_facts(known, device_id_hint=selector, kind=selector.partition(":")[0])
    channels = platform(facts.os)
    snapshot = known | take_snapshot(transport, agent, channels.GLOBS, channels.COMMANDS)
    offset_ns, uncertainty_ns = agent.clock_offset(_CLOCK_ROUND_TRIPS)
    say("measuring memory bandwidth")
    bandwidth = agent.bandwidth(threads=max(1, len(facts.cpus)))
    facts = replace(facts, memory_bandwidth_bytes_per_s=bandwidth)
    target = Target(selector, transport, agent, device.root, facts)
    return Site(selector, target, snapshot, offset_ns, uncertainty_ns)
