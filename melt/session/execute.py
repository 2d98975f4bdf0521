"""One run on one device, from the wish to the collected journal."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from threading import Event

from melt import __version__
from melt.codec import dumps
from melt.engines.base import Engine
from melt.errors import TransportError
from melt.events import Observer
from melt.records import Artifact, RunSpec, RunStart, Sampling
from melt.session import folder as docs
from melt.session.collect import Collected, collect
from melt.session.connect import Site
from melt.session.deploy import deploy, make_folder
from melt.session.folder import JobSite, RunFolder, write_site
from melt.session.live import Live
from melt.targets.cpus import default_threads
from melt.targets.jobfile import Job
from melt.targets.probe import dump_snapshot
from melt.telemetry.base import Discovery
from melt.telemetry.platforms import platform
from melt.telemetry.schedule import make_schedule
from melt.transports.base import Transport

_LINGER_TICKS = 2
_EVIDENCE_BYTES = 8_192


def execute(
    spec: RunSpec,
    artifact: Artifact,
    engine: Engine,
    site: Site,
    folder: RunFolder,
    *,
    observe: Observer,
    stop: Event,
) -> Collected:
    """Run a cell once and bring its journal home into `folder`.

    Everything that makes a result of it later is written to `folder` before the runner starts. Raises DeviceError,
    TransportError, StoreError; whatever was collected until then stays in `folder`, the run itself on the device.
    """
    target = site.target
    spec = _settle(spec, site)
    placement = deploy(target, artifact, engine)
    discovery = platform(target.facts.os).discover(site.snapshot, spec.sampling)
    schedule = make_schedule(discovery)
    job_dir = site.job_dir(spec.run_id)
    command = engine.command(
        spec, artifact, model_path=placement.model_path, runner_dir=placement.runner_dir, python=target.python
    )
    job = Job(
        run_id=spec.run_id,
        runner=tuple(word.replace("{dir}", job_dir) for word in command.argv),
        env=dict(command.env),
        affinity=spec.settings.affinity,
        timeout_s=spec.settings.timeout_s,
        linger_s=_linger_s(discovery, spec.sampling),
        groups=schedule.groups,
        streams=schedule.streams,
        trips=schedule.trips(spec.settings.trip_c),
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
        host={"python": sys.version.split()[0], "platform": sys.platform},
        clock_offset_ns=site.clock_offset_ns,
        clock_uncertainty_ns=site.clock_uncertainty_ns,
    )
    folder.write_document(docs.SNAPSHOT, dump_snapshot(site.snapshot))
    folder.write_document(docs.START, dumps(start).encode())
    write_site(folder, JobSite(site.selector, job_dir))
    make_folder(target, job_dir)
    for name, data in {**command.files, docs.JOB: job.render()}.items():
        folder.write_document(name, data)
        target.transport.push(folder.path / name, f"{job_dir}/{name}")
    target.agent.start(job_dir)
    live = Live(spec, engine, schedule, observe)
    collected = collect(target.agent, job_dir, folder.journal_path, see=live.see, stop=stop)
    _keep_evidence(folder, site, collected)
    note_collected(folder, collected)
    return collected


def _keep_evidence(folder: RunFolder, site: Site, collected: Collected) -> None:
    """Ask the device what it has to say on a run that did not end by itself. No answer is no error."""
    end = collected.end or {}
    if collected.interrupted or (end.get("reason") == "completed" and end.get("exit_code") == 0):
        return
    said = {}
    for name, argv in platform(site.target.facts.os).EVIDENCE.items():
        with suppress(TransportError):
            done = site.target.transport.run(argv)
            if done.exit_code == 0 and done.stdout:
                said[name] = done.stdout[-_EVIDENCE_BYTES:].decode(errors="replace")
    if said:
        folder.write_document(docs.EVIDENCE, json.dumps(said).encode())


def note_collected(folder: RunFolder, collected: Collected) -> None:
    """Keep how the collection ended beside the journal."""
    folder.write_document(docs.COLLECTED, json.dumps(asdict(collected)).encode())


def clean_up(transport: Transport, job_dir: str) -> None:
    """Remove a run's folder from the device, once its result is published."""
    transport.run(["rm", "-rf", "--", job_dir])


def _linger_s(discovery: Discovery, sampling: Sampling) -> float:
    """Sample beyond both ends where energy is measured: a window is integrated only if samples enclose it."""
    measured = {stream.quantity for stream in discovery.streams}
    return _LINGER_TICKS / sampling.sensors_hz if measured & {"power", "energy"} else 0.0


def _settle(spec: RunSpec, site: Site) -> RunSpec:
    """Fill in what the plan left to the session, so that the record says what was really asked."""
    if spec.settings.threads is not None:
        return spec
    return replace(spec, settings=replace(spec.settings, threads=default_threads(site.target.facts)))
