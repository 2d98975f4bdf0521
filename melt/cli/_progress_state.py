"""What is known of a sweep at a moment, made of its events; how it is shown is decided elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

from melt.cli._progress_eta import TimeLeft
from melt.cli._progress_text import clean, describe, duration, title
from melt.events import (
    DeviceDone,
    DeviceSeen,
    Event,
    Note,
    OutOfReach,
    Preparing,
    Reading,
    RunBegan,
    RunEnded,
    RunProgress,
    RunsMoved,
    RunSpared,
    SweepPlanned,
    Waiting,
)
from melt.records import Outcome, RunSpec, Verdict
from melt.traces import RunBundle
from melt.units import counted


class Stage(IntEnum):
    """Where a device is in its part of the sweep."""

    ACTIVE = 0
    WAITING = 1
    DONE = 2


@dataclass(frozen=True, slots=True)
class Phase:
    """What a device does: `kind` is the same as long as it does the same, `words` say it, the longest first."""

    kind: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, *words: str) -> Phase:
        """Return a phase that is what its words say."""
        return cls(words[-1], words)


@dataclass(slots=True)
class Device:
    """A device and its part of the sweep. `done` of `total` runs have ended, `ends` counts how."""

    selector: str
    done: int = 0
    total: int = 0
    stage: Stage = Stage.WAITING
    phase: Phase = field(default_factory=lambda: Phase.of("waiting"))
    before: Phase | None = None
    """What it did when its link broke, None while it answers."""
    name: str | None = None
    running: RunSpec | None = None
    began_s: float = 0.0
    first_s: float | None = None
    last_s: float | None = None
    rate: float | None = None
    """Tokens or inferences a second, as the workload that is running counts."""
    temperature_c: float | None = None
    battery_ratio: float | None = None
    power_mode: str = ""
    ends: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    """So many of its runs are another device's now; they count there."""

    @property
    def took_s(self) -> float | None:
        """How long it was busy, from the first that was heard of it to the last."""
        return None if self.first_s is None or self.last_s is None else self.last_s - self.first_s

    @property
    def ended_early(self) -> bool:
        """Whether its part is over, and others do what is left of it, or nobody."""
        return self.stage is Stage.DONE and (self.done < self.total or self.moved > 0)

    @property
    def failed(self) -> int:
        """How many of its runs came to nothing; that a model does not fit is an answer."""
        return sum(count for end, count in self.ends.items() if end not in _ANSWERS)


_BETWEEN = Phase.of("between runs")
_RUN_AGAIN = frozenset((Outcome.ABORTED, Outcome.DEVICE_LOST))
"""Ends after which `melt resume` runs a cell anew."""
_SPARED = "spared"
_ANSWERS = frozenset((*Verdict, Outcome.OOM, Outcome.UNSUPPORTED, _SPARED))


