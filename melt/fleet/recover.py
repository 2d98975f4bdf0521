"""What a dead melt left behind: runs still going on, or finished, on a device, and half-collected journals."""

from __future__ import annotations

from threading import Event

from melt.codec import loads
from melt.errors import DeviceError, TransportError
from melt.events import Note, Observer, RunEnded
from melt.fleet.finish import assemble
from melt.records import RunStart
from melt.session import folder as docs
from melt.session.collect import collect
from melt.session.connect import reach
from melt.session.detach import plug_in_again
from melt.session.execute import clean_up, note_collected
from melt.session.folder import JobSite, read_site
from melt.session.patience import patiently
from melt.session.relink import reach_elsewhere
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
        with folder:
            site = read_site(folder)
            if site is None:
                folder.discard()
                continue
            try:
                published.append(_one(store, folder, site, observe, stop))
            except DeviceError as error:
                observe(Note(f"a run is left on {site.device}, which cannot be reached: {error}", folder.path.name))
    return published


def _one(store: Store, folder: Spool, site: JobSite, observe: Observer, stop: Event) -> RunBundle:

    def say(text: str) -> None:
        observe(Note(text, folder.path.name))

    # Its port may have been cut by the melt that died; after that it takes seconds to be there.
    within_s = _PLUGGED_IN_S if plug_in_again(folder, say) else 0.0
    try:
        device = patiently(lambda: reach(site.device), stop=stop, say=say, within_s=within_s)
    except TransportError:
        start = loads(RunStart, folder.read_document(docs.START) or b"")
        elsewhere = reach_elsewhere(start.device)
        if elsewhere is None:
            raise
        device = elsewhere
    agent = device.agent
    try:
        if folder.read_document(docs.COLLECTED) is None:
            running = agent.status(site.job_dir).state == "running"
            wait = "still going on: waiting for it" if running else "collected"
            observe(Note(f"a run that an earlier melt left on {site.device} is {wait}", folder.path.name))
            collected = collect(agent, site.job_dir, folder.journal_path, see=lambda _: None, stop=stop)
            if (stayed := not_restored(collected, folder)) is not None:
                say(stayed)
            note_collected(folder, collected)
        bundle = assemble(folder)
        store.publish(bundle)
        folder.discard()
        clean_up(device.transport, site.job_dir, say)
    finally:
        device.transport.close()
    observe(RunEnded(bundle))
    return bundle
