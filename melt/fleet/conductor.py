"""Conduct a sweep on one device: each cell once per block, every run published before the next one starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

from melt.engines.registry import get as get_engine
from melt.events import Note, Observer, Preparing, RunBegan, RunEnded
from melt.fleet.finish import assemble
from melt.fleet.refuse import refusal
from melt.records import Artifact, RunSpec, Sampling
from melt.session.connect import Site, connect
from melt.session.execute import clean_up, execute
from melt.store.store import Store
from melt.telemetry.platforms import platform
from melt.traces import RunBundle

Resolve = Callable[[str, str | None], Artifact]
"""(model, quant) -> the file to measure, fetched and quantized if need be."""


def conduct(
    specs: Sequence[RunSpec], store: Store, resolve: Resolve, *, observe: Observer, stop: Event
) -> list[RunBundle]:
    """Run the specs in order on their devices and return what was published.

    Stops early when `stop` is set; the run under way is ended in order and published as aborted. Raises DeviceError
    when a device is lost: what it collected stays in the spool. Raises StoreError when nothing can be kept any more.
    """
    artifacts = {key: resolve(*key) for key in dict.fromkeys((s.model, s.quant) for s in specs)}
    done: list[RunBundle] = []
    for device in dict.fromkeys(spec.device for spec in specs):
        if stop.is_set():
            break
        site = connect(device, say=lambda text: observe(Preparing(text, 0, 0)))
        try:
            _say_what_is_missing(site, observe)
            for spec in (s for s in specs if s.device == device):
                if stop.is_set():
                    break
                done.append(_one(spec, artifacts[spec.model, spec.quant], site, store, observe, stop))
        finally:
            site.close()
    return done


def _one(spec: RunSpec, artifact: Artifact, site: Site, store: Store, observe: Observer, stop: Event) -> RunBundle:
    observe(RunBegan(spec, label(spec)))
    bundle = refusal(spec, artifact, site.target.facts)
    if bundle is not None:
        store.publish(bundle)
    else:
        with store.spool(spec.run_id) as folder:
            execute(spec, artifact, get_engine(spec.engine), site, folder, observe=observe, stop=stop)
            bundle = assemble(folder)
            store.publish(bundle)
            folder.discard()
        clean_up(site.target.transport, site.job_dir(spec.run_id))
    observe(RunEnded(bundle))
    return bundle


def label(spec: RunSpec) -> str:
    """Name a run for people: model, quantization, workload."""
    return " ".join(filter(None, (spec.model, spec.quant, spec.workload.name)))


def _say_what_is_missing(site: Site, observe: Observer) -> None:
    for sentence in platform(site.target.facts.os).discover(site.snapshot, Sampling()).missing:
        observe(Note(sentence))
