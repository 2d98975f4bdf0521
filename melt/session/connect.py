"""Reach a device: agent in place, facts and channels known, its clock and its ceilings measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

from melt.records import DeviceFacts
from melt.session.occupied import JOBS, refuse_if_occupied
from melt.session.patience import BOOT_S, patiently
from melt.targets.agent import AgentClient
from melt.targets.base import Target, find_python
from melt.targets.probe import Snapshot, take_snapshot
from melt.targets.profiles import lab_profile, with_battery
from melt.targets.system import System, identify, read_facts
from melt.telemetry.platforms import platform
from melt.transports.base import Transport
from melt.transports.registry import open_transport

_CLOCK_ROUND_TRIPS = 50


@dataclass(frozen=True, slots=True)
class Reached:
    """A device with the right agent on it. `root` is melt's folder there."""

    transport: Transport
    system: System
    agent: AgentClient
    root: str


@dataclass(frozen=True, slots=True)
class Site:
    """A device that is ready to measure. `snapshot` is what its files said when it was last looked at."""

    selector: str
    system: System
    target: Target
    snapshot: Snapshot
    clock_offset_ns: int
    clock_uncertainty_ns: int

    def job_dir(self, run_id: str) -> str:
        """Return the folder of a run on the device."""
        return f"{self.target.root}/{JOBS}/{run_id}"

    def by(self, device: Reached) -> Site:
        """Return this site as it is reached by another way."""
        target = replace(self.target, transport=device.transport, agent=device.agent, root=device.root)
        return replace(self, target=target)

    def close(self) -> None:
        """Give the link back."""
        self.target.transport.close()


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


def connect(
    selector: str,
    *,
    say: Callable[[str], None] = lambda _: None,
    claim: Callable[[DeviceFacts], object] = lambda _: None,
    take_over: Callable[[Site], object] = lambda _: None,
    stop: Event | None = None,
) -> Site:
    """Make a device ready for a sweep. Raises UsageError, TransportError, AgentError with what to do.

    A device that does not answer is not waited for; one that has answered, and whose link breaks then, is, until `stop`
    is set; not without a `stop`.

    `claim` is called once it is known which device this is, before anything is done there that would disturb another
    measurement, and again after a broken link; what it raises ends the attempt. `take_over` may end what goes on there;
    what still goes on after that ends the attempt, too: DeviceError.
    """
    say("connecting")
    answered = [reach(selector)]

    def prepare() -> Site:
        device = answered.pop() if answered else reach(selector)
        try:
            return _prepare(device, selector, say, claim, take_over)
        except BaseException:
            device.transport.close()
            raise

    return patiently(prepare, stop=stop or Event(), say=say, within_s=0.0 if stop is None else BOOT_S)


def _prepare(
    device: Reached,
    selector: str,
    say: Callable[[str], None],
    claim: Callable[[DeviceFacts], object],
    take_over: Callable[[Site], object],
) -> Site:
    say("reading what the device offers")
    facts, snapshot, clock = _look(device, selector)
    claim(facts)
    python = find_python(device.transport, device.root)
    target = Target(selector, device.transport, device.agent, device.root, facts, python)
    site = Site(selector, device.system, target, snapshot, *clock)
    take_over(site)
    refuse_if_occupied(site)
    say("measuring memory bandwidth and arithmetic")
    threads = max(1, len(facts.cpus))
    facts = replace(
        facts,
        memory_bandwidth_bytes_per_s=device.agent.bandwidth(threads=threads),
        compute=device.agent.compute(threads=threads),
    )
    return replace(site, target=replace(target, facts=facts))


def refresh(site: Site) -> Site:
    """Look at a device again, before the next run: its state, its clock, and whether it was started anew meanwhile.

    Raises TransportError, AgentError.
    """
    target = site.target
    device = Reached(target.transport, site.system, target.agent, target.root)
    facts, snapshot, clock = _look(device, site.selector)
    known = target.facts
    facts = replace(facts, memory_bandwidth_bytes_per_s=known.memory_bandwidth_bytes_per_s, compute=known.compute)
    return Site(site.selector, site.system, replace(target, facts=facts), snapshot, *clock)


def _look(device: Reached, selector: str) -> tuple[DeviceFacts, Snapshot, tuple[int, int]]:
    """Return facts, snapshot, and the clock's offset with its uncertainty in nanoseconds."""
    transport, agent, system = device.transport, device.agent, device.system
    facts, known = read_facts(system, transport, agent, selector)
    facts = with_battery(facts, lab_profile(facts))
    channels = platform(facts.os)
    snapshot = known | take_snapshot(transport, agent, channels.GLOBS, channels.COMMANDS)
    return facts, snapshot, agent.clock_offset(_CLOCK_ROUND_TRIPS)
