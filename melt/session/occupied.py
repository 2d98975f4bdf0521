"""Whether another run lasts on a device: two at once spoil both, and a lease knows only the melts of this computer."""

from __future__ import annotations

from melt.errors import DeviceError
from melt.session.connect import Site


def refuse_if_occupied(site: Site) -> None:
    """Raise DeviceError where a run goes on that another computer, or a melt with another store, has started.

    Raises TransportError, AgentError.
    """
    target = site.target
    folder = f"{target.root}/jobs"
    # No folder, no jobs.
    names = target.transport.run(("ls", "--", folder)).stdout.decode(errors="surrogateescape").splitlines()
    for name in names:
        if target.agent.status(f"{folder}/{name}").state == "running":
            raise DeviceError(
                f"{site.selector}: a run that this melt did not start goes on there ({folder}/{name}): "
                "wait for its end, or `melt resume` it where it was started"
            )
