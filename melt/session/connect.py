"""Reach a device once per sweep: agent in place, facts and channels known, clock and memory bandwidth measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from melt.errors import UsageError
from melt.records import DeviceFacts
from melt.targets.agent import AgentClient
from melt.targets.base import Target
from melt.targets.facts import FACT_COMMANDS, FACT_GLOBS, parse_facts
from melt.targets.probe import take_snapshot
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


def reach(selector: str) -> tuple[Transport, AgentClient, str]:
    """Open the link and make the right agent present; return both and melt's folder on the device."""
    transport = open_transport(selector)
    root = str(_local_root())
    agent = AgentClient(transport, root)
    agent.deploy()
    return transport, agent, root


def connect(selector: str, *, say: Callable[[str], None] = lambda _: None) -> Site:
    """Make a device ready for a sweep. Raises UsageError, TransportError, AgentError with what to do."""
    transport, agent, root = reach(selector)
    say("reading what the device offers")
    channels = platform("linux")
    snapshot = take_snapshot(transport, agent, (*FACT_GLOBS, *channels.GLOBS), {**FACT_COMMANDS, **channels.COMMANDS})
    facts: DeviceFacts = parse_facts(snapshot, device_id_hint=selector, kind=selector.partition(":")[0])
    offset_ns, uncertainty_ns = agent.clock_offset(_CLOCK_ROUND_TRIPS)
    say("measuring memory bandwidth")
    bandwidth = agent.bandwidth(threads=max(1, len(facts.cpus)))
    facts = replace(facts, memory_bandwidth_bytes_per_s=bandwidth)
    target = Target(selector, transport, agent, root, facts)
    return Site(selector, target, snapshot, offset_ns, uncertainty_ns)


def _local_root() -> Path:
    root = platformdirs.user_state_path("melt") / "device"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {root}: {error.strerror}; set XDG_STATE_HOME to a folder you may write"
        ) from error
    return root