class SweepState:
    """Folds events into what can be shown. `now_s` is a clock that only goes forward; not to be used by two threads."""

    def __init__(self, now_s: Callable[[], float], history: Mapping[str, float] | None = None) -> None:
        self._now_s = now_s
        self._left = TimeLeft(history or {})
        self._todo: dict[str, tuple[str, str]] = {}
        self._ended: dict[str, str] = {}
        self._may_spare = False
        self.began_s = now_s()
        self.devices: dict[str, Device] = {}
        self.notes: dict[str, list[str]] = {}
        """Sentence -> the devices it was said of, the newest last; each is kept once."""
        self.host: Phase | None = None
        self.models: set[str] = set()
        self.cells: set[tuple[str, str]] = set()
        self.rate_units: set[str] = set()

    @property
    def elapsed_s(self) -> float:
        """How long the sweep lasts already."""
        return self._now_s() - self.began_s

    def see(self, event: Event) -> None:
        """Take note of what happened."""
        match event:
            case Note():
                self.note(event.text, event.device)
            case SweepPlanned():
                self._plan(event)
            case Preparing():
                self._prepare(event)
            case Waiting():
                self._at(event.device, _waiting(event))
            case OutOfReach():
                self._lose(event)
            case RunBegan():
                self._begin(event.spec)
            case DeviceSeen():
                device = self._device(event.device)
                device.name, device.power_mode = clean(event.facts.name), clean(event.facts.power_mode or "")
            case RunProgress():
                self._progress(event)
            case Reading():
                device = self._device(event.device)
                device.phase, device.before = device.before or device.phase, None
                device.temperature_c = event.temperature_c or device.temperature_c
                device.battery_ratio = event.battery_ratio if event.battery_ratio is not None else device.battery_ratio
            case RunEnded():
                self._end(event.bundle)
            case RunSpared():
                self._ends_as(event.spec, _SPARED)
            case RunsMoved():
                self._move(event)
            case DeviceDone():
                self._leave(event.device)

    def note(self, text: str, device: str | None = None) -> None:
        """Keep a sentence, once however many devices it is said of."""
        text, device = clean(text), clean(device or "")
        said_of = self.notes.get(text, [])
        if not said_of or (device and device not in said_of):
            self.notes.pop(text, None)
            self.notes[text] = [*said_of, device]

    def left_s(self, device: Device) -> float | None:
        """Return how long a device is still busy, None where nobody knows."""
        if device.stage is Stage.DONE:
            return 0.0
        running = self._todo.get(device.running.run_id) if device.running else None
        return self._left.left_s(device.selector, running and running[1], self._now_s() - device.began_s)

    def sweep_left_s(self) -> float | None:
        """Return the time until the last device is done. This machine begins when all others have ended."""
        times = {device.selector: self.left_s(device) for device in self.devices.values() if device.total}
        known = {selector: left_s for selector, left_s in times.items() if left_s is not None}
        if not known or len(known) < len(times):
            return None
        return known.pop("local", 0.0) + max(known.values(), default=0.0)

    def sweep_left(self) -> str | None:
        """Write that time, which is all it can be where runs may be spared; None where nobody knows."""
        left_s = self.sweep_left_s()
        return f"{'at most' if self._may_spare else 'about'} {duration(left_s)} left" if left_s else None

    def _plan(self, event: SweepPlanned) -> None:
        self._may_spare = any(spec.repeat.until_ci is not None for spec in event.todo)
        self._todo = {spec.run_id: (spec.device, self._left.plan(spec)) for spec in event.todo}
        self.models = {clean(spec.model) for spec in event.specs}
        self.cells = {cell_of(spec) for spec in event.specs}
        self.rate_units = {rate_unit(spec) for spec in event.specs}
        totals, waiting = (Counter(spec.device for spec in specs) for specs in (event.specs, event.todo))
        for selector, total in totals.items():
            device = self._device(selector)
            device.total, device.done = total, total - waiting[selector]
            if not waiting[selector]:
                device.stage, device.phase = Stage.DONE, Phase.of("done before")

    def _prepare(self, event: Preparing) -> None:
        share = f" {event.done / event.total:.0%}".replace("%", " %") if event.total else ""
        what = clean(event.what)
        phase = Phase(what, (what + share, what.split(" ")[0] + share) if share else (what,))
        if event.device is None:
            self.host = phase
        else:
            self._at(event.device, phase)

    def _lose(self, event: OutOfReach) -> None:
        device = self.devices.get(event.device)
        if device is None:
            return
        before, left = device.before or device.phase, duration(event.left_s)
        words = (f"out of reach, waited for at most {left}", f"out of reach, {left} left", "out of reach")
        self._at(event.device, Phase.of(*words))
        device.before = before

    def _begin(self, spec: RunSpec) -> None:
        self.host = None
        device = self._device(spec.device)
        device.running, device.began_s, device.rate = spec, self._now_s(), None
        self._at(spec.device, Phase.of("starting"))

    def _move(self, event: RunsMoved) -> None:
        """Follow runs to the device that does them now; whatever became of them, they do not count where they were."""
        failed, device = self._device(event.device), self._device(event.to)
        for before, spec in zip(event.instead_of, event.specs, strict=True):
            if (planned := self._todo.pop(before, None)) is not None:
                self._left.drop(*planned)
            else:
                end = self._ended.pop(before, None)
                failed.ends.subtract([] if end is None else [end])
                failed.done -= end not in _RUN_AGAIN
            self._todo[spec.run_id] = (spec.device, self._left.plan(spec))
        failed.ends = +failed.ends
        failed.total -= len(event.specs)
        failed.moved += len(event.specs)
        runs = f"{counted(failed.moved, 'run')} moved"
        failed.phase = Phase.of(f"failed, {runs} to {clean(event.to)}", f"failed, {runs}", "failed")
        device.total += len(event.specs)
        if device.stage is Stage.DONE:
            device.stage, device.phase = Stage.WAITING, Phase.of("waiting")

    def _progress(self, event: RunProgress) -> None:
        device = next((d for d in self.devices.values() if d.running and d.running.run_id == event.run_id), None)
        if device is None or device.running is None:
            return
        device.rate = event.decode_tps or event.prefill_tps or event.inferences_per_s or device.rate
        if event.phase in ("load", "collecting"):
            self._at(device.selector, Phase.of(event.phase))
            return
        seconds = device.running.workload.duration_s is not None
        count = f"{event.done}/{event.total} s" if seconds else f"{min(event.done + 1, event.total)}/{event.total}"
        self._at(device.selector, Phase(event.phase, (f"{event.phase} {count}", event.phase)))

    def _end(self, bundle: RunBundle) -> None:
        spec, stop = bundle.start.spec, bundle.stop
        if stop.outcome is not Outcome.OK or stop.verdict is Verdict.INVALID:
            self.note(f"{title(spec)}: {describe(bundle)}", spec.device)
        measured = stop.outcome is Outcome.OK
        self._ends_as(spec, stop.verdict if measured else stop.outcome, measured=measured)

    def _ends_as(self, spec: RunSpec, end: str, *, measured: bool = False) -> None:
        """Count an end, once however often it is told."""
        planned = self._todo.pop(spec.run_id, None)
        if planned is None:
            return
        device = self._device(planned[0])
        in_view = device.running is not None and device.running.run_id == spec.run_id
        self._left.drop(device.selector, planned[1], self._now_s() - device.began_s if measured and in_view else None)
        device.running = None
        device.done += end not in _RUN_AGAIN
        device.ends[end] += 1
        self._ended[spec.run_id] = end
        self._at(device.selector, _BETWEEN)
        if device.done >= device.total:
            self._leave(device.selector)

    def _leave(self, selector: str) -> None:
        device = self._device(selector)
        if device.done >= device.total:
            device.phase = Phase.of("done")
        elif device.stage is Stage.WAITING:
            device.phase = Phase.of("not begun")
        elif device.stage is Stage.ACTIVE and device.phase is _BETWEEN:
            device.phase = Phase.of("ended early")
        elif device.stage is Stage.ACTIVE:
            at = device.phase.words[0] if device.before is None else device.phase.kind
            device.phase = Phase.of(f"ended at: {at}", "ended early")
        device.stage, device.running, device.rate, device.last_s = Stage.DONE, None, None, self._now_s()

    def _at(self, selector: str, phase: Phase) -> None:
        device = self._device(selector)
        device.stage, device.phase, device.before = Stage.ACTIVE, phase, None
        device.first_s = self._now_s() if device.first_s is None else device.first_s
        device.last_s = self._now_s()

    def _device(self, selector: str) -> Device:
        return self.devices.setdefault(selector, Device(selector))


