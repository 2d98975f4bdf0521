"""Whether another run lasts on a device: two at once spoil both, and a lease knows only the melts of this computer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from melt.errors import DeviceError
from melt.targets.agent import AgentClient
from melt.targets.provision import JOB_PREFIX
from melt.transports.base import Transport

if TYPE_CHECKING:
    from melt.session.connect import Site

JOBS = "jobs"
"""The folder of all jobs, below melt's own on a device."""
EVALUATION_PREFIX = "quality-"
"""How the folders of jobs that evaluate model files begin."""


def jobs(transport: Transport, agent: AgentClient, root: str) -> Iterator[tuple[str, str]]:
    """Yield the folder of every job on a device, and how it stands. Raises TransportError, AgentError."""
    folder = f"{root}/{JOBS}"
    # No folder, no jobs.
    names = transport.run(("ls", "--", folder)).stdout.decode(errors="surrogateescape").splitlines()
    yield from ((f"{folder}/{name}", agent.status(f"{folder}/{name}").state) for name in names)


def running_jobs(transport: Transport, agent: AgentClient, root: str) -> Iterator[str]:
    """Yield the names of the jobs that go on on a device. Raises TransportError, AgentError."""
    yield from (job.rpartition("/")[2] for job, state in jobs(transport, agent, root) if state == "running")


def refuse_if_occupied(site: Site) -> None:
    """Raise DeviceError where a run goes on that another computer, or a melt with another store, has started.

    So do provisioning and evaluations: what they compute would be measured too. Raises TransportError, AgentError.
    """
    target = site.target
    for name in running_jobs(target.transport, target.agent, target.root):
        if name.startswith(JOB_PREFIX):
            host = site.selector.partition(":")[2]
            raise DeviceError(
                f"{site.selector}: it is being provisioned: `melt provision {host}` follows that to its end"
            )
        if name.startswith(EVALUATION_PREFIX):
            raise DeviceError(
                f"{site.selector}: model files are evaluated there: the same `melt quality` follows that to its end"
            )
        raise DeviceError(
            f"{site.selector}: a run that this melt did not start goes on there ({target.root}/{JOBS}/{name}): "
            "wait for its end, or `melt resume` it where it was started"
        )
