"""Conduct a sweep: devices side by side, on each its cells in order, every run published before the next one starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from melt.errors import DeviceError, MeltError
from melt.events import DeviceDone, Note, Observer, RunsMoved
from melt.fleet.setbacks import SetAside, is_setback
from melt.fleet.settled import Settled
from melt.fleet.station import Station
from melt.records import Artifact, RunSpec
from melt.store.store import Store
from melt.traces import RunBundle

Resolve = Callable[[str, str | None], Artifact]
"""(model, quant) -> the file to measure, fetched and quantized if need be."""

_HERE = "local"
_HEAR_EVERY_S = 1.0
"""A Ctrl-C that comes in the moment in which the main thread begins to wait is heard when it has waited."""

Elsewhere = Callable[[str, Sequence[RunSpec], str, Sequence[RunSpec]], RunsMoved | None]
"""(a device that failed, its runs that are left, why, those it lost) -> what an equal device does, None: there is none.
"""


@dataclass(slots=True)
class Conducted:
    """What a sweep came to: what was published, and what ended a device's part of it early.

    `made_good` are those of the troubles after which an equal device did the rest.
    """

    bundles: list[RunBundle] = field(default_factory=list)
    troubles: list[MeltError] = field(default_factory=list)
    made_good: list[MeltError] = field(default_factory=list)


def conduct(
    specs: Sequence[RunSpec],
    store: Store,
    resolve: Resolve,
    *,
    observe: Observer,
    stop: Event,
    elsewhere: Elsewhere = lambda *_: None,
    settled: Settled | None = None,
) -> Conducted:
    """Run the specs on their devices, all devices at once, those of a device in order.

    Stops early when `stop` is set; the runs under way are ended in order and published as aborted. A device that is
    lost ends its own part only: what it collected stays in the spool. One that fails again and again is set aside: what
    it has not run is done by an equal device where `elsewhere` names one, else left for `melt resume`. This machine, if
    it is among the devices, comes last and alone, because looking after the others costs it time that would be missing
    in its own numbers. Where a cell is to be known to some precision, no more of its sessions are run than it takes;
    `settled` knows those that the sweep has already.
    """
    artifacts = {key: resolve(*key) for key in dict.fromkeys((s.model, s.quant) for s in specs)}
    by_device: dict[str, deque[RunSpec]] = {}
    for spec in specs:
        by_device.setdefault(spec.device, deque()).append(spec)
    result = Conducted()
    station = Station(store, artifacts, observe, stop, settled=settled or Settled())
    fleet = _Fleet(station, elsewhere, result)
    _side_by_side([fleet.work(device, todo) for device, todo in by_device.items() if device != _HERE])
    _side_by_side([fleet.work(device, todo) for device, todo in by_device.items() if device == _HERE])
    return result


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What the work on all devices shares. `turns` keep two who have work for a device from being there at once."""

    station: Station
    elsewhere: Elsewhere
    result: Conducted
    turns: dict[str, Lock] = field(default_factory=dict)

    def work(self, device: str, todo: deque[RunSpec]) -> Callable[[], None]:
        """Return the whole work on one device, and on equal ones where it fails; an error of melt's is kept."""

        def work() -> None:
            there, left = device, todo
            while left:
                error = self._try(there, left)
                if error is None:
                    return
                moved = self._next(there, left, error)
                if moved is None:
                    self.result.troubles.append(error)
                    return
                self.result.made_good.append(error)
                self.station.observe(Note(f"what it has not run, or lost, is run by {moved.to}", device=there))
                self.station.observe(moved)
                there, left = moved.to, deque(moved.specs)

        return work

    def _try(self, device: str, todo: deque[RunSpec]) -> MeltError | None:
        observe = self.station.observe
        try:
            with self.turns.setdefault(device, Lock()):
                self.station.work_off(device, todo, self.result.bundles)
        except MeltError as error:
            if isinstance(error, SetAside):
                observe(Note(str(error), device=device))
            return error
        finally:
            observe(DeviceDone(device))
        return None

    def _next(self, device: str, left: deque[RunSpec], error: MeltError) -> RunsMoved | None:
        if self.station.stop.is_set() or not isinstance(error, DeviceError):
            return None
        ended = [bundle for bundle in self.result.bundles if bundle.start.spec.device == device]
        lost = [bundle.start.spec for bundle in ended if is_setback(bundle)]
        lost = [spec for spec in lost if self.station.settled.why_spared(spec) is None]
        return self.elsewhere(device, left, str(error), lost) if left or lost else None


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
        while thread.is_alive():
            thread.join(_HEAR_EVERY_S)
    if defects:
        raise defects[0]
