"""The whole self-test of a device, from the link to a run, as one document with nothing private in it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event

from melt import __version__
from melt.analysis.selftest import Finding, Selftest, verdict
from melt.codec import to_dict
from melt.errors import MeltError
from melt.fleet.lease import lease
from melt.fleet.selftest.channels import check_channels
from melt.fleet.selftest.course import Course, Say
from melt.fleet.selftest.detached import check_killed_worker, check_lost_link
from melt.fleet.selftest.engine import check_engine, check_runs
from melt.fleet.selftest.link import check_link, make_folder
from melt.fleet.selftest.private import secrets_here, secrets_there, without_secrets
from melt.fleet.selftest.sampling import Sampled, sample
from melt.plan.ids import new_id
from melt.records import Thresholds
from melt.session.connect import Site, connect
from melt.targets.blobs import BLOBS
from melt.targets.system import identify
from melt.transports.base import Transport
from melt.transports.registry import open_transport, resolve
from melt.units import human

_RECEIVED_BYTES = 8 << 20
_CLOCK_TRIPS = 50
_MAX_DRIFT = 200e-6
"""A quartz is good to 100 ppm, so two of them part by twice that at most."""


def selftest(selector: str, *, seconds: int, say: Say, stop: Event) -> Selftest:
    """Take every step on a device; rest, burst and rest again are sampled for `seconds` each.

    What fails is told in the document. Raises UsageError where there can be no such device, KeyboardInterrupt soon
    after `stop` is set; the device is at rest then.
    """
    started_utc_ns = time.time_ns()
    selector = resolve(selector)
    course = Course(say, stop)
    secrets = secrets_here(selector)
    transport = open_transport(selector)
    site = None
    with tempfile.TemporaryDirectory(prefix="melt-selftest-") as scratch, closing(transport):
        folder = _find_folder(course, transport)
        if folder is not None:
            secrets |= secrets_there(transport)
            try:
                check_link(course, transport, folder, Path(scratch))
                site = _check_device(course, selector, folder, Path(scratch), seconds)
                if site is not None:
                    check_runs(course, selector, Path(scratch))
            finally:
                with suppress(MeltError):
                    transport.run(("rm", "-rf", "--", folder))
    found = Selftest(
        selector=selector,
        melt_version=__version__,
        agent_version=site.target.agent.expected_version if site else None,
        host=f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        started_utc_ns=started_utc_ns,
        device=site.target.facts if site else None,
        steps=tuple(course.steps),
        snapshot={path: raw.decode(errors="backslashreplace") for path, raw in site.snapshot.items()} if site else {},
    )
    return without_secrets(found, secrets)


def _find_folder(course: Course, transport: Transport) -> str | None:
    """See that the device answers, and make a folder for the test below melt's own there."""
    made: list[str] = []

    def answers() -> Finding:
        folder = f"{identify(transport).root(transport)}/selftest/{new_id()}"
        make_folder(transport, folder)
        made.append(folder)
        said = transport.run(("uname", "-a")).stdout.decode(errors="replace").strip()
        return verdict(True, "the device answers, and melt may write there", raw=said)

    course.take("link", "system", answers)
    return made[0] if made else None


def _check_device(course: Course, selector: str, folder: str, scratch: Path, seconds: int) -> Site | None:
    """Take the steps that need the agent, while no other melt measures there; None where it could not be deployed."""
    found: list[Site] = []
    with ExitStack() as held:

        def deployed() -> Finding:
            site = connect(
                selector, say=course.say, claim=lambda facts: held.enter_context(lease(facts.device_id, facts.name))
            )
            held.callback(site.close)
            found.append(site)
            agent = site.target.agent
            bandwidth = site.target.facts.memory_bandwidth_bytes_per_s
            said = f"version {agent.version().agent[:12]} as here; memory {human(bandwidth, 'bytes/s')}"
            figures = {"memory_bandwidth_bytes_per_s": bandwidth}
            return verdict(agent.version().agent == agent.expected_version, said, figures, agent.path)

        course.take("agent", "deployed", deployed)
        if not found:
            return None
        (site,) = found
        began_s = time.monotonic()
        course.found("agent", "facts", _facts(site))
        course.take("agent", "receives files", lambda: _receives(site, folder, scratch))
        course.take("agent", "worker killed", lambda: check_killed_worker(site, f"{folder}/killed", scratch))
        course.take("agent", "link lost in mid-job", lambda: check_lost_link(site, f"{folder}/detached", scratch))
        _check_channels(course, site, folder, scratch, seconds)
        course.take("agent", "clock", lambda: _clock(site, began_s))
        course.take("run", "engine", lambda: check_engine(site))
    return found[0]


