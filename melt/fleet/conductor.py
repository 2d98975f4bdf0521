"""Conduct a sweep: devices side by side, on each its cells in order, every run published before the next one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Thread

from melt.engines.registry import get as get_engine
from melt.errors import EngineError, MeltError, TransportError
from melt.events import Note, Observer, Preparing, RunBegan, RunEnded
from melt.fleet.finish import assemble
from melt.fleet.lease import lease
from melt.fleet.refuse import not_run, refusal
from melt.records import Artifact, Outcome, Reason, RunSpec, Sampling
from melt.session.connect import Site, connect, refresh
from melt.session.execute import clean_up, execute
from melt.session.folder import read_site
from melt.session.gate import wait_for_gate
from melt.session.occupied import refuse_if_occupied
from melt.session.patience import patiently
from melt.session.relink import reach_elsewhere
from melt.store.store import Store
from melt.telemetry.platforms import platform
from melt.traces import RunBundle

Resolve = Callable[[str, str | None], Artifact]
"""(model, quant) -> the file to measure, fetched and quantized if need be."""

_HERE = "local"


@dataclass(slots=True)
class Conducted:
    """What a sweep came to: what was published, and what ended a device's part of it early."""

    bundles: list[RunBundle] = field(default_factory=list)
    troubles: list[MeltError] = field(default_factory=list)


def conduct(specs: Sequence[RunSpec], store: Store, resolve: Resolve, *, observe: Observer, stop: Event) -> Conducted:
    """Run the specs on their devices, all devices at once, those of a device in order.

    Stops early when `stop` is set; the runs under way are ended in order and published as aborted. A device that is
    lost ends its own part only: what it collected stays in the spool. This machine, if it is among the devices, comes
    last and alone, because looking after the others costs it time that would be missing in its own numbers.
    """
    artifacts = {key: resolve(*key) for key in dict.fromkeys((s.model, s.quant) for s in specs)}
    by_device: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_device.setdefault(spec.device, []).append(spec)
    result = Conducted()
    work = _Work(store, artifacts, observe, stop, result)
    away = [work.of(device, own) for device, own in by_device.items() if device != _HERE]
    here = [work.of(device, own) for device, own in by_device.items() if device == _HERE]
    _side_by_side(away)
    _side_by_side(here)
    return result


@dataclass(frozen=True, slots=True)
class _Work:
    """What the conductors of all devices share."""

    store: Store
    artifacts: Mapping[tuple[str, str | None], Artifact]
    observe: Observer
    stop: Event
    result: Conducted

    def of(self, device: str, specs: Sequence[RunSpec]) -> Callable[[], None]:
        """Return the whole work on one device; an error of melt's ends it and is kept."""

        def work() -> None:
            try:
                self._device(device, specs)
            except MeltError as error:
                self.result.troubles.append(error)

        return work

    def _device(self, device: str, specs: Sequence[RunSpec]) -> None:
        if self.stop.is_set():
            return
        with ExitStack() as held:
            site = connect(
                device,
                say=lambda text: self.observe(Preparing(text, 0, 0, device)),
                claim=lambda facts: held.enter_context(lease(facts.device_id, facts.name)),
            )
            held.callback(site.close)
            _say_what_is_missing(site, self.observe)
            for number, spec in enumerate(specs):
                if self.stop.is_set():
                    return
                # Before the first run it was looked at just now.
                site = self._free(site, held, look_again=number > 0)
                self.result.bundles.append(self._one(spec, site))

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
        )

    def _one(self, spec: RunSpec, site: Site) -> RunBundle:
        artifact = self.artifacts[spec.model, spec.quant]
        self.observe(RunBegan(spec))
        bundle = self._without_a_run(spec, artifact, site)
        if bundle is not None:
            self.store.publish(bundle)
        else:
            bundle = self._run(spec, artifact, site)
        self.observe(RunEnded(bundle))
        return bundle

    def _without_a_run(self, spec: RunSpec, artifact: Artifact, site: Site) -> RunBundle | None:
        facts = site.target.facts
        bundle = refusal(spec, artifact, facts)
        if bundle is not None:
            return bundle
        try:
            get_engine(spec.engine).for_device(facts)
        except EngineError as error:
            return not_run(
                spec, artifact, facts, Outcome.UNSUPPORTED, Reason(code="unsupported_device", message=str(error))
            )
        closed = wait_for_gate(spec.gate, site, self.observe, self.stop)
        return None if closed is None else not_run(spec, artifact, facts, Outcome.SKIPPED, closed)

    def _run(self, spec: RunSpec, artifact: Artifact, site: Site) -> RunBundle:
        engine = get_engine(spec.engine).for_device(site.target.facts)
        with self.store.spool(spec.run_id) as folder:
            try:
                execute(spec, artifact, engine, site, folder, observe=self.observe, stop=self.stop)
            except MeltError:
                if read_site(folder) is None:
                    folder.discard()
                raise
            bundle = assemble(folder)
            self.store.publish(bundle)
            folder.discard()
        clean_up(
            site.target.transport,
            site.job_dir(spec.run_id),
            lambda text: self.observe(Note(text, spec.run_id, site.selector)),
        )
        return bundle


def _side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """Do all at once, one of them on this thread; an error that is no MeltError is a defect and raised at the end."""
    defects: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as defect:  # noqa: BLE001 - raised again on the thread that waits
            defects.append(defect)

    # Daemons: a second Ctrl-C leaves at once, and what goes on on the devices is collected by the next melt.
    threads = [Thread(target=guarded, args=(work,), daemon=True) for work in works[1:]]
    for thread in threads:
        thread.start()
    for work in works[:1]:
        work()
    for thread in threads:
        thread.join()
    if defects:
        raise defects[0]


def _say_what_is_missing(site: Site, observe: Observer) -> None:
    for sentence in platform(site.target.facts.os).discover(site.snapshot, Sampling()).missing:
        observe(Note(sentence, device=site.selector))
