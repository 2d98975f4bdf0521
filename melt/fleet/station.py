"""One device's part of a sweep: its runs in order, each until it has an end, every one published before the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from threading import Event, Semaphore

from melt.engines.profile import without_profiler
from melt.engines.registry import get as get_engine
from melt.errors import DeviceError, EngineError, MeltError, TransportError
from melt.events import DeviceSeen, Note, Observer, Preparing, Reading, RunBegan, RunEnded, RunSpared
from melt.fleet.finish import assemble
from melt.fleet.lease import Lease, lease
from melt.fleet.look import health_of
from melt.fleet.recover import recover_left, recover_run
from melt.fleet.refuse import not_run, refusal
from melt.fleet.sessions import Sessions
from melt.fleet.setbacks import Setbacks
from melt.fleet.settled import Settled
from melt.fleet.takeover import take_over
from melt.records import Artifact, DeviceFacts, Outcome, Reason, RunSpec, Sampling, Session
from melt.session.connect import Site, connect, refresh
from melt.session.execute import clean_up, execute
from melt.session.folder import read_site
from melt.session.gate import INTERRUPTED, wait_for_gate
from melt.session.occupied import refuse_if_occupied
from melt.session.patience import patiently, watched
from melt.session.relink import reach_elsewhere
from melt.store.store import Store
from melt.telemetry.platforms import platform
from melt.traces import RunBundle

_AT_THE_DESK = 2
"""One thread computes at a time, another may wait for the disk."""


@dataclass(frozen=True, slots=True)
class Station:
    """Where the runs of a device are made. Several work at once, each on a thread and a device of its own.

    At the `desk` raw bytes become results, a few runs at a time. Devices that began together also end together: if all
    were served at once, all would wait for the last, at every cell anew. In turn, the first is measuring again
    meanwhile and meets nobody the next time; and only a few journals lie in memory.
    """

    store: Store
    artifacts: Mapping[tuple[str, str | None], Artifact]
    observe: Observer
    stop: Event
    desk: Semaphore = field(default_factory=lambda: Semaphore(_AT_THE_DESK))
    settled: Settled = field(default_factory=Settled)
    sessions: dict[str, Sessions] = field(default_factory=dict)

    def work_off(self, device: str, todo: deque[RunSpec], done: list[RunBundle]) -> None:
        """Run what is to be done until nothing is left of it or `stop` is set; add each result to `done`.

        What is left in `todo` when this raises was not measured, or lies in the spool. Raises SetAside where the device
        failed again and again; UsageError, DeviceError, StoreError where trying again is in vain.
        """
        self._bring_home(todo, done)
        if self.stop.is_set() or not todo:
            return

        def note(text: str) -> None:
            self.observe(Note(text, device=device))

        def claim(facts: DeviceFacts) -> None:
            self.observe(DeviceSeen(device, facts))
            if not leases:
                leases.append(held.enter_context(lease(facts.device_id, facts.name)))

        def arrive(found: Site) -> None:
            health = health_of(platform(found.target.facts.os), found.snapshot)
            self.observe(Reading(device, health.hottest_c, health.battery_ratio))
            take_over(found, leases[0].before, note)

        with ExitStack() as held:
            leases: list[Lease] = []
            site = connect(
                device,
                say=lambda text: self.observe(Preparing(text, 0, 0, device)),
                claim=claim,
                take_over=arrive,
                stop=self.stop,
            )
            held.callback(site.close)
            self._say_what_is_missing(site)
            setbacks = Setbacks(device)
            # Before the first run it was looked at just now.
            looked, broke_off = True, False
            while todo and not self.stop.is_set():
                try:
                    bundle = recover_run(self.store, todo[0].run_id, self.observe, self.stop) if broke_off else None
                    if bundle is not None:
                        self._sessions(todo[0], site).rests()
                    else:
                        site = self._free(site, held, look_again=not looked)
                        looked = False
                        leases[0].begin(site.job_dir(todo[0].run_id))
                        bundle = self._one(todo[0], site)
                except DeviceError as error:
                    looked, broke_off = False, True
                    if self.stop.is_set():
                        raise
                    setbacks.trouble(error)
                    self.observe(Note(f"{error}; it is tried again", todo[0].run_id, device))
                    continue
                broke_off = False
                # The samples are in the store, and would fill the memory in a long night.
                done.append(replace(bundle, traces=(), attachments={}))
                self._count(todo.popleft(), bundle, todo)
                setbacks.ended(bundle)

    def _bring_home(self, todo: deque[RunSpec], done: list[RunBundle]) -> None:
        """Collect what an earlier melt began and what was out of reach when this one began.

        Before anything else is done there: who takes a device over ends what goes on, and no run begins twice.
        """
        for spec in [spec for spec in todo if (self.store.layout.spool / spec.run_id).exists()]:
            if self.stop.is_set() or spec not in todo:
                continue
            bundle = recover_left(self.store, spec.run_id, self.observe, self.stop)
            if bundle is not None:
                done.append(replace(bundle, traces=(), attachments={}))
                todo.remove(spec)
                self._count(spec, bundle, todo)

    def _count(self, spec: RunSpec, bundle: RunBundle, todo: deque[RunSpec]) -> None:
        """Count a run that has ended, and take out of `todo` what need not be made after it."""
        self.settled.add(spec, bundle)
        if self.settled.why_spared(spec) is None:
            return
        left, spared = list(todo), self.settled.spared(todo)
        todo.clear()
        for other in left:
            if other.run_id in spared:
                self.observe(RunSpared(other, spared[other.run_id]))
            else:
                todo.append(other)

    def _free(self, site: Site, held: ExitStack, *, look_again: bool) -> Site:
        """Return the device as it is now, at another of its addresses where it is not at this one any more."""

        def look() -> Site:
            try:
                found = refresh(site) if look_again else site
            except TransportError:
                other = reach_elsewhere(site.target.facts)
                if other is None:
                    raise
                held.callback(other.transport.close)
                found = refresh(site.by(other))
            refuse_if_occupied(found)
            return found

        return patiently(
            look,
            stop=self.stop,
            say=lambda text: self.observe(Note(text, device=site.selector)),
            out_of_reach=watched(self.observe, site.selector),
        )

    def _one(self, spec: RunSpec, site: Site) -> RunBundle:
        artifact, sessions = self.artifacts[spec.model, spec.quant], self._sessions(spec, site)
        self.observe(RunBegan(spec))
        bundle = self._without_a_run(spec, artifact, site, sessions.watching(self.observe))
        session = sessions.of(spec, site)
        if bundle is not None:
            bundle = replace(bundle, start=replace(bundle.start, session=session))
            self.store.publish(bundle)
        else:
            bundle = self._run(spec, artifact, site, session)
        self.observe(RunEnded(bundle))
        return bundle

    def _sessions(self, spec: RunSpec, site: Site) -> Sessions:
        """Return the sessions of a device, which may do parts of a sweep one after the other."""
        device_id = site.target.facts.device_id
        if device_id not in self.sessions:
            self.sessions[device_id] = Sessions.known(self.store, spec.sweep_id, device_id)
        return self.sessions[device_id]

    def _without_a_run(self, spec: RunSpec, artifact: Artifact, site: Site, observe: Observer) -> RunBundle | None:
        facts = site.target.facts
        bundle = refusal(spec, artifact, facts)
        if bundle is not None:
            return bundle
        try:
            engine = get_engine(spec.engine).for_device(facts)
            # What an engine cannot do it says here, before anything is brought to the device.
            engine.command(spec, artifact, model_path="", runner_dir="", python="", inputs_path=None)
        except EngineError as error:
            return not_run(
                spec, artifact, facts, Outcome.UNSUPPORTED, Reason(code="unsupported_device", message=str(error))
            )
        why = without_profiler(engine) if spec.profile else None
        if why is not None:
            return not_run(spec, artifact, facts, Outcome.UNSUPPORTED, Reason(code="no_profiler", message=why))
        closed = wait_for_gate(spec.gate, site, observe, self.stop)
        if closed is None:
            return None
        outcome = Outcome.ABORTED if closed.code == INTERRUPTED else Outcome.SKIPPED
        return not_run(spec, artifact, facts, outcome, closed)

    def _run(self, spec: RunSpec, artifact: Artifact, site: Site, session: Session) -> RunBundle:
        engine = get_engine(spec.engine).for_device(site.target.facts)
        with self.store.spool(spec.run_id) as folder:
            try:
                execute(spec, artifact, engine, site, folder, session=session, observe=self.observe, stop=self.stop)
                self._sessions(spec, site).rests()
            except MeltError:
                if read_site(folder) is None:
                    folder.discard()
                raise
            with self.desk:
                bundle = assemble(folder)
                self.store.publish(bundle)
            cleaned = clean_up(
                site.target.transport,
                site.job_dir(spec.run_id),
                self.stop,
                lambda text: self.observe(Note(text, spec.run_id, site.selector)),
            )
            # Last of all: whoever is killed before leaves a note of what lies on the device.
            if cleaned:
                folder.discard()
        return bundle

    def _say_what_is_missing(self, site: Site) -> None:
        for sentence in platform(site.target.facts.os).discover(site.snapshot, Sampling()).missing:
            self.observe(Note(sentence, device=site.selector))
