"""What a dead melt left behind: runs still going on, or finished, on a device, and half-collected journals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from melt.codec import loads
from melt.errors import DeviceError
from melt.events import Note, Observer, RunEnded
from melt.fleet.finish import assemble
from melt.fleet.lease import lease
from melt.records import RunStart
from melt.session import folder as docs
from melt.session.collect import collect
from melt.session.connect import Reached
from melt.session.detach import plug_in_again
from melt.session.execute import clean_up, note_collected
from melt.session.folder import JobSite, read_site
from melt.session.patience import BOOT_S, patiently, watched
from melt.session.relink import reach_elsewhere, reach_same
from melt.session.restored import not_restored
from melt.store.spool import Spool
from melt.store.store import Store
from melt.traces import RunBundle

_PLUGGED_IN_S = 60.0
"""A phone is found within seconds after its port has power again; a slow hub takes longer."""


def recover(store: Store, *, observe: Observer, stop: Event) -> list[RunBundle]:
    """Collect and publish every run in the spool whose owner is gone; return what was published.

    A run that still goes on is waited for: two runs at once on a device would spoil both. What cannot be reached now
    stays where it is, and a sentence says so. A folder in which nothing was started is removed.
    """
    published = []
    for folder in store.leftovers():
        with _begun(folder) as site:
            if site is None:
                continue
            known = store.is_published(folder.run_id)
            try:
                bundle = _left(store, folder, site, observe, stop)
            except DeviceError as error:
                observe(Note(f"a run is left on {site.device}, which cannot be reached: {error}", folder.path.name))
            else:
                published += [bundle] if bundle and not known else []
    return published


def recover_left(store: Store, run_id: str, observe: Observer, stop: Event) -> RunBundle | None:
    """Collect and publish a run that `recover` could not reach; None where nothing lies here that was begun.

    Raises DeviceError, also where another melt measures there; StoreError.
    """
    folder = Spool.take(store.layout.spool / run_id)
    if folder is None:
        return None
    with _begun(folder) as site:
        return None if site is None else _left(store, folder, site, observe, stop)


def recover_run(store: Store, run_id: str, observe: Observer, stop: Event) -> RunBundle | None:
    """Collect and publish the one run with which this melt lost touch; None where nothing of it was started.

    The device is waited for as long as it may take to start anew. Raises TransportError, AgentError, StoreError.
    """
    folder = Spool.take(store.layout.spool / run_id)
    if folder is None:
        return None
    with _begun(folder) as site:
        if site is None:
            return None
        return _one(store, folder, site, observe, stop, left_by="a broken link", within_s=BOOT_S)


@contextmanager
def _begun(folder: Spool) -> Iterator[JobSite | None]:
    """Hold a folder and say where its job lies; one in which nothing was started is removed, for None."""
    with folder:
        site = read_site(folder)
        if site is None:
            folder.discard()
        yield site


def _left(store: Store, folder: Spool, site: JobSite, observe: Observer, stop: Event) -> RunBundle | None:
    """Publish a run of a melt that died. Its device is held meanwhile: another melt would take the run for nobody's."""
    facts = loads(RunStart, folder.read_document(docs.START) or b"").device
    with lease(facts.device_id, facts.name):
        return _one(store, folder, site, observe, stop, left_by="an earlier melt", within_s=0.0)


def _one(
    store: Store, folder: Spool, site: JobSite, observe: Observer, stop: Event, *, left_by: str, within_s: float
) -> RunBundle | None:
    """Publish a run; None where it never began on the device: it is then asked for again as if it were new.

    What is all home needs no device to become a result. The folder goes when nothing of the run lies on the device.
    """

    def say(text: str) -> None:
        observe(Note(text, folder.path.name))

    def reached() -> Reached:
        facts = loads(RunStart, folder.read_document(docs.START) or b"").device
        try:
            # An address may belong to another device by now, which knows nothing of the run.
            return reach_same(site.device, facts.device_id)
        except DeviceError:
            elsewhere = reach_elsewhere(facts)
            if elsewhere is None:
                raise
            return elsewhere

    # Its port may have been cut by the melt that died; after that it takes seconds to be there.
    within_s = max(within_s, _PLUGGED_IN_S if plug_in_again(folder, say) else 0.0)
    bundle = None
    if store.is_published(folder.run_id):
        bundle = store.bundle(folder.run_id)
    elif folder.read_document(docs.COLLECTED) is not None:
        bundle = _publish(store, folder, observe)
    try:
        device = patiently(reached, stop=stop, say=say, out_of_reach=watched(observe, site.device), within_s=within_s)
    except DeviceError as error:
        if bundle is None:
            raise
        say(f"what the run left on {site.device} is removed by the next melt that finds it: {error}")
        return bundle
    agent = device.agent
    try:
        if bundle is None:
            state = agent.status(site.job_dir).state
            if state != "absent" or not _is_empty(folder.journal_path):
                wait = "still going on: waiting for it" if state == "running" else "collected"
                observe(Note(f"a run that {left_by} left on {site.device} is {wait}", folder.run_id))
                collected = collect(agent, site.job_dir, folder.journal_path, see=lambda _: None, stop=stop)
                if (stayed := not_restored(collected, folder)) is not None:
                    say(stayed)
                note_collected(folder, collected)
                bundle = _publish(store, folder, observe)
        # One that never began is begun anew under its name, also where nothing could be removed now.
        if clean_up(device.transport, site.job_dir, stop, say) or bundle is None:
            folder.discard()
    finally:
        device.transport.close()
    return bundle


def _publish(store: Store, folder: Spool, observe: Observer) -> RunBundle:
    bundle = assemble(folder)
    store.publish(bundle)
    observe(RunEnded(bundle))
    return bundle


def _is_empty(journal: Path) -> bool:
    return not journal.exists() or journal.stat().st_size == 0
