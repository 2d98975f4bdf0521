"""What a journal tells while it is still being written: progress, heat and charge for whoever watches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from melt.engines.base import Engine, Generation, Inference
from melt.events import Observer, Reading, RunProgress
from melt.records import RunSpec, Stream, Workload
from melt.telemetry.base import FileSource
from melt.telemetry.journal import Event, Line, Record, Tick
from melt.telemetry.schedule import Schedule

RUNNER_STDOUT = 0
_READING_EVERY_NS = 1_000_000_000
_PLAUSIBLE_C = (1.0, 150.0)
_PHASES = {"runner_started": "load", "runner_exited": "collecting"}
"""The agent's events at which a phase begins."""


class Live:
    """Turns journal records into events. Nothing here enters a result: results come from the whole journal."""

    def __init__(self, spec: RunSpec, engine: Engine, schedule: Schedule, observe: Observer) -> None:
        self._spec = spec
        self._engine = engine
        self._observe = observe
        # A sustained workload counts seconds, every other one requests.
        self._duration_s = spec.workload.duration_s
        self._began_ns: int | None = None
        per_repetition = max(1, len(spec.workload.prompts))
        self._warmups_left = spec.repeat.warmup * per_repetition
        requests = self._warmups_left + spec.repeat.repetitions * per_repetition
        self._total = requests if self._duration_s is None else round(self._duration_s)
        self._done = 0
        self._thermometers = _files(schedule, _is_temperature)
        self._gauges = _files(schedule, _is_charge)
        self._gauge_programs = {
            one.sid: one.source for one in schedule.programs if any(map(_is_charge, one.source.streams))
        }
        self._battery_ratio: float | None = None
        # Where no file has a temperature: of several programs the one that knows most, for a mixture would jump.
        programs = [] if any(self._thermometers.values()) else schedule.programs
        self._program = max(programs, key=lambda one: len(_temperatures(one.source.streams)), default=None)
        self._last_reading_ns = 0

    def see(self, records: Iterable[Record]) -> None:
        """Look at records in the order of the journal."""
        for record in records:
            if isinstance(record, Line) and record.source == RUNNER_STDOUT:
                self._runner_said(record.data)
            elif isinstance(record, Line):
                self._program_said(record)
            elif isinstance(record, Tick):
                self._tick(record)
            elif isinstance(record, Event) and record.name in _PHASES:
                self._say(_PHASES[record.name])

    def _say(self, phase: str, **rates: float | None) -> None:
        self._observe(RunProgress(self._spec.run_id, phase, self._done, self._total, **rates))

    def _runner_said(self, line: bytes) -> None:
        report = self._engine.parse([line])
        rates = {w.phase: w.n_tokens / w.duration_s for w in report.windows if w.n_tokens and w.duration_s > 0}
        if report.generations:
            self._count(report.generations[-1])
            self._say(self._next_phase(), prefill_tps=rates.get("prefill"), decode_tps=rates.get("decode"))
        elif report.inferences:
            self._count_inference(report.inferences[-1])
            self._say(self._next_phase(), inferences_per_s=_rate(report.inferences[-1]))
        elif any(w.phase == "load" for w in report.windows):
            self._say(self._next_phase())

    def _next_phase(self) -> str:
        """Name what the runner does now: it says nothing within a request, only at its end."""
        return "warm-up" if self._warmups_left > 0 else _measured(self._spec.workload)

    def _count(self, generation: Generation) -> None:
        self._warmups_left -= generation.warmup
        if self._duration_s is None:
            self._done += 1
        elif not generation.warmup and generation.token_ns:
            self._began_ns = self._began_ns or generation.submit_ns
            self._done = min(self._total, (generation.token_ns[-1] - self._began_ns) // 1_000_000_000)

    def _count_inference(self, found: Inference) -> None:
        """Count a repetition once, however many lines its requests fill."""
        self._warmups_left = self._spec.repeat.warmup - (found.repetition + 1) if found.warmup else 0
        before = 0 if found.warmup else self._spec.repeat.warmup
        if self._duration_s is None:
            self._done = before + found.repetition + 1
        elif not found.warmup and found.t1_ns:
            self._began_ns = self._began_ns or found.t0_ns[0]
            self._done = min(self._total, (found.t1_ns[-1] - self._began_ns) // 1_000_000_000)

    def _program_said(self, line: Line) -> None:
        gauge = self._gauge_programs.get(line.source)
        if gauge is not None:
            values = gauge.parse(line.data)
            self._charged(line.t_ns, (values[i] for i, stream in enumerate(gauge.streams) if _is_charge(stream)))
        if self._program is not None and line.source == self._program.sid:
            values = self._program.source.parse(line.data)
            self._felt(line.t_ns, (values[i] for i in _temperatures(self._program.source.streams)))

    def _tick(self, tick: Tick) -> None:
        if gauges := self._gauges.get(tick.gid):
            self._charged(tick.t_ns, _values(gauges, tick))
        thermometers = self._thermometers.get(tick.gid)
        if thermometers and self._is_due(tick.t_ns):
            self._felt(tick.t_ns, _values(thermometers, tick))

    def _felt(self, t_ns: int, values: Iterable[float]) -> None:
        """Tell the highest of what thermometers say, once a second."""
        seen = [value for value in values if not math.isnan(value) and _PLAUSIBLE_C[0] < value < _PLAUSIBLE_C[1]]
        if seen and self._is_due(t_ns):
            self._last_reading_ns = t_ns
            self._observe(Reading(self._spec.device, max(seen), self._battery_ratio))

    def _charged(self, t_ns: int, values: Iterable[float]) -> None:
        """Remember the emptiest battery for the next temperature; tell it alone where none will come."""
        self._battery_ratio = min((value for value in values if not math.isnan(value)), default=self._battery_ratio)
        if self._program is None and not any(self._thermometers.values()) and self._is_due(t_ns):
            self._last_reading_ns = t_ns
            self._observe(Reading(self._spec.device, None, self._battery_ratio))

    def _is_due(self, t_ns: int) -> bool:
        return t_ns - self._last_reading_ns >= _READING_EVERY_NS


def _measured(workload: Workload) -> str:
    if workload.kind == "inference":
        return "inference"
    parts = [("prefill", workload.n_prompt or workload.prompts), ("decode", workload.n_gen)]
    return "+".join(phase for phase, asked in parts if asked)


def _rate(found: Inference) -> float | None:
    """Return requests per second, from the first one's beginning to the last one's end."""
    if not found.t1_ns or found.t1_ns[-1] <= found.t0_ns[0]:
        return None
    return len(found.t1_ns) * 1e9 / (found.t1_ns[-1] - found.t0_ns[0])


def _files(schedule: Schedule, wanted: Callable[[Stream], bool]) -> dict[int, list[tuple[int, FileSource]]]:
    """Find the files that hold nothing but what is wanted: by group, with their places in its ticks."""
    return {
        group.gid: [(i, file.source) for i, file in enumerate(group.files) if all(map(wanted, file.source.streams))]
        for group in schedule.groups
    }


def _values(files: Iterable[tuple[int, FileSource]], tick: Tick) -> Iterator[float]:
    for i, source in files:
        raw = tick.contents[i]
        if raw is not None:
            yield from source.parse(raw)


def _temperatures(streams: Sequence[Stream]) -> list[int]:
    return [i for i, stream in enumerate(streams) if _is_temperature(stream)]


def _is_temperature(stream: Stream) -> bool:
    return stream.quantity == "temperature"


def _is_charge(stream: Stream) -> bool:
    """Whether it tells how full a battery of the device itself is; a mouse's has another name."""
    return stream.quantity == "level" and stream.site.lower().startswith("bat")
