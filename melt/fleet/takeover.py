"""What a dead melt left on a device, ended before another one measures there, whichever results store it belongs to."""

from __future__ import annotations

from collections.abc import Callable

from melt.fleet.lease import Holder
from melt.session.collect import Collected
from melt.session.connect import Site
from melt.session.occupied import jobs
from melt.session.restored import sentence
from melt.targets.agent import Status
from melt.targets.provision import JOB_PREFIX


def take_over(site: Site, before: Holder, say: Callable[[str], None]) -> None:
    """End what earlier holders left on a device, so that nothing runs there and every condition is put back.

    The run that the last holder began is stopped, since its process is gone. A job whose agent died, whoever began it,
    is given its end. Both stay on the device: `melt resume` with their own store collects them. What another computer
    started and what still runs is left alone. Raises TransportError, AgentError.
    """
    target = site.target
    for job_dir, state in jobs(target.transport, target.agent, target.root):
        if job_dir.rpartition("/")[2].startswith(JOB_PREFIX):
            continue
        if state == "running" and job_dir == before.job_dir:
            say(
                f"a run that melt (process {before.pid}) left there when it died is stopped ({job_dir}); "
                "`melt resume` with its own store collects it"
            )
            _say_what_stayed(target.agent.stop(job_dir), say)
        elif state == "dead":
            say(f"a run that nobody looked after any more is given its end, its conditions are put back ({job_dir})")
            _say_what_stayed(target.agent.recover(job_dir), say)


def _say_what_stayed(status: Status, say: Callable[[str], None]) -> None:
    stayed = sentence(Collected(status.state, status.end, interrupted=True), ())
    if stayed is not None:
        say(stayed)
