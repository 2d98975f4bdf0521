"""Everything that must be true before a runner is started: files in place, the job written, the start documented."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from melt import __version__
from melt.codec import dumps
from melt.engines.base import Command, Engine
from melt.records import Artifact, RunSpec, RunStart, Session, Stream
from melt.session import folder as docs
from melt.session.connect import Site
from melt.session.deploy import deploy, make_folder
from melt.session.folder import JobSite, RunFolder, write_site
from melt.targets.base import Target
from melt.targets.cpus import default_threads, parse_cpulist
from melt.targets.jobfile import Job
from melt.targets.knobs import KnobPlan, plan_knobs
from melt.targets.probe import dump_snapshot
from melt.telemetry.base import PYTHON, STREAMS
from melt.telemetry.limits import trip_limits
from melt.telemetry.platforms import platform
from melt.telemetry.schedule import Schedule, make_schedule
from melt.transports.base import Progress

_LINGER_TICKS = 2
_ELECTRICAL = frozenset({"power", "energy", "current"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can be started. `spec` has every choice made that the plan left open."""

    spec: RunSpec
    job_dir: str
    schedule: Schedule


def prepare(
    spec: RunSpec,
    artifact: Artifact,
    engine: Engine,
    site: Site,
    folder: RunFolder,
    progress: Progress | None = None,
    *,
    session: Session | None = None,
    metered: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Bring to the device what the run needs, and write to `folder` what makes a result of it later.

    `metered`: a power meter outside will watch. Changes no condition of the device: that is left to the agent, which
    undoes it. May be done again after a broken link. Raises UsageError on a condition that this device does not know;
    DeviceError, TransportError, StoreError.
    """
    target = site.target
    job_dir = site.job_dir(spec.run_id)
    knobs = plan_knobs(spec.conditions, target.facts, target.transport.run, site.selector, job_dir)
    chosen = ("threads",) if spec.settings.threads is None else ()
    spec = _settle(spec, site, knobs)
    discovery = platform(target.facts.os).discover(site.snapshot, spec.sampling)
    schedule = make_schedule(discovery)
    limits = trip_limits(schedule, spec.settings.trip_c, defaults=spec.settings.trip_defaults)
    if spec.settings.trip_c is not None and not limits.as_asked:
        say(
            "nothing that the agent can watch tells how hot this device's processor is: `trip_c` cannot end the run, "
            "watch it yourself"
        )
    placement = deploy(
        target,
        artifact,
        engine,
        progress,
        with_streams=brings_programs(schedule),
        inputs=spec.workload.inputs,
        say=say,
    )
    command = engine.command(
        spec,
        artifact,
        model_path=placement.model_path,
        runner_dir=placement.runner_dir,
        python=target.python,
        inputs_path=placement.inputs_path,
    )
    job = Job(
        run_id=spec.run_id,
        runner=tuple(word.replace("{dir}", job_dir) for word in command.argv),
        env=dict(command.env),
        affinity=spec.settings.affinity,
        timeout_s=spec.settings.timeout_s,
        linger_s=linger_s(discovery.streams, spec.sampling.baseline_s, metered=metered),
        recovery_s=spec.sampling.recovery_s or 0.0,
        groups=schedule.groups,
        streams=tuple(replace(one, argv=placed(one.argv, placement.streams_dir, target)) for one in schedule.streams),
        polls=tuple(
            replace(one, argv=placed(one.argv, placement.streams_dir, target), trips=limits.polls.get(one.sid, ()))
            for one in schedule.polls
        ),
        prepares=knobs.prepares,
        restores=knobs.restores,
        trips=limits.files,
    )
    start = RunStart(
        spec=spec,
        started_utc_ns=time.time_ns(),
        artifact=artifact,
        device=target.facts,
        agent_version=target.agent.expected_version,
        melt_version=__version__,
        streams=discovery.streams,
        missing=discovery.missing,
        calibrations=discovery.calibrations,
        knobs=knobs.knobs,
        host={"python": sys.version.split()[0], "platform": sys.platform},
        clock_offset_ns=site.clock_offset_ns,
        clock_uncertainty_ns=site.clock_uncertainty_ns,
        chosen=chosen,
        session=session,
        trips=limits.records,
    )
    folder.write_document(docs.SNAPSHOT, dump_snapshot(site.snapshot))
    folder.write_document(docs.START, dumps(start).encode())
    write_site(folder, JobSite(site.selector, job_dir))
    _push_job(site, folder, job_dir, command, job)
    return Prepared(spec, job_dir, schedule)


def brings_programs(schedule: Schedule) -> bool:
    """Whether a channel wants the programs of agents/streams on the device."""
    return any(STREAMS in word for program in schedule.programs for word in program.argv)


def placed(argv: Iterable[str], streams_dir: str, target: Target) -> tuple[str, ...]:
    """Write into a program's words where its files and its interpreter are on the device."""
    return tuple(word.replace(STREAMS, streams_dir).replace(PYTHON, target.python) for word in argv)


def _push_job(site: Site, folder: RunFolder, job_dir: str, command: Command, job: Job) -> None:
    make_folder(site.target, job_dir)
    for name, data in {**command.files, docs.JOB: job.render()}.items():
        folder.write_document(name, data)
        site.target.transport.push(folder.path / name, f"{job_dir}/{name}")


def linger_s(streams: Iterable[Stream], baseline_s: float = 0.0, *, metered: bool = False) -> float:
    """Return how long to sample beyond both ends, in seconds; 0 where no energy is measured.

    A window's energy is integrated only if samples enclose it, and `baseline_s` is how long the device shall be seen at
    rest. What is not electrical is not waited for. A power meter outside samples all the while, before and after, too.
    """
    rates_hz = [stream.rate_hz for stream in streams if stream.quantity in _ELECTRICAL]
    least_s = baseline_s if metered else 0.0
    return max(baseline_s, _LINGER_TICKS / min(rates_hz)) if rates_hz else least_s


def _settle(spec: RunSpec, site: Site, knobs: KnobPlan) -> RunSpec:
    """Fill in what the plan left to the session, so that the record says what was really asked."""
    settings = spec.settings
    if knobs.affinity is not None:
        settings = replace(settings, affinity=knobs.affinity)
    if settings.threads is None:
        allowed = parse_cpulist(settings.affinity) if settings.affinity else ()
        facts = site.target.facts
        # A power mode may switch CPUs on or off.
        facts = facts if knobs.cpus is None else replace(facts, cpus=knobs.cpus)
        settings = replace(settings, threads=len(allowed) or default_threads(facts))
    return replace(spec, settings=settings)
