"""One job of the agent without a model: every channel at rest, while all CPUs are busy, and at rest again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as Flag
from typing import TypeVar

from melt.analysis.series import Span
from melt.errors import DeviceError, MeltError
from melt.records import Sampling
from melt.session.collect import collect
from melt.session.connect import Site
from melt.session.deploy import deploy_streams, make_folder
from melt.session.prepare import brings_programs, placed
from melt.targets.blobs import Blobs
from melt.targets.jobfile import Job
from melt.telemetry.base import Discovery
from melt.telemetry.decode import decode
from melt.telemetry.journal import Event, Journal, read_journal
from melt.telemetry.platforms import platform
from melt.telemetry.schedule import Schedule, ScheduledPoll, ScheduledStream, make_schedule
from melt.traces import Trace

BUFFER_BYTES = 128 << 20
"""What the burst reads over and over: beyond every cache, within every phone's memory."""
_LOST_AFTER_S = 60.0
_TIMEOUT_S = 120.0
_EDGE_NS = 300_000_000
"""Left out at the edges of rest and burst: clocks and averaging meters need a moment to follow."""

P = TypeVar("P", ScheduledStream, ScheduledPoll)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came home of the job. The spans are on the device's clock; `peak_bytes` is the burst's, by the kernel."""

    discovery: Discovery
    schedule: Schedule
    journal: Journal
    traces: list[Trace]
    whole: Span
    rest: Span
    burst: Span
    peak_bytes: float | None

    @property
    def events(self) -> list[Event]:
        """Return what the agent noted."""
        return [record for record in self.journal.records if isinstance(record, Event)]


def sample(site: Site, job_dir: str, scratch: Path, seconds: int, stop: Flag) -> Sampled:
    """Run the job and decode it; `stop` ends it early. Raises DeviceError, TransportError."""
    target = site.target
    discovery = platform(target.facts.os).discover(site.snapshot, Sampling())
    schedule = make_schedule(discovery)
    blobs = Blobs(target.transport, target.agent, target.root)
    streams_dir = deploy_streams(target, blobs) if brings_programs(schedule) else ""

    def ready(programs: Sequence[P]) -> tuple[P, ...]:
        return tuple(replace(one, argv=placed(one.argv, streams_dir, target)) for one in programs)

    threads = str(max(1, len(target.facts.cpus)))
    burst = (
        target.agent.path,
        "bandwidth",
        "--threads",
        threads,
        "--bytes",
        str(BUFFER_BYTES),
        "--seconds",
        str(seconds),
    )
    job = Job(
        run_id="selftest-channels",
        runner=burst,
        timeout_s=_TIMEOUT_S + seconds,
        linger_s=float(seconds),
        groups=schedule.groups,
        streams=ready(schedule.streams),
        polls=ready(schedule.polls),
    )
    journal = run_job(site, job, job_dir, scratch, stop)
    events = {record.name: record for record in journal.records if isinstance(record, Event)}
    if not {"runner_started", "runner_exited"} <= events.keys():
        said = json.dumps({name: event.data for name, event in events.items()})
        raise DeviceError(f"{target.transport.name}: the agent's own load did not run: {said}")
    whole = _span(journal)
    began_ns, ended_ns = events["runner_started"].t_ns, events["runner_exited"].t_ns
    peak = events["runner_exited"].data.get("max_rss_bytes")
    return Sampled(
        discovery,
        schedule,
        journal,
        decode(journal, schedule),
        whole,
        (whole[0] + _EDGE_NS, began_ns),
        (began_ns + _EDGE_NS, ended_ns),
        float(peak) if isinstance(peak, int) else None,
    )


def push_job(site: Site, job: Job, job_dir: str, scratch: Path) -> None:
    """Put a job's file into its folder on the device. Raises DeviceError, TransportError."""
    make_folder(site.target, job_dir)
    file = scratch / f"{job.run_id}.job"
    file.write_bytes(job.render())
    site.target.transport.push(file, f"{job_dir}/job")


def run_job(site: Site, job: Job, job_dir: str, scratch: Path, stop: Flag) -> Journal:
    """Start a job, follow it to its end, and read what it brought. Raises DeviceError, TransportError."""
    push_job(site, job, job_dir, scratch)
    agent = site.target.agent
    path = scratch / f"{job.run_id}.journal"
    try:
        agent.start(job_dir)
        ended = collect(agent, job_dir, path, see=lambda _: None, stop=stop, lost_after_s=_LOST_AFTER_S)
    except BaseException:
        # Who interrupts the test leaves a device at rest.
        with suppress(MeltError):
            agent.stop(job_dir)
        raise
    if ended.state != "ended":
        raise DeviceError(f"{site.target.transport.name}: the job did not end in order, it is {ended.state}")
    return read_journal(path)


def _span(journal: Journal) -> Span:
    """Return from when to when the agent sampled."""
    times = [record.t_ns for record in journal.records if isinstance(record, Event)]
    return min(times), max(times)