def _check_channels(course: Course, site: Site, folder: str, scratch: Path, seconds: int) -> None:
    """Sample everything, and judge what came home."""
    seen: list[Sampled] = []

    def sampled() -> Finding:
        seen.append(sample(site, f"{folder}/channels", scratch, seconds, course.stop))
        whole_s, burst_s = ((span[1] - span[0]) / 1e9 for span in (seen[0].whole, seen[0].burst))
        said = f"{len(seen[0].discovery.streams)} columns for {whole_s:.1f} s, all CPUs busy in {burst_s:.1f} s of them"
        return verdict(True, said, {"whole_s": whole_s, "burst_s": burst_s})

    course.take("channels", "sampling", sampled)
    for one in seen:
        check_channels(course, one)


def _facts(site: Site) -> Finding:
    facts = site.target.facts
    told = to_dict(facts)
    missing = [name for name, value in told.items() if value in (None, [])]
    said = f"{facts.name}, {facts.os_build or facts.os}, {facts.arch}, {len(facts.cpus)} CPUs, "
    said += human(facts.memory_total_bytes, "bytes") + (f"; not told: {', '.join(missing)}" if missing else "")
    fine = bool(facts.cpus) and facts.memory_total_bytes is not None and facts.os_build is not None
    return verdict(
        fine, said, raw="\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in told.items())
    )


def _receives(site: Site, folder: str, scratch: Path) -> Finding:
    """Bring a file the way models go: by content, checked on the device."""
    agent = site.target.agent
    data = os.urandom(_RECEIVED_BYTES)
    sha256, file, there = hashlib.sha256(data).hexdigest(), scratch / "received", f"{folder}/received"
    file.write_bytes(data)
    began = time.monotonic()
    agent.receive(file, there, sha256)
    took_s = time.monotonic() - began
    same = agent.hash((there,)).get(there) == sha256
    room = agent.stored(f"{site.target.root}/{BLOBS}")
    figures = {"bytes_per_s": len(data) / took_s, "free_bytes": float(room.free_bytes)}
    said = f"{len(data) / took_s / 1e6:.3g} MB/s, {human(float(room.free_bytes), 'bytes')} free there"
    return verdict(same, said if same else f"the file arrived changed; {said}", figures)


def _clock(site: Site, began_s: float) -> Finding:
    """Measure the clock again: how uncertain it is, and how far it has run away since."""
    offset_ns, uncertainty_ns = site.target.agent.clock_offset(_CLOCK_TRIPS)
    passed_s = time.monotonic() - began_s
    moved_ns = offset_ns - site.clock_offset_ns
    allowed_ns = _MAX_DRIFT * passed_s * 1e9 + uncertainty_ns + site.clock_uncertainty_ns
    figures = {
        "offset_s": offset_ns / 1e9,
        "uncertainty_s": uncertainty_ns / 1e9,
        "moved_s": moved_ns / 1e9,
        "passed_s": passed_s,
    }
    said = f"known to {uncertainty_ns / 1e6:.3g} ms, moved by {moved_ns / 1e6:.3g} ms in {passed_s:.0f} s"
    known = uncertainty_ns / 1e9 <= Thresholds().clock_uncertainty_s
    return verdict(known and abs(moved_ns) <= allowed_ns, said, figures)
