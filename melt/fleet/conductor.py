"""Conduct a sweep: devices side by side, on each its cells in order, every run published before the next one starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread

from melt.errors import MeltError
from melt.events import Note, Observer
from melt.fleet.setbacks import SetAside
from melt.fleet.station import Station
from melt.records import Artifact, RunSpec
from melt.store.store import Store
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
    lost ends its own part only: what it collected stays in the spool. One that fails again and again is set aside: what
    it has not run is left for `melt resume`. This machine, if it is among the devices, comes last and alone, because
    looking after the others costs it time that would be missing in its own numbers.
    """
    artifacts = {key: resolve(*key) for key in dict.fromkeys((s.model, s.quant) for s in specs)}
    by_device: dict[str, deque[RunSpec]] = {}
    for spec in specs:
        by_device.setdefault(spec.device, deque()).append(spec)
    result = Conducted()
    station = Station(store, artifacts, observe, stop)

    def work_on(device: str) -> Callable[[], None]:
        """Return the whole work on one device; an error of melt's ends it and is kept."""

        def work() -> None:
            try:
                station.work_off(device, by_device[device], result.bundles)
            except MeltError as error:
                result.troubles.append(error)
                if isinstance(error, SetAside):
                    observe(Note(str(error), device=device))

        return work

    _side_by_side([work_on(device) for device in by_device if device != _HERE])
    _side_by_side([work_on(device) for device in by_device if device == _HERE])
    return result


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
