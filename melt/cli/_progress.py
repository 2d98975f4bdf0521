"""Show a sweep on stderr: bars on a terminal, one plain line per thing that happened everywhere else."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from melt.events import Event, Note, Observer, Preparing, Reading, RunBegan, RunEnded, RunProgress
from melt.records import Outcome, RunSpec, Verdict
from melt.traces import RunBundle


@contextmanager
def progress(specs: Sequence[RunSpec]) -> Iterator[Observer]:
    """Yield an observer for a sweep of these runs; threads may call it."""
    console = Console(stderr=True)
    lock = Lock()
    with ExitStack() as stack:
        view = stack.enter_context(_Bars(console, specs)) if console.is_terminal else _Lines(specs)

        def see(event: Event) -> None:
            with lock:
                view.see(event)

        yield see


def describe(bundle: RunBundle) -> str:
    """Write one line on a finished run: rates where they were measured, else what happened."""
    stop = bundle.stop
    values = {m.name: m.value for m in bundle.metrics if m.repetition is None and m.value is not None}
    parts = []
    if (prefill := values.get("prefill_tps")) is not None:
        parts.append(f"prefill {prefill:.1f} tok/s")
    if (decode := values.get("decode_tps")) is not None:
        parts.append(f"decode {decode:.1f} tok/s")
    if (hottest := values.get("temperature_max_c")) is not None:
        parts.append(f"{hottest:.0f} °C")
    if stop.outcome is not Outcome.OK:
        parts.insert(0, str(stop.outcome))
        parts.extend(reason.message for reason in stop.reasons[:1])
    elif stop.verdict is not Verdict.VALID:
        parts.append(f"{stop.verdict}: {', '.join(reason.code for reason in stop.reasons)}")
    return ", ".join(parts) or str(stop.outcome)


class _Sweep:
    """Names and time left, for one device or many."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self.total = len(specs)
        self.several = len({spec.device for spec in specs}) > 1
        self._left: dict[str, int] = dict(Counter(spec.device for spec in specs))
        self._began: dict[str, float] = {}
        self._took_s: dict[str, list[float]] = {}

    def name(self, spec: RunSpec) -> str:
        """Name a run; the device only where there are several."""
        return f"{self._at(spec.device)}{spec.label} #{spec.block + 1}"

    def about(self, device: str | None, text: str) -> str:
        """Say of which device a sentence is."""
        return f"{self._at(device)}{text}" if device else text

    def _at(self, device: str | None) -> str:
        return f"{device}: " if self.several else ""

    def began(self, spec: RunSpec) -> None:
        self._began[spec.run_id] = time.monotonic()

    def ended(self, spec: RunSpec) -> None:
        took_s = time.monotonic() - self._began.pop(spec.run_id, time.monotonic())
        self._took_s.setdefault(spec.device, []).append(took_s)
        self._left[spec.device] = self._left.get(spec.device, 1) - 1

    def time_left(self) -> str:
        """Return the time until the last device is done, from the runs that this process has seen end."""
        if not self._took_s:
            return ""
        typical_s = statistics.mean(t for times in self._took_s.values() for t in times)
        left_s = max(
            left * (statistics.mean(self._took_s[device]) if device in self._took_s else typical_s)
            for device, left in self._left.items()
        )
        return f"about {int(left_s // 60)}:{int(left_s % 60):02d} left"


class _Lines:
    """For a log: nothing moves, nothing is coloured."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._sweep = _Sweep(specs)
        self._done = 0
        self._prepared: set[tuple[str | None, str]] = set()

    def see(self, event: Event) -> None:
        if isinstance(event, Note):
            self._print(f"note: {self._sweep.about(event.device, event.text)}")
        elif isinstance(event, Preparing) and (event.device, event.what) not in self._prepared:
            self._prepared.add((event.device, event.what))
            self._print(self._sweep.about(event.device, event.what))
        elif isinstance(event, RunBegan):
            self._sweep.began(event.spec)
        elif isinstance(event, RunEnded):
            spec = event.bundle.start.spec
            self._sweep.ended(spec)
            self._done += 1
            left = self._sweep.time_left() if self._done < self._sweep.total else ""
            counted = f"[{self._done}/{self._sweep.total}]"
            said = f"{self._sweep.name(spec)}: {describe(event.bundle)}"
            self._print(" ".join(filter(None, (counted, said, left and f"({left})"))))

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@dataclass
class _Bar:
    """A run under way."""

    task: TaskID
    device: str
    rate: str = ""
    heat: str = ""

    def extra(self, phase: str) -> str:
        return "  ".join(filter(None, (phase, self.rate, self.heat)))


class _Bars:
    """For a terminal: a bar for the sweep, one for each run under way, finished runs scroll above them."""

    def __init__(self, console: Console, specs: Sequence[RunSpec]) -> None:
        self._console = console
        self._sweep = _Sweep(specs)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[extra]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._all = self._bars.add_task("sweep", total=len(specs), extra="")
        self._runs: dict[str, _Bar] = {}
        self._work: dict[str | None, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def see(self, event: Event) -> None:
        match event:
            case Note():
                text = self._sweep.about(event.device, event.text)
                self._console.print(f"[yellow]note[/] {escape(text)}", highlight=False)
            case Preparing():
                self._prepare(event)
            case RunBegan():
                self._done_preparing(None)
                self._done_preparing(event.spec.device)
                self._sweep.began(event.spec)
                task = self._bars.add_task(escape(self._sweep.name(event.spec)), total=None, extra="starting")
                self._runs[event.spec.run_id] = _Bar(task, event.spec.device)
            case RunProgress():
                self._progress(event)
            case Reading():
                for bar in self._runs.values():
                    if bar.device == event.device and event.temperature_c is not None:
                        bar.heat = f"{event.temperature_c:.0f} °C"
            case RunEnded():
                self._end(event.bundle)

    def _progress(self, event: RunProgress) -> None:
        bar = self._runs.get(event.run_id)
        if bar is None:
            return
        self._done_preparing(bar.device)
        rate = event.decode_tps or event.prefill_tps
        bar.rate = f"{rate:.1f} tok/s" if rate else bar.rate
        self._bars.update(bar.task, completed=event.done, total=event.total, extra=bar.extra(event.phase))

    def _prepare(self, event: Preparing) -> None:
        what = escape(self._sweep.about(event.device, event.what))
        if event.device not in self._work:
            self._work[event.device] = self._bars.add_task(what, total=None, extra="")
        total = event.total or None
        self._bars.update(self._work[event.device], description=what, total=total, completed=event.done)

    def _done_preparing(self, device: str | None) -> None:
        task = self._work.pop(device, None)
        if task is not None:
            self._bars.remove_task(task)

    def _end(self, bundle: RunBundle) -> None:
        spec = bundle.start.spec
        self._sweep.ended(spec)
        self._done_preparing(spec.device)
        bar = self._runs.pop(spec.run_id, None)
        if bar is not None:
            self._bars.remove_task(bar.task)
        self._bars.update(self._all, advance=1, extra=self._sweep.time_left())
        if bundle.stop.outcome is not Outcome.OK:
            mark = "[red]!![/]"
        else:
            mark = "[green]ok[/]" if bundle.stop.verdict is Verdict.VALID else "[yellow]ok[/]"
        said = f"{self._sweep.name(spec)}: {describe(bundle)}"
        self._console.print(f"{mark} {escape(said)}", highlight=False)
