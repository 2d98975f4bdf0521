"""Show a sweep on stderr: bars on a terminal, one plain line per thing that happened everywhere else."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from melt.events import Event, Note, Observer, Preparing, Reading, RunBegan, RunEnded, RunProgress
from melt.fleet.conductor import label
from melt.records import Outcome, RunSpec, Verdict
from melt.traces import RunBundle


@contextmanager
def progress(specs: Sequence[RunSpec]) -> Iterator[Observer]:
    """Yield an observer for a sweep of these runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(len(specs)).see
        return
    with _Bars(console, len(specs)) as bars:
        yield bars.see


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


def _name(bundle: RunBundle) -> str:
    spec = bundle.start.spec
    return f"{label(spec)} #{spec.block + 1}"


class _Eta:
    """Time left, from the runs that this process has seen end."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = time.monotonic()
        self._took_s: list[float] = []

    def began(self) -> None:
        self._began = time.monotonic()

    def ended(self) -> None:
        self._took_s.append(time.monotonic() - self._began)

    def text(self) -> str:
        if not self._took_s:
            return ""
        left_s = statistics.mean(self._took_s) * max(0, self._total - len(self._took_s))
        return f"about {int(left_s // 60)}:{int(left_s % 60):02d} left"


class _Lines:
    """For a log: nothing moves, nothing is coloured."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._prepared: set[str] = set()
        self._eta = _Eta(total)

    def see(self, event: Event) -> None:
        if isinstance(event, Note):
            self._print(f"note: {event.text}")
        elif isinstance(event, Preparing) and event.what not in self._prepared:
            self._prepared.add(event.what)
            self._print(event.what)
        elif isinstance(event, RunBegan):
            self._eta.began()
        elif isinstance(event, RunEnded):
            self._eta.ended()
            self._done += 1
            left = self._eta.text() if self._done < self._total else ""
            counted = f"[{self._done}/{self._total}]"
            self._print(
                " ".join(
                    filter(None, (counted, f"{_name(event.bundle)}: {describe(event.bundle)}", left and f"({left})"))
                )
            )

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Bars:
    """For a terminal: a bar for the sweep, one for the run under way, finished runs scroll above them."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._eta = _Eta(total)
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
        self._sweep = self._bars.add_task("sweep", total=total, extra="")
        self._run: TaskID | None = None
        self._work: TaskID | None = None
        self._rate = self._heat = ""

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def see(self, event: Event) -> None:
        match event:
            case Note():
                self._console.print(f"[yellow]note[/] {escape(event.text)}", highlight=False)
            case Preparing():
                self._prepare(event)
            case RunBegan():
                self._drop("_work")
                self._eta.began()
                self._rate = self._heat = ""
                self._run = self._bars.add_task(escape(event.label), total=None, extra="starting")
            case RunProgress():
                rate = event.decode_tps or event.prefill_tps
                self._rate = f"{rate:.1f} tok/s" if rate else self._rate
                if self._run is not None:
                    self._bars.update(
                        self._run, completed=event.done, total=event.total, extra=self._extra(event.phase)
                    )
            case Reading():
                self._heat = f"{event.temperature_c:.0f} °C"
            case RunEnded():
                self._end(event.bundle)

    def _extra(self, phase: str) -> str:
        return "  ".join(filter(None, (phase, self._rate, self._heat)))

    def _prepare(self, event: Preparing) -> None:
        if self._work is None:
            self._work = self._bars.add_task(escape(event.what), total=None, extra="")
        total = event.total or None
        self._bars.update(self._work, description=escape(event.what), total=total, completed=event.done)

    def _end(self, bundle: RunBundle) -> None:
        self._drop("_run")
        self._eta.ended()
        self._bars.update(self._sweep, advance=1, extra=self._eta.text())
        if bundle.stop.outcome is not Outcome.OK:
            mark = "[red]!![/]"
        else:
            mark = "[green]ok[/]" if bundle.stop.verdict is Verdict.VALID else "[yellow]ok[/]"
        self._console.print(f"{mark} {escape(_name(bundle))}: {escape(describe(bundle))}", highlight=False)

    def _drop(self, name: str) -> None:
        task: TaskID | None = getattr(self, name)
        if task is not None:
            self._bars.remove_task(task)
            setattr(self, name, None)