def cell_of(spec: RunSpec) -> tuple[str, str]:
    """Return what tells a run's cell from others in a table: its model, and the rest of it."""
    return clean(spec.model), clean(f"{spec.quant or ''} {spec.workload.name}")


def rate_unit(spec: RunSpec) -> str:
    """Return what a run's live rate counts, in few letters: tokens, or inferences of a single-shot model."""
    return "inf/s" if spec.workload.kind == "inference" else "tok/s"


def _waiting(event: Waiting) -> Phase:
    now, goal = _pair(event.now, event.goal, event.unit)
    way = f"{now} → {goal}"
    short = f"wait {way}"
    timed = [f"{words} {way}, at most {duration(event.left_s)}" for words in (f"waiting for {event.what}", event.what)]
    timed.append(f"{short}, {duration(event.left_s)} left")
    return Phase(f"waiting for {event.what}", (*timed, short, f"{now}→{goal}"))


def _pair(now: float | None, goal: float, unit: str) -> tuple[str, str]:
    """Write where a value is and where it must get to, with as many digits as tell the two apart."""
    if unit == "1":
        return ("?" if now is None else _yes(now)), _yes(goal)
    scale, symbol = (100.0, "%") if unit == "ratio" else (1.0, {"c": "°C"}.get(unit, unit))
    values = [goal * scale, *([] if now is None else [now * scale])]
    digits = 0 if all(abs(a - b) >= 1 for a, b in pairwise(values)) and values[0] == round(values[0]) else 1
    written = [f"{value:.{digits}f}" for value in values]
    return (written[1] if now is not None else "?"), f"{written[0]} {symbol}"


def _yes(value: float) -> str:
    return "yes" if value else "no"
