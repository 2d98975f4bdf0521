"""One run on one device, from the wish to the collected journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from threading import Event

from melt.engines.base import Engine
from melt.errors import DeviceError, TransportError
from melt.events import DeviceSeen, Note, Observer, Preparing
from melt.records import Artifact, RunSpec, Session
from melt.session import folder as docs
from melt.session.collect import Collected, collect
from melt.session.connect import Site
from melt.session.detach import Cut, find_cut, unplugged
from melt.session.folder import RunFolder
from melt.session.live import Live
from melt.session.metering import answer, metered
from melt.session.patience import BOOT_S, patiently, watched
from melt.session.prepare import prepare
from melt.session.relink import Relink
from melt.session.restored import not_restored
from melt.targets.agent import AgentClient
from melt.targets.profiles import lab_profile
from melt.targets.usbpower import is_on
from melt.telemetry.platforms import platform
from melt.transports.base import Transport

_EVIDENCE_BYTES = 8_192
_CLEAN_UP_S = 20.0
"""A link that fell at the end of a run is mostly back by then; nothing waits for what is not."""


def execute(
    spec: RunSpec,
    artifact: Artifact,
    engine: Engine,
    site: Site,
    folder: RunFolder,
    *,
    session: Session | None = None,
    observe: Observer,
    stop: Event,
) -> Collected:
    """Run a cell once, as part of a session, and bring its journal home into `folder`.

    Everything that makes a result of it later is written to `folder` before the runner starts. Raises UsageError,
    DeviceError, TransportError, StoreError; whatever was collected until then stays in `folder`, the run itself on the
    device.
    """

    def say(text: str) -> None:
        observe(Note(text, spec.run_id, site.selector))

    def pushed(done: int, total: int) -> None:
        observe(Preparing(f"pushing {artifact.name}", done, total, site.selector))

    name, selector = site.target.facts.name, site.selector
    out_of_reach = watched(observe, selector)
    observe(DeviceSeen(selector, site.target.facts))
    profile = lab_profile(site.target.facts)
    cut = find_cut(spec.conditions, selector, name, profile)
    if cut is not None:
        # A tool or a hub that is missing is found out before anything starts.
        is_on(cut.power)
    meter = profile.meter if profile else None
    if meter is not None:
        answer(meter)
    ready = patiently(
        lambda: prepare(
            spec, artifact, engine, site, folder, pushed, session=session, metered=meter is not None, say=say
        ),
        stop=stop,
        say=say,
        out_of_reach=out_of_reach,
    )
    agent = site.target.agent
    addresses = profile.addresses if profile else ()
    with metered(meter, folder, agent, say, stop=stop, out_of_reach=out_of_reach):
        # When the link breaks here the run may have begun: collecting finds out.
        with suppress(TransportError):
            agent.start(ready.job_dir)
        live = Live(ready.spec, engine, ready.schedule, observe)
        with (
            closing(Relink(site.target.facts.device_id, (*addresses, selector))) as relink,
            _unplugged(cut, folder, agent, ready.job_dir, say),
        ):
            collected = collect(
                agent,
                ready.job_dir,
                folder.journal_path,
                see=live.see,
                stop=stop,
                lost_after_s=lost_after_s(spec),
                say=say,
                out_of_reach=out_of_reach,
                reconnect=relink if addresses else None,
            )
        if cut is not None:
            # The port has its power again, but a phone takes seconds to be there.
            with suppress(TransportError):
                patiently(lambda: agent.status(ready.job_dir), stop=stop, say=say, out_of_reach=out_of_reach)
    if (stayed := not_restored(collected, folder)) is not None:
        say(stayed)
    _keep_evidence(folder, site, collected)
    note_collected(folder, collected)
    return collected


def lost_after_s(spec: RunSpec) -> float:
    """Return for how many seconds a run may go on out of reach: its timeout, the rests around it, and a boot."""
    rests = spec.sampling
    return spec.settings.timeout_s + rests.baseline_s + max(rests.baseline_s, rests.recovery_s or 0.0) + BOOT_S


@contextmanager
def _unplugged(
    cut: Cut | None, folder: RunFolder, agent: AgentClient, job_dir: str, say: Callable[[str], None]
) -> Iterator[None]:
    """Cut the port; where the hub does not follow, end the run: it would be another one than was asked for."""
    with ExitStack() as held:
        try:
            held.enter_context(unplugged(cut, folder, say))
        except DeviceError:
            with suppress(DeviceError):
                agent.stop(job_dir)
            raise
        yield


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


def clean_up(transport: Transport, job_dir: str, stop: Event, say: Callable[[str], None]) -> bool:
    """Remove a run's folder from the device, once its result is published; say where that cannot be, and return False.

    Who gets False keeps the run's folder here, from which the next melt knows what it has to remove.
    """
    try:
        patiently(lambda: transport.run(["rm", "-rf", "--", job_dir]), stop=stop, within_s=_CLEAN_UP_S)
    except TransportError as error:
        say(f"what the run left on the device is removed by the next melt that finds it: {error}")
        return False
    return True
